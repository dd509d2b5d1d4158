//! The thread that starts sidecars.
//!
//! A sidecar asks the kernel for a signal when its parent dies (`PR_SET_PDEATHSIG`). The kernel takes "parent" to be the
//! *thread* that forked it, so a sidecar forked by a worker of an async runtime dies with that worker, long before the
//! edge. Invariant: one thread forks them all, and it lives as long as anybody holds its [`Spawner`], as every running
//! replica does.

use std::sync::Arc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::StartError;

/// Requests that may wait; the supervisor starts only a few at once anyway.
const QUEUE: usize = 32;

struct Request {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<std::io::Result<Child>>,
}

/// A handle on the thread; it ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Spawner(Arc<mpsc::Sender<Request>>);

impl Spawner {
    pub(super) fn new() -> std::io::Result<Self> {
        let (requests, mut queue) = mpsc::channel::<Request>(QUEUE);
        std::thread::Builder::new()
            .name("sidecar-spawner".into())
            .spawn(move || {
                while let Some(Request {
                    mut command,
                    runtime,
                    reply,
                }) = queue.blocking_recv()
                {
                    // The child's pipes and its end are watched by the asker's runtime.
                    let _inside = runtime.enter();
                    // An asker that has left drops the child with the reply, which kills it.
                    let _ = reply.send(command.spawn());
                }
            })?;
        Ok(Self(Arc::new(requests)))
    }

    /// Starts `command`. Call from within a runtime with I/O enabled.
    pub(super) async fn spawn(&self, command: Command) -> Result<Child, StartError> {
        let program = command.as_std().get_program().into();
        let (reply, answer) = oneshot::channel();
        let request = Request {
            command,
            runtime: Handle::current(),
            reply,
        };
        self.0.send(request).await.map_err(|_| StartError::SpawnerGone)?;
        let child = answer.await.map_err(|_| StartError::SpawnerGone)?;
        child.map_err(|source| StartError::Spawn { program, source })
    }
}
