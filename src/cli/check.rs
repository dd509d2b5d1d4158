//! `mcp-edge check`: everything that is wrong with a configuration, without starting anything.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::config::{self, Examined, Input, Severity};

/// Exit code of a configuration that the edge would not start with.
const BAD_CONFIG: u8 = 2;

/// Check a configuration and print everything that is wrong with it.
///
/// Findings go to stderr, one run reports all of them. Exit code 0: the edge would start; 2: it would not.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  mcp-edge check -c conf/edge.yaml\n  mcp-edge check -c conf/edge.yaml --print-effective > effective.yaml"
)]
pub struct CheckArgs {
    /// The configuration file; without it, what `mcp-edge` alone would serve: ./.mcp.json, or the demo server.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How findings are printed; json goes to stdout, as one document.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Print the configuration in force, every default written out, secrets redacted.
    #[arg(long)]
    pub print_effective: bool,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text with the source line and a caret.
    Human,
    /// One JSON object.
    Json,
}

/// Runs the command.
pub fn run(args: CheckArgs) -> ExitCode {
    let variables = |name: &str| std::env::var(name).ok();
    match execute(
        &args,
        &variables,
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    ) {
        Ok(code) => ExitCode::from(code),
        // The reader is gone; there is nobody to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The command with everything it touches handed in; returns the exit code.
///
/// # Errors
/// What writing to `stdout` or `stderr` says.
pub fn execute(
    args: &CheckArgs,
    variables: &dyn Fn(&str) -> Option<String>,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<u8> {
    let input = match &args.config {
        Some(path) => Input::File(path.clone()),
        None => Input::Folder(PathBuf::from(".")),
    };
    let examined = config::examine(&input, variables);
    match args.format {
        Format::Human => {
            print_findings(&examined, stderr)?;
            if let Some(effective) = examined.effective().filter(|_| args.print_effective) {
                let yaml = serde_yaml::to_string(effective).map_err(io::Error::other)?;
                stdout.write_all(yaml.as_bytes())?;
            }
        }
        Format::Json => print_json(&examined, args.print_effective, stdout)?,
    }
    stdout.flush()?;
    Ok(if examined.config.is_some() { 0 } else { BAD_CONFIG })
}

fn print_findings(examined: &Examined, stderr: &mut dyn Write) -> io::Result<()> {
    write!(stderr, "{}", examined.report)?;
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let warnings = count(examined.report.count(Severity::Warning), "warning");
    match &examined.config {
        Some(config) => writeln!(
            stderr,
            "ok: {}, {warnings}",
            count(config.services.len(), "service")
        ),
        None => writeln!(
            stderr,
            "not ok: {}, {warnings}",
            count(examined.report.count(Severity::Error), "error")
        ),
    }
}

fn print_json(examined: &Examined, print_effective: bool, stdout: &mut dyn Write) -> io::Result<()> {
    let mut document = examined.report.to_json();
    if let (Some(object), true) = (document.as_object_mut(), print_effective) {
        object.insert(
            "effective".to_owned(),
            examined.effective().cloned().unwrap_or(Value::Null),
        );
    }
    writeln!(stdout, "{document:#}")
}
