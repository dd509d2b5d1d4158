//! stderr is always read: a flood neither blocks the server nor grows the translator, and the last lines are kept.

mod stdio_support;

use mcp_sidecar::stdio::stderr::RING_LINES;
use mcp_sidecar::stdio::{Exit, Line};
use stdio_support::*;

const FLOOD: &str = r#"
import os, sys
line = b"x" * 99 + b"\n"
for _ in range(500):
    os.write(2, line * 1000)
os.write(2, b"y" * 5_000_000)
os.write(2, b"\nlast words\n")
print('{"flooded":true}', flush=True)
sys.stdin.read()
"#;

#[tokio::test]
async fn a_flood_of_fifty_megabytes_passes() {
    let mut started = start(&python(FLOOD), &patient());
    let before = resident();
    assert_eq!(message(&mut started.stdout).await["flooded"], true);
    let process = &started.process;
    until("all is read", || {
        process
            .stderr_tail()
            .last()
            .is_some_and(|line| line == "last words")
    })
    .await;
    // The ring holds at most 200 lines of 4 KiB; leave room for the allocator.
    assert!(
        resident() < before + 10_000,
        "{before} KiB grew to {} KiB",
        resident()
    );
    let tail = started.process.stderr_tail();
    assert_eq!(tail.len(), RING_LINES);
    assert_eq!(tail[0], "x".repeat(99));
    assert!(
        tail[198].starts_with("yyyy") && tail[198].ends_with("bytes cut)"),
        "{}",
        tail[198]
    );
    drop(started.stdin);
    assert_eq!(started.process.stop().await, Exit::Code(0));
}

#[tokio::test]
async fn last_words_are_there_when_the_exit_is() {
    let started = start(
        &sh("echo '{}'; echo one >&2; printf 'no \\033[1mnewline' >&2; exit 3"),
        &patient(),
    );
    let tail = started.process.stderr();
    let exit = started.process.exited().await;
    assert_eq!(
        (exit.to_string().as_str(), tail.lines()),
        (
            "exited with code 3",
            vec!["one".to_owned(), "no \\u{1b}[1mnewline".to_owned()]
        )
    );
    let mut stdout = started.stdout;
    assert!(matches!(next_line(&mut stdout).await, Some(Line::Message(line)) if *line == *b"{}"));
    assert_eq!(next_line(&mut stdout).await, None);
}
