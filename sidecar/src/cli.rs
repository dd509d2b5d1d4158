//! The command line of the sidecar, the same for `mcp-sidecar …` and `mcp-edge sidecar …`.
//!
//! Invariant: nothing secret is an argument or a variable. The token comes from a file that only its owner reads, or
//! with the server's environment as the first line of standard input, which afterwards is the edge's lifeline.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Deserialize;

use crate::processes::{Isolation, Settings};
use crate::serve::{self, Bind, Plan};
use crate::stdio::{ProcessLimits, ServerCommand};

/// Comments on silent streams must come before any proxy on the way gives up.
const MAX_KEEPALIVE: Duration = Duration::from_secs(25);
const MIN_TOKEN: usize = 32;
const MAX_CONTROL_LINE: u64 = 1 << 20;

/// Puts one stdio MCP server behind HTTP.
#[derive(Parser)]
#[command(name = "mcp-sidecar", version)]
struct Args {
    /// Listen on this address; port 0 is the system's choice
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8080",
        conflicts_with = "uds"
    )]
    listen: SocketAddr,
    /// Listen on this Unix socket instead
    #[arg(long, value_name = "PATH")]
    uds: Option<PathBuf>,
    /// The service's name, for health and logs
    #[arg(long, default_value = "server")]
    service: String,
    /// Name of this incarnation, the first part of its session ids
    #[arg(long, value_parser = endpoint_id)]
    endpoint: Option<String>,
    /// Read {"token": …, "env": {…}} as the first line of standard input, and stop when it ends
    #[arg(long, conflicts_with = "token_file")]
    control_stdin: bool,
    /// Ask for the bearer token in this file, which only its owner may read
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// Who may share a server process
    #[arg(long, value_enum, default_value = "client")]
    isolation: IsolationArg,
    /// Server processes at most
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_processes: u32,
    /// Stop processes, and end sessions, that were not used for this long; or never
    #[arg(long, default_value = "10m", value_parser = idle_stop)]
    idle_stop: IdleStop,
    /// How long the server may take to start
    #[arg(long, default_value = "30s", value_parser = duration)]
    start_timeout: Duration,
    /// Longest line of the server, in bytes
    #[arg(long, default_value = "16MiB", value_parser = size)]
    max_line: usize,
    /// Largest request body, in bytes
    #[arg(long, default_value = "16MiB", value_parser = size)]
    max_body: usize,
    /// A Host to answer to beside this machine's own (without a token)
    #[arg(long = "allowed-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,
    /// An Origin to let in beside this machine's own (without a token)
    #[arg(long = "allowed-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
    /// The server's working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Send a comment on a stream that was silent for this long; at most 25s
    #[arg(long, default_value = "15s", value_parser = duration)]
    keepalive: Duration,
    /// The MCP server: program and arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum IsolationArg {
    Client,
    Shared,
}

/// Why the sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("--listen {0}: without a token only a loopback address is served; add --token-file")]
    Open(SocketAddr),
    #[error("--keepalive: at most 25s, or a proxy on the way may cut a silent stream")]
    Keepalive,
    #[error("--token-file {path}: {source}")]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("--token-file {0}: others can read it; run `chmod 400 {0}`")]
    TokenFileOpen(PathBuf),
    #[error("the token has less than 32 characters")]
    ShortToken,
    #[error("--control-stdin: the first line is not {{\"token\": …, \"env\": {{…}}}}: {0}")]
    Control(io::Error),
    #[error("{0} cannot be listened on: {1}")]
    Listen(String, io::Error),
    #[error("the process could not be set up: {0}")]
    System(#[from] io::Error),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The first line on standard input.
#[derive(Deserialize)]
struct Control {
    token: String,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
}

/// Runs the sidecar with these arguments (without the program's name); returns its exit code.
#[must_use]
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = Args::parse_from(std::iter::once(OsString::from("mcp-sidecar")).chain(args));
    log();
    match plan(args).and_then(serve::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(2)
        }
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A second start, which only a test could ask for, keeps the first one's settings.
    if io::stderr().is_terminal() {
        builder.with_target(false).try_init().ok();
    } else {
        builder.json().flatten_event(true).try_init().ok();
    }
}

fn plan(args: Args) -> Result<Plan, StartError> {
    if args.keepalive > MAX_KEEPALIVE || args.keepalive.is_zero() {
        return Err(StartError::Keepalive);
    }
    let (mut token, mut env) = (None, Vec::new());
    if args.control_stdin {
        let control = read_control()?;
        token = Some(control.token);
        env.extend(control.env);
    } else if let Some(path) = &args.token_file {
        token = Some(read_token(path)?);
    }
    if token.as_ref().is_some_and(|token| token.len() < MIN_TOKEN) {
        return Err(StartError::ShortToken);
    }
    let bind = match args.uds {
        Some(path) => Bind::Unix(path),
        None if token.is_none() && !args.listen.ip().is_loopback() => {
            return Err(StartError::Open(args.listen));
        }
        None => Bind::Tcp(args.listen),
    };
    let mut words = args.command.into_iter();
    let command = ServerCommand {
        program: words.next().unwrap_or_default(),
        args: words.collect(),
        env,
        cwd: args.cwd,
    };
    let settings = Settings {
        command,
        limits: ProcessLimits {
            max_line: args.max_line,
            ..ProcessLimits::default()
        },
        isolation: match args.isolation {
            IsolationArg::Client => Isolation::Client,
            IsolationArg::Shared => Isolation::Shared,
        },
        max: args.max_processes as usize,
        idle_stop: args.idle_stop.0,
        start_timeout: args.start_timeout,
        max_message: args.max_body,
    };
    Ok(Plan {
        bind,
        token,
        lifeline: args.control_stdin,
        allowed_hosts: args.allowed_hosts,
        allowed_origins: args.allowed_origins,
        service: args.service,
        endpoint: args.endpoint,
        keepalive: args.keepalive,
        max_body: args.max_body,
        settings,
    })
}

fn read_control() -> Result<Control, StartError> {
    let mut line = String::new();
    let mut input = io::Read::take(io::stdin().lock(), MAX_CONTROL_LINE);
    input.read_line(&mut line).map_err(StartError::Control)?;
    serde_json::from_str(&line).map_err(|error| StartError::Control(error.into()))
}

fn read_token(path: &Path) -> Result<String, StartError> {
    let failed = |source| StartError::TokenFile {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(StartError::TokenFileOpen(path.to_owned()));
    }
    Ok(std::fs::read_to_string(path).map_err(failed)?.trim().to_owned())
}

fn endpoint_id(text: &str) -> Result<String, String> {
    let good = text.len() == 8
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if good {
        Ok(text.to_owned())
    } else {
        Err("8 lower-case letters and digits".to_owned())
    }
}

/// `None` is never. A type of its own, because clap takes a plain `Option` for an argument that may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IdleStop(Option<Duration>);

fn idle_stop(text: &str) -> Result<IdleStop, String> {
    if text == "never" {
        Ok(IdleStop(None))
    } else {
        duration(text).map(|time| IdleStop(Some(time)))
    }
}

/// `500ms`, `10s`, `5m`, `2h`, `1d`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| "a number and a unit, such as 10s".to_owned())?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    let time = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => return Err("the unit is one of ms, s, m, h, d".to_owned()),
    };
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| "the time is zero or too long".to_owned())
}

/// Plain bytes, or `512MB`, `16MiB` and their like.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: usize = number
        .parse()
        .map_err(|_| "a number of bytes, such as 16MiB".to_owned())?;
    let factor = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err("the unit is one of B, KB, KiB, MB, MiB, GB, GiB".to_owned()),
    };
    number
        .checked_mul(factor)
        .filter(|size| *size > 0)
        .ok_or_else(|| "the size is zero or too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_and_sizes_are_read_as_written() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(idle_stop("never"), Ok(IdleStop(None)));
        assert_eq!(idle_stop("5m"), Ok(IdleStop(Some(Duration::from_secs(300)))));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("512MB"), Ok(512_000_000));
        for bad in ["", "s", "10", "10x", "0s", "99999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "MB", "1XB", "0", "99999999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
