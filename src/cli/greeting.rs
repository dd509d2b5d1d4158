//! What a person sees who started the edge: where each service is, and the line that connects a client.
//!
//! Printed once, when every service has its first verdict, so that a URL is never shown before it works or the
//! reason is known why it does not. Goes to standard error: standard output is the access log.

use std::fmt::Write;
use std::sync::Arc;

use crate::config::{Config, Source};
use crate::proxy::Shared;
use crate::shutdown::Stage;
use crate::upstream::PoolState;

/// Waits for the first verdicts and prints.
pub(super) async fn when_ready(shared: Arc<Shared>, config: Arc<Config>) {
    shared.shutdown.reached(Stage::Serving).await;
    let pools = shared.state.load().pools.clone();
    for pool in pools.iter() {
        pool.settled().await;
    }
    let rows = pools.iter().map(|pool| {
        let status = pool.status();
        Row {
            name: status.name.to_string(),
            state: status.state,
            reason: status.reason,
        }
    });
    eprint!("{}", text(&config, &rows.collect::<Vec<_>>()));
}

struct Row {
    name: String,
    state: PoolState,
    reason: Option<String>,
}

fn text(config: &Config, rows: &[Row]) -> String {
    let base = base_url(config);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let source = match &config.source {
        Source::File(path) => format!("configuration {}", path.display()),
        Source::McpJson(path) => format!("servers from {}", path.display()),
        Source::Demo => "no configuration and no .mcp.json here: serving the built-in demo server".to_owned(),
    };
    writeln!(out, "\nmcp-edge {} · {source}", env!("CARGO_PKG_VERSION")).ok();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in rows {
        let Row { name, state, reason } = row;
        write!(out, "  {name:width$}  {:9}  {base}/mcp/{name}", state.as_str()).ok();
        match reason {
            Some(reason) if *state != PoolState::Healthy => writeln!(out, "  {reason}").ok(),
            _ => writeln!(out).ok(),
        };
    }
    writeln!(
        out,
        "  health and metrics: http://{}/health, /ready, /metrics",
        config.edge.health
    )
    .ok();
    if let Some(row) = rows.iter().find(|row| row.state == PoolState::Healthy) {
        connect(&mut out, &base, &row.name, config.auth.anonymous.is_some());
    }
    out
}

fn connect(out: &mut String, base: &str, name: &str, anonymous: bool) {
    let url = format!("{base}/mcp/{name}");
    let (claude, codex) = if anonymous {
        ("", "")
    } else {
        (
            " --header \"Authorization: Bearer $MCP_EDGE_TOKEN\"",
            " --bearer-token-env-var MCP_EDGE_TOKEN",
        )
    };
    writeln!(
        out,
        "  Claude Code:  claude mcp add --transport http {name} {url}{claude}"
    )
    .ok();
    writeln!(out, "  Codex:        codex mcp add {name} --url {url}{codex}").ok();
    if !anonymous {
        writeln!(
            out,
            "  a token:      export MCP_EDGE_TOKEN=$(mcp-edge token mint --client me)"
        )
        .ok();
    }
    writeln!(out).ok();
}

/// What clients put before `/mcp/…`: the configured public URL, else the listener's own.
fn base_url(config: &Config) -> String {
    if let Some(url) = &config.edge.public_url {
        return url.clone();
    }
    let scheme = if config.edge.tls.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}", config.edge.listen)
}
