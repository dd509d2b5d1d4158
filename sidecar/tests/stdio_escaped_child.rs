//! A child that leaves its session and its parent (`setsid`, two forks) does not escape: not when the server is
//! stopped, and not when the program that started the guard is killed with SIGKILL. And no server outlives its guard.

mod stdio_support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use mcp_sidecar::stdio::Exit;
use rustix::process::Signal;
use stdio_support::*;

const DAEMON: &str = r#"
import json, os, signal, sys, time
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        os.write(write, str(os.getpid()).encode())
        while True:
            time.sleep(1000)
    os._exit(0)
os.wait()
pids = {"server": os.getpid(), "guard": os.getppid(), "daemon": int(os.read(read, 20))}
print(json.dumps(pids), flush=True)
sys.stdin.read()
"#;

#[tokio::test]
async fn on_stop() {
    let mut started = start(&python(DAEMON), &patient());
    let pids = pids(&mut started.stdout).await;
    // Its parent is gone, and the guard has taken its place.
    assert_eq!(state(pids["daemon"]).unwrap().1, pids["guard"]);
    assert_eq!(started.process.pid(), pids["guard"]);
    drop(started.stdin);
    assert_eq!(started.process.stop().await, Exit::Code(0));
    assert!(pids.values().all(|&pid| gone(pid)), "{pids:?}");
}

#[tokio::test]
async fn when_the_starter_is_killed() {
    // The shell stands for the sidecar: it starts a guard as the sidecar does, and is killed.
    let mut sidecar = Command::new("sh")
        .args([
            "-c",
            r#""$0" guard --parent $$ -- python3 -u -c "$1"; exit 0"#,
            guard_program(),
            DAEMON,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(sidecar.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pids: BTreeMap<String, u32> = serde_json::from_str(&line).unwrap();
    assert_eq!(state(pids["guard"]).unwrap().1, sidecar.id());
    sidecar.kill().unwrap();
    sidecar.wait().unwrap();
    // Stdin is still open here: it is not end of file that ends them.
    until("server and daemon are gone", || {
        gone(pids["server"]) && gone(pids["daemon"])
    })
    .await;
    // The guard's own reaper is now the system's init; that it ended is all that can be asked.
    until("the guard has ended", || {
        state(pids["guard"]).is_none_or(|(state, _)| state == 'Z')
    })
    .await;
    drop(sidecar.stdin.take());
}

#[tokio::test]
async fn when_the_guard_is_told_to_terminate_by_hand() {
    // SIGTERM goes on to the server, whose end takes the rest with it.
    let mut started = start(&python(DAEMON), &patient());
    let pids = pids(&mut started.stdout).await;
    signal(pids["guard"], Signal::TERM);
    assert_eq!(started.process.exited().await, Exit::Signal(15));
    assert!(pids.values().all(|&pid| gone(pid)), "{pids:?}");
}

#[tokio::test]
async fn a_server_dies_with_its_guard_even_if_nobody_adopts_it() {
    let server =
        r#"trap "" TERM HUP INT USR1; echo "{\"guard\":$PPID,\"server\":$$}"; while :; do read line; done"#;
    let mut started = start(&sh(server), &patient());
    let pids = pids(&mut started.stdout).await;
    signal(pids["guard"], Signal::KILL);
    assert_eq!(started.process.exited().await, Exit::GuardKilled(9));
    until("the server has died", || {
        state(pids["server"]).is_none_or(|(state, _)| state == 'Z')
    })
    .await;
}
