//! `mcp-edge schema`: the shape of the configuration, for editors and for people.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use crate::config;

/// Print the JSON Schema of the configuration file.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  mcp-edge schema > edge.schema.json\n  mcp-edge schema --markdown > docs/configuration.md"
)]
pub struct SchemaArgs {
    /// Print the manual page instead, as Markdown.
    #[arg(long)]
    pub markdown: bool,
}

/// Runs the command.
pub fn run(args: SchemaArgs) -> ExitCode {
    let text = if args.markdown {
        config::manual()
    } else {
        format!("{:#}\n", config::json_schema())
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
