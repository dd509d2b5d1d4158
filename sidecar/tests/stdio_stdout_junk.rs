//! What a server prints besides messages, or beyond the limit of a line, costs no other message.

mod stdio_support;

use bytes::Bytes;
use mcp_sidecar::stdio::{Exit, Line, ProcessLimits};
use stdio_support::*;

const NOISY: &str = r#"
import sys
print("Starting server v1.0 ...")
print()
print("[INFO] {ready}")
print('{"id":1}')
print('{"id":2,"big":"' + "x" * 3_000_000 + '"}')
print('{"id":3}\r')
for line in sys.stdin:
    print('{"length":%d}' % len(line))
"#;

#[tokio::test]
async fn junk_and_long_lines_are_skipped() {
    let limits = ProcessLimits {
        max_line: 1_000_000,
        ..patient()
    };
    let mut started = start(&python(NOISY), &limits);
    let lines = &mut started.stdout;
    let junk = |text: &'static str| Some(Line::Junk(Bytes::from_static(text.as_bytes())));
    assert_eq!(next_line(lines).await, junk("Starting server v1.0 ..."));
    assert_eq!(next_line(lines).await, junk("[INFO] {ready}"));
    assert_eq!(message(lines).await["id"], 1);
    let Some(Line::TooLong { prefix, len }) = next_line(lines).await else {
        panic!("not too long")
    };
    assert!(prefix.starts_with(b"{\"id\":2,"));
    assert_eq!(len, 3_000_017);
    assert_eq!(message(lines).await["id"], 3);

    // The other way: a message of several lines and parts arrives as one line, however large.
    let body = Bytes::from(vec![b'y'; 2_000_000]);
    let parts = [
        Bytes::from_static(b"{\n\"x\":\r\n\""),
        body,
        Bytes::from_static(b"\"\n}"),
    ];
    let written = async { started.stdin.write(&parts).await };
    let (written, answer) = tokio::join!(written, message(lines));
    written.unwrap();
    assert_eq!(answer["length"], 2_000_000 + 9 + 3 + 1);
    drop(started.stdin);
    assert_eq!(started.process.stop().await, Exit::Code(0));
}

#[tokio::test]
async fn a_server_that_closed_its_stdin_is_an_error_not_a_hang() {
    let mut started = start(&sh("exec <&-; echo '{}'; sleep 1000"), &patient());
    message(&mut started.stdout).await;
    assert!(started.stdin.write(&[Bytes::from_static(b"{}")]).await.is_err());
    assert!(started.stdin.write(&[Bytes::from_static(b"{}")]).await.is_err());
}
