//! The translator alone, without the proxy: what is put into a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|first| first == "guard") {
        args.next();
        return mcp_sidecar::stdio::guard::guard_main(args);
    }
    mcp_sidecar::cli::run(args)
}
