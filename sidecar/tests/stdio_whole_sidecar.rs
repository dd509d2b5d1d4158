//! The real program leaves no process behind: not when a guard of it is killed, and not when it is killed itself.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod stdio_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use stdio_support::*;

/// A server that answers nothing, with a child in its group and one that has left it. It names them all in the file
/// `$1`, which is there only when it is whole.
const FAMILY: &str = r#"
import json, os, subprocess, sys, time
near = subprocess.Popen(["sleep", "1000"])
far = subprocess.Popen(["sh", "-c", "trap '' TERM HUP; sleep 1000; sleep 1000"], start_new_session=True)
pids = {"guard": os.getppid(), "server": os.getpid(), "near": near.pid, "far": far.pid}
with open(sys.argv[1] + ".part", "w") as file:
    json.dump(pids, file)
os.rename(sys.argv[1] + ".part", sys.argv[1])
while True:
    time.sleep(1000)
"#;

/// Killed and reaped however the test ends.
struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn sidecar(file: &Path) -> (Sidecar, BTreeMap<String, u32>) {
    let sidecar = Command::new(guard_program())
        .args(["--listen", "127.0.0.1:0", "--", "python3", "-c", FAMILY])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Sidecar)
        .unwrap();
    until("the server is up", || file.exists()).await;
    let pids: BTreeMap<String, u32> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(state(pids["guard"]).unwrap().1, sidecar.0.id());
    (sidecar, pids)
}

#[tokio::test]
async fn when_a_guard_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (sidecar, pids) = sidecar(&dir.path().join("pids")).await;
    signal(pids["guard"], Signal::KILL);
    until("its family is gone", || pids.values().all(|&pid| gone(pid))).await;
    assert!(!gone(sidecar.0.id()));
}

#[tokio::test]
async fn when_the_sidecar_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sidecar, pids) = sidecar(&dir.path().join("pids")).await;
    sidecar.0.kill().unwrap();
    sidecar.0.wait().unwrap();
    let family = || pids.iter().filter(|(name, _)| *name != "guard");
    until("the family is gone", || family().all(|(_, &pid)| gone(pid))).await;
    // The guard's own reaper is now the system's init; that it ended is all that can be asked.
    until("the guard has ended", || {
        state(pids["guard"]).is_none_or(|(state, _)| state == 'Z')
    })
    .await;
}
