//! The command line: one file per command. Exit codes everywhere: 0 ok, 1 failure, 2 configuration or usage.

pub mod check;
mod greeting;
mod logging;
pub mod run;
pub mod schema;
mod serve;
pub mod token;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Input;

/// One HTTP address in front of all your MCP servers.
///
/// Without a command it runs: with the file of `-c`, else with the servers of ./.mcp.json, else with a demo server.
#[derive(Parser)]
#[command(name = "mcp-edge", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default command)
    Run(run::RunArgs),
    /// Find every mistake of a configuration file
    Check(check::CheckArgs),
    /// Print the configuration's JSON Schema
    Schema(schema::SchemaArgs),
    /// Make a client's token, or find out why one is refused
    Token(token::TokenArgs),
    /// Be an MCP server on standard input and output: echo, add, slow, big, crash
    Demo,
    /// Translate one stdio MCP server to HTTP: mcp-edge sidecar --help
    #[command(disable_help_flag = true)]
    Sidecar {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Where a command finds its configuration: the named file, else what lies in the working directory.
fn input(file: Option<PathBuf>) -> Input {
    file.map_or_else(|| Input::Folder(PathBuf::from(".")), Input::File)
}

/// Reads the arguments and does what they say.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(args);
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Token(args) => token::run(args),
        Command::Demo => match crate::demo::serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("mcp-edge demo: reading standard input failed: {error}");
                ExitCode::FAILURE
            }
        },
        // `main.rs` takes it before; this one is here for the help text.
        Command::Sidecar { args } => mcp_sidecar::cli::run(args.into_iter()),
    }
}
