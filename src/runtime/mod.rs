//! What starts the sidecars behind the endpoints, watches them and stops them.
//!
//! A [`Runtime`] is mechanism: it starts one replica of a service and then tells what becomes of it. All policy (how many
//! start at once, when a dead one is started again, when all stop) is in `supervisor` and `keeper`, once for every runtime.

mod control;
mod environment;
mod fixed;
mod keeper;
mod output;
mod process;
mod rundir;
mod spawner;
mod supervisor;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use process::SidecarProgram;
pub use supervisor::{Options, Supervisor};

use crate::config::Service;
use crate::upstream::{EndpointAddr, EndpointSpec};

/// Starts replicas of services.
#[async_trait]
pub(crate) trait Runtime: Send + Sync {
    /// Whether a start loads this machine, so that only a few may be under way at once.
    fn start_is_costly(&self) -> bool;

    /// Begins to start replica number `replica` of `service`. It may be long until it has an endpoint: that, and every
    /// later failure, is a [`Change`] of the replica.
    async fn start(&self, service: &Arc<Service>, replica: u32) -> Result<Box<dyn Replica>, StartError>;
}

/// One replica that has been started. Dropping it ends it without grace.
#[async_trait]
pub(crate) trait Replica: Send {
    /// What happens next, however long that takes. Cancel safe: a change is reported by a later call if this one is
    /// dropped.
    async fn change(&mut self) -> Change;

    /// Ends it: asks it to leave, and ends it by force if it has not left after `grace`.
    async fn stop(self: Box<Self>, grace: Duration);
}

/// What can become of a replica.
#[derive(Debug)]
pub(crate) enum Change {
    /// An address serves from now on.
    Up(EndpointSpec),
    /// An address of its does not any more.
    Down(EndpointAddr),
    /// It has nothing to offer at the moment, and goes on trying by itself.
    Failed(String),
    /// It has ended; nothing follows.
    Ended(Failure),
}

/// Why a replica is not there.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For the operator: what, where, and what to do.
    pub(crate) reason: String,
    /// Its last lines on stderr.
    pub(crate) stderr: Vec<String>,
}

/// Why a replica could not even begin to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot use {path} for the sockets of sidecars: {source}; check `edge.state_dir`")]
    RunDir { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} belongs to somebody else or is open to others; remove it, or use a shorter `edge.state_dir`"
    )]
    RunDirNotPrivate { path: PathBuf },
    #[error("no directory is short enough for a socket (107 bytes); use a shorter `edge.state_dir`")]
    RunDirTooLong,
    #[error("port {port} on 127.0.0.1 cannot be used: {source}; free it, or change the service's `port`")]
    PortBusy { port: u16, source: std::io::Error },
    #[error("cannot start {program}: {source}")]
    Spawn {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("the system gives no random numbers for a token: {0}")]
    NoRandom(getrandom::Error),
    #[error("this runtime has no such replica")]
    WrongRuntime,
    #[error("the thread that starts sidecars has ended")]
    SpawnerGone,
}
