//! The edge's own log, on standard error: JSON lines, or text when a person is looking.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged where `RUST_LOG` says nothing. `server.stderr` is what the MCP servers say.
const DEFAULT: &str = "warn,mcp_edge=info,mcp_edge_filters=info,mcp_sidecar=info,server.stderr=info";

/// Starts logging. `RUST_LOG` says what is logged.
pub(super) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start, which only a test could ask for, keeps the first one's settings.
    if std::io::stderr().is_terminal() {
        builder.with_target(false).try_init().ok();
    } else {
        builder.json().try_init().ok();
    }
}
