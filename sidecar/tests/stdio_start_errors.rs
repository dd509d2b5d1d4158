//! A command that cannot be started says what, where and why.

#![allow(clippy::panic, reason = "test code")]

mod stdio_support;

use std::os::unix::fs::PermissionsExt;

use mcp_sidecar::stdio::process::{SpawnError, use_guard_program};
use mcp_sidecar::stdio::{Exit, Process, ServerCommand};
use stdio_support::*;

async fn reason(command: &ServerCommand) -> String {
    let started = start(command, &patient());
    match started.process.exited().await {
        Exit::NotStarted(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn not_found() {
    assert_eq!(
        reason(&command("no-such-mcp-server", &["--stdio"])).await,
        "command not found: \"no-such-mcp-server\": No such file or directory (os error 2)"
    );
    let dir = tempfile::tempdir().unwrap();
    let mut relative = command("./server.sh", &[]);
    relative.cwd = Some(dir.path().to_owned());
    let reason = reason(&relative).await;
    let expected = format!(
        "command not found: \"./server.sh\" (in {:?}): No such file",
        dir.path()
    );
    assert!(reason.starts_with(&expected), "{reason}");
}

#[tokio::test]
async fn not_executable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrapper.sh");
    std::fs::write(&path, "#!/bin/sh\necho '{}'\n").unwrap();
    let command = command(path.to_str().unwrap(), &[]);
    let reason = reason(&command).await;
    assert_eq!(
        reason,
        format!("cannot execute {path:?}: Permission denied (os error 13)")
    );
}

#[tokio::test]
async fn interpreter_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrapper.sh");
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let reason = reason(&command(path.to_str().unwrap(), &[])).await;
    let expected =
        format!("cannot execute {path:?}: the file is there, but the interpreter or loader it names is not");
    assert!(reason.starts_with(&expected), "{reason}");
}

#[tokio::test]
async fn working_directory_missing() {
    let mut command = sh("echo '{}'");
    command.cwd = Some("/no/such/directory".into());
    assert_eq!(
        reason(&command).await,
        "cannot start \"sh\": working directory \"/no/such/directory\": No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn a_servers_own_127_is_not_a_missing_command() {
    let started = start(&sh("no-such-command-in-a-wrapper"), &patient());
    assert_eq!(started.process.exited().await, Exit::Code(127));
    let tail = started.process.stderr_tail();
    assert!(
        tail.iter()
            .any(|line| line.contains("no-such-command-in-a-wrapper")),
        "{tail:?}"
    );
}

#[tokio::test]
async fn not_even_the_guard() {
    use_guard_program(guard_program());
    let nul = Process::spawn(&command("sh\0", &[]), &patient()).unwrap_err();
    assert!(matches!(nul, SpawnError::Nul { .. }), "{nul}");
    let huge = "x".repeat(8 << 20);
    let long = Process::spawn(&command("sh", &[&huge]), &patient()).unwrap_err();
    assert!(matches!(long, SpawnError::TooLong { .. }), "{long}");
    assert_eq!(children(std::process::id()).len(), 0);
}

#[test]
fn outside_a_runtime() {
    let error = Process::spawn(&sh("true"), &patient()).unwrap_err();
    assert!(matches!(error, SpawnError::NoRuntime), "{error}");
}
