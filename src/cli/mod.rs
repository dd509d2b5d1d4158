//! The command line: one file per command.

pub mod greeting;
pub mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// One address in front of all your MCP servers.
#[derive(Parser)]
#[command(name = "mcp-edge", version, args_conflicts_with_subcommands = true)]
struct Cli {
}

/// Reads the arguments and does what they say. Exit codes: 0 ok, 1 failure, 2 configuration or usage.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let _ = Cli::parse_from(args);
    ExitCode::SUCCESS
}
