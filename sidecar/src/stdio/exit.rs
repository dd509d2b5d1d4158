//! How a server ended, in words an operator can use.
//!
//! Problem: the sidecar sees the guard's exit status only. The guard passes on the server's by the shell's convention,
//! which cannot tell a server's own 127 from "not found"; the guard's line on stderr can.

use std::fmt;

/// Starts every line the guard itself writes to stderr.
pub const GUARD_PREFIX: &str = "mcp-guard: ";

/// The guard itself failed (the convention of `env`, `timeout` and `docker run`).
pub(super) const GUARD_FAILED: u8 = 125;
/// The command was found but cannot be executed.
pub(super) const CANNOT_EXECUTE: u8 = 126;
/// The command was not found.
pub(super) const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the server.
pub(super) const SIGNAL_BASE: i32 = 128;
/// Highest signal number on Linux (SIGRTMAX).
const MAX_SIGNAL: i32 = 64;

/// How a server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited by itself with this status.
    Code(i32),
    /// This signal ended it. (A server that itself exits with 128 + n looks the same.)
    Signal(i32),
    /// It never started: command not found, not executable, no such working directory. The text is for the operator.
    NotStarted(String),
    /// Its guard was killed by this signal; the server died with it.
    GuardKilled(i32),
    /// Nobody waited for it: the runtime that owned it was shut down.
    Unknown,
}

impl Exit {
    /// Exited with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }

    /// From the guard's exit status and the last lines of stderr, oldest first.
    pub(super) fn from_guard(code: Option<i32>, signal: Option<i32>, stderr: &[String]) -> Self {
        match (code, signal) {
            (Some(code), _) if (i32::from(GUARD_FAILED)..=i32::from(NOT_FOUND)).contains(&code) => stderr
                .iter()
                .rev()
                .find_map(|line| line.strip_prefix(GUARD_PREFIX))
                .map_or(Self::Code(code), |reason| Self::NotStarted(reason.to_owned())),
            (Some(code), _) if (SIGNAL_BASE + 1..=SIGNAL_BASE + MAX_SIGNAL).contains(&code) => {
                Self::Signal(code - SIGNAL_BASE)
            }
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::GuardKilled(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::NotStarted(reason) => f.write_str(reason),
            Self::GuardKilled(signal) => write!(f, "its guard process was killed by signal {signal}"),
            Self::Unknown => f.write_str("ended unobserved"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(code: i32, stderr: &[&str]) -> Exit {
        let stderr: Vec<String> = stderr.iter().map(|&line| line.to_owned()).collect();
        Exit::from_guard(Some(code), None, &stderr)
    }

    #[test]
    fn tells_a_servers_127_from_not_found() {
        assert_eq!(from(127, &["sh: 1: x: not found"]), Exit::Code(127));
        let exit = from(127, &["mcp-guard: command not found: \"x\"", "late line"]);
        assert_eq!(exit, Exit::NotStarted("command not found: \"x\"".into()));
        assert_eq!(from(3, &["mcp-guard: something"]), Exit::Code(3));
    }

    #[test]
    fn reads_signals_by_the_shells_convention() {
        assert_eq!(from(137, &[]).to_string(), "killed by signal 9");
        assert_eq!(from(143, &[]), Exit::Signal(15));
        assert_eq!(from(128, &[]), Exit::Code(128));
        assert_eq!(from(255, &[]).to_string(), "exited with code 255");
        assert!(from(0, &[]).success() && !from(1, &[]).success());
        assert_eq!(Exit::from_guard(None, Some(9), &[]), Exit::GuardKilled(9));
    }
}
