//! The guard reaps the orphans it adopts while the server runs, and does nothing for a parent that is not its own.

mod stdio_support;

use std::process::{Command, Stdio};

use stdio_support::*;

/// Leaves fifty orphans that end by themselves, then keeps running.
const LITTER: &str = r#"
import json, os, sys
for _ in range(50):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
print(json.dumps({"server": os.getpid()}), flush=True)
sys.stdin.read()
"#;

#[tokio::test]
async fn no_zombie_gathers_under_a_running_server() {
    let mut started = start(&python(LITTER), &patient());
    let pids = pids(&mut started.stdout).await;
    let guard = started.process.pid();
    until("the server is the guard's only child", || {
        children(guard).iter().map(|(pid, _)| *pid).eq([pids["server"]])
    })
    .await;
    drop(started.stdin);
    started.process.stop().await;
}

#[test]
fn a_guard_whose_parent_is_gone_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("started");
    // Another process's id stands for a parent that died before the guard could ask for its death signal.
    let status = Command::new(guard_program())
        .args(["guard", "--parent", "1", "--", "touch"])
        .arg(&trace)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(125));
    assert!(!trace.exists());
}

#[test]
fn a_wrong_use_is_told() {
    let output = Command::new(guard_program())
        .args(["guard", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage: guard --parent PID"));
}
