//! The program: finds out which of its parts it is to be, and becomes it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let own_name = args.next();
    let first = args.next();
    match first.as_ref().and_then(|first| first.to_str()) {
        // Both before anything else: a guard must stay tiny, and a sidecar reads its own arguments.
        Some("guard") => mcp_sidecar::stdio::guard::guard_main(args),
        Some("sidecar") => mcp_sidecar::cli::run(args),
        _ => mcp_edge::cli::main(own_name.into_iter().chain(first).chain(args)),
    }
}
