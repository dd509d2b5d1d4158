//! What the stdio tests share: commands to start, a look at `/proc`, and waiting with a deadline.
#![allow(dead_code, reason = "each test binary uses its part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mcp_sidecar::stdio::process::use_guard_program;
use mcp_sidecar::stdio::{Line, LineReader, Process, ProcessLimits, ServerCommand, Started};
use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a loaded machine; reached only by a failing test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn guard_program() -> &'static str {
    env!("CARGO_BIN_EXE_mcp-sidecar")
}

pub(crate) fn command(program: &str, args: &[&str]) -> ServerCommand {
    ServerCommand {
        program: program.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..ServerCommand::default()
    }
}

pub(crate) fn sh(script: &str) -> ServerCommand {
    command("sh", &["-c", script])
}

pub(crate) fn python(script: &str) -> ServerCommand {
    command("python3", &["-u", "-c", script])
}

/// Graces so long that only a failing test sees their end.
pub(crate) fn patient() -> ProcessLimits {
    ProcessLimits {
        eof_grace: DEADLINE,
        term_grace: DEADLINE,
        ..ProcessLimits::default()
    }
}

pub(crate) fn start(command: &ServerCommand, limits: &ProcessLimits) -> Started {
    use_guard_program(guard_program());
    Process::spawn(command, limits).unwrap()
}

pub(crate) async fn next_line(lines: &mut LineReader) -> Option<Line> {
    tokio::time::timeout(DEADLINE, lines.next())
        .await
        .expect("a line in time")
}

pub(crate) async fn message(lines: &mut LineReader) -> serde_json::Value {
    match next_line(lines).await {
        Some(Line::Message(line)) => serde_json::from_slice(&line).unwrap(),
        other => panic!("not a message: {other:?}"),
    }
}

/// The process ids in a message of the form `{"name": pid, …}`.
pub(crate) async fn pids(lines: &mut LineReader) -> BTreeMap<String, u32> {
    serde_json::from_value(message(lines).await).unwrap()
}

pub(crate) async fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        holds_within(DEADLINE, condition).await,
        "waited in vain until {what}"
    );
}

pub(crate) async fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    condition()
}

/// Neither alive nor a zombie.
pub(crate) fn gone(pid: u32) -> bool {
    state(pid).is_none()
}

/// State letter and parent of a process, `/proc/<pid>/stat`.
pub(crate) fn state(pid: u32) -> Option<(char, u32)> {
    let stat = String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?).into_owned();
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Children of `parent`, zombies among them: (pid, state).
pub(crate) fn children(parent: u32) -> Vec<(u32, char)> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let (state, its_parent) = state(pid)?;
            (its_parent == parent).then_some((pid, state))
        })
        .collect()
}

pub(crate) fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                std::fs::read_link(entry.path()).ok()?,
            ))
        })
        .collect();
    found.sort();
    found
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Resident memory of this process in KiB.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
