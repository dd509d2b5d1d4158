//! When guards themselves are killed with SIGKILL, the sidecar adopts what they leave, kills and reaps it.
//! One test: adoption is a role of the whole process, whose only children must be guards.

mod stdio_support;

use mcp_sidecar::stdio::{Exit, orphans};
use rustix::process::Signal;
use stdio_support::*;

/// A server with a child in its group and one that has left it.
const FAMILY: &str = r#"
import json, os, subprocess, sys
near = subprocess.Popen(["sleep", "1000"])
far = subprocess.Popen(["sh", "-c", "trap '' TERM HUP; sleep 1000; sleep 1000"], start_new_session=True)
pids = {"guard": os.getppid(), "server": os.getpid(), "near": near.pid, "far": far.pid}
print(json.dumps(pids), flush=True)
sys.stdin.read()
"#;

#[tokio::test]
async fn nothing_survives() {
    let _adoption = orphans::adopt().unwrap();
    let me = std::process::id();
    let mut bystander = start(&python(FAMILY), &patient());
    let bystanders = pids(&mut bystander.stdout).await;

    // The guard alone: the server dies by its own parent-death signal.
    let mut started = start(&python(FAMILY), &patient());
    let family = pids(&mut started.stdout).await;
    signal(family["guard"], Signal::KILL);
    assert_eq!(started.process.exited().await, Exit::GuardKilled(9));
    assert!(family.values().all(|&pid| gone(pid)), "{family:?}");

    // The server, then the guard before it can act on that: it is stopped meanwhile.
    let mut started = start(&python(FAMILY), &patient());
    let family = pids(&mut started.stdout).await;
    signal(family["guard"], Signal::STOP);
    signal(family["server"], Signal::KILL);
    signal(family["guard"], Signal::KILL);
    assert_eq!(started.process.exited().await, Exit::GuardKilled(9));
    assert!(family.values().all(|&pid| gone(pid)), "{family:?}");

    // A guard that does not obey is killed in the end.
    let mut started = start(&python(FAMILY), &patient());
    let family = pids(&mut started.stdout).await;
    signal(family["guard"], Signal::STOP);
    let exited = started.process.exited();
    drop(started.process);
    assert_eq!(exited.await, Exit::GuardKilled(9));
    assert!(family.values().all(|&pid| gone(pid)), "{family:?}");

    // The other server was not touched, and it is the only child left.
    assert!(bystanders.values().all(|&pid| !gone(pid)), "{bystanders:?}");
    assert_eq!(
        children(me).iter().map(|(pid, _)| *pid).collect::<Vec<_>>(),
        [bystanders["guard"]]
    );
    drop(bystander.stdin);
    assert_eq!(bystander.process.stop().await, Exit::Code(0));
    assert_eq!(children(me), []);
}
