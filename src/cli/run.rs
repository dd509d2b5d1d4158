//! `mcp-edge run`, and `mcp-edge` alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{logging, serve};
use crate::config::{self, Config};

/// How to serve.
#[derive(Args)]
pub struct RunArgs {
    /// The configuration file; a missing one is an error
    #[arg(short, long, env = "MCP_EDGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here instead of edge.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Tell health and metrics here instead of edge.health
    #[arg(long, value_name = "ADDRESS:PORT")]
    health: Option<SocketAddr>,
}

/// Serves until a signal.
#[must_use]
pub fn run(args: RunArgs) -> ExitCode {
    logging::start();
    let mut config = match load(&args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Some(listen) = args.listen {
        config.edge.listen = listen;
    }
    if let Some(health) = args.health {
        config.edge.health = health;
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match serve::serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcp-edge: {error}");
            ExitCode::from(2)
        }
    }
}

/// Finds the configuration; prints everything that is wrong with it and gives the exit code if it cannot be served.
fn load(args: &RunArgs) -> Result<Config, ExitCode> {
    let input = super::input(args.config.clone());
    config::load(&input).map_err(|report| {
        eprint!("{report}");
        ExitCode::from(2)
    })
}
