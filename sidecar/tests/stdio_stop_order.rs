//! A stop is stdin's end, then SIGTERM to the whole group, then SIGKILL, and goes no further than it must.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod stdio_support;

use std::time::Duration;

use mcp_sidecar::stdio::{Exit, ProcessLimits};
use rustix::process::Signal;
use stdio_support::*;

const SHORT: Duration = Duration::from_millis(300);

/// Tells each event it meets on stdout. `$1`: what it does at end of file, `$2`: at SIGTERM.
const WITNESS: &str = r#"
import os, signal, sys, time
at_eof, at_term = sys.argv[1:3]
def term(number, frame):
    print('{"event":"term"}', flush=True)
    if at_term == "exit":
        os._exit(5)
signal.signal(signal.SIGTERM, term)
print('{"event":"up"}', flush=True)
while os.read(0, 1000):
    pass
print('{"event":"eof"}', flush=True)
if at_eof == "exit":
    sys.exit(4)
while True:
    time.sleep(1000)
"#;

async fn events(at_eof: &str, at_term: &str, limits: ProcessLimits) -> (Vec<String>, Exit) {
    let mut command = python(WITNESS);
    command.args.extend([at_eof.to_owned(), at_term.to_owned()]);
    let mut started = start(&command, &limits);
    let mut events = vec![
        message(&mut started.stdout).await["event"]
            .as_str()
            .unwrap()
            .to_owned(),
    ];
    drop(started.stdin);
    let exit = started.process.stop().await;
    while next_line(&mut started.stdout)
        .await
        .map(|line| events.push(format!("{line:?}")))
        .is_some()
    {}
    let events = events.iter().map(|event| {
        ["up", "eof", "term"]
            .into_iter()
            .find(|name| event.contains(name))
            .unwrap()
            .to_owned()
    });
    (events.collect(), exit)
}

#[tokio::test]
async fn end_of_file_is_enough() {
    let (events, exit) = events("exit", "exit", patient()).await;
    assert_eq!(
        (events.as_slice(), exit),
        (&["up", "eof"].map(String::from)[..], Exit::Code(4))
    );
}

#[tokio::test]
async fn a_server_that_ignores_end_of_file_gets_sigterm() {
    let (events, exit) = events(
        "stay",
        "exit",
        ProcessLimits {
            eof_grace: SHORT,
            ..patient()
        },
    )
    .await;
    assert_eq!(
        (events.as_slice(), exit),
        (&["up", "eof", "term"].map(String::from)[..], Exit::Code(5))
    );
}

#[tokio::test]
async fn a_server_that_ignores_both_is_killed() {
    let limits = ProcessLimits {
        eof_grace: SHORT,
        term_grace: SHORT,
        ..patient()
    };
    let (events, exit) = events("stay", "stay", limits).await;
    assert_eq!(
        (events.as_slice(), exit),
        (&["up", "eof", "term"].map(String::from)[..], Exit::Signal(9))
    );
}

#[tokio::test]
async fn sigterm_reaches_the_servers_group_not_only_the_server() {
    // As `npx` does: the outer process waits for the inner one, which alone could end properly.
    let script = r#"trap '' TERM
        sh -c 'trap "echo {\\\"event\\\":\\\"inner term\\\"}; exit 0" TERM; echo "{}"; while :; do sleep 0.05; done'
        exit 6"#;
    // An ignored signal stays ignored in a shell's children: let the inner one be started without that.
    let script = script.replace(
        "trap '' TERM",
        "trap 'echo {\\\"event\\\":\\\"outer term\\\"}' TERM",
    );
    let mut started = start(
        &sh(&script),
        &ProcessLimits {
            eof_grace: SHORT,
            ..patient()
        },
    );
    message(&mut started.stdout).await;
    drop(started.stdin);
    assert_eq!(started.process.stop().await, Exit::Code(6));
    let mut events = Vec::new();
    while let Some(mcp_sidecar::stdio::Line::Message(line)) = next_line(&mut started.stdout).await {
        events.push(String::from_utf8(line.to_vec()).unwrap());
    }
    events.sort();
    assert_eq!(events, [r#"{"event":"inner term"}"#, r#"{"event":"outer term"}"#]);
}

#[tokio::test]
async fn a_stopped_server_is_killed_too() {
    let limits = ProcessLimits {
        eof_grace: SHORT,
        term_grace: SHORT,
        ..patient()
    };
    let mut started = start(&sh(r#"echo "{\"server\":$$}"; cat"#), &limits);
    let pids = pids(&mut started.stdout).await;
    signal(pids["server"], Signal::STOP);
    drop(started.stdin);
    assert_eq!(started.process.stop().await, Exit::Signal(9));
    assert!(gone(pids["server"]));
}
