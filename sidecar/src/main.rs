//! The separate binary of the translator.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "guard") {
        return mcp_sidecar::stdio::guard_main(args);
    }
    ExitCode::from(2)
}
