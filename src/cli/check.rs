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
    let input = match args.config {
        Some(path) => Input::File(path),
        None => Input::Folder(PathBuf::from(".")),
    };
    let examined = config::examine(&input, &|name| std::env::var(name).ok());
    let printed = match args.format {
        Format::Human => print_human(&examined, args.print_effective),
        Format::Json => print_json(&examined, args.print_effective),
    };
    match printed {
        Err(_) => ExitCode::FAILURE,
        Ok(()) if examined.config.is_none() => ExitCode::from(BAD_CONFIG),
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn print_human(examined: &Examined, print_effective: bool) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{}", examined.report)?;
    let count = |severity, word: &str| match examined.report.count(severity) {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    let (errors, warnings) = (
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
    );
    match &examined.config {
        Some(config) => {
            let services = config.services.len();
            let noun = if services == 1 { "service" } else { "services" };
            writeln!(stderr, "ok: {services} {noun}, {warnings}")?;
        }
        None => writeln!(stderr, "not ok: {errors}, {warnings}")?,
    }
    if let Some(effective) = examined.effective().filter(|_| print_effective) {
        let yaml = serde_yaml::to_string(effective).map_err(io::Error::other)?;
        io::stdout().lock().write_all(yaml.as_bytes())?;
    }
    Ok(())
}

fn print_json(examined: &Examined, print_effective: bool) -> io::Result<()> {
    let mut document = examined.report.to_json();
    if let (Some(object), true) = (document.as_object_mut(), print_effective) {
        object.insert(
            "effective".to_owned(),
            examined.effective().cloned().unwrap_or(Value::Null),
        );
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{document:#}")?;
    stdout.flush()
}
