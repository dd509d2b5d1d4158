//! 64 KiB is the most that the edge may read before it has an upstream: one byte to either side must not be lost,
//! however the body is framed.

mod support;

use serde_json::json;
use support::mcp::{Session, rpc, text};
use support::{Edge, anonymous, demo};

/// An `echo` call whose body has exactly `size` bytes, and the text that it must come back with.
fn call_of(size: usize) -> (String, String) {
    let with = |text: &str| {
        rpc(
            1,
            "tools/call",
            json!({"name": "echo", "arguments": {"text": text}}),
        )
    };
    let filler: String = (0..size - with("").len())
        .map(|at| char::from(b'a' + (at % 26) as u8))
        .collect();
    (with(&filler), filler)
}

#[test]
fn bodies_of_64_kib_and_a_byte_more_or_less_arrive_whole() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    for size in [65_535, 65_536, 65_537, 70_000, 131_072, 200_000] {
        let (body, filler) = call_of(size);
        assert_eq!(body.len(), size);
        let answer = session.post(&body).send(edge.public);
        assert_eq!(answer.status, 200, "{size}");
        assert_eq!(text(&answer.json()), filler, "{size}");
    }
}

#[test]
fn chunked_bodies_arrive_whole() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    for (size, chunk) in [
        (500, 100),
        (40_000, 1),
        (65_535, 1000),
        (65_536, 16_384),
        (65_537, 16_384),
        (300_000, 8192),
        (300_000, 60_000),
    ] {
        let (body, filler) = call_of(size);
        let answer = session.post(&body).chunked(chunk).send(edge.public);
        assert_eq!(
            answer.status,
            200,
            "{size} in chunks of {chunk}: {:?}",
            String::from_utf8_lossy(&answer.body).get(..200)
        );
        assert_eq!(text(&answer.json()), filler, "{size} in chunks of {chunk}");
    }
}

#[test]
fn a_two_megabyte_argument_and_a_five_megabyte_answer() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let argument = "m".repeat(2 << 20);
    let answer = session.call(1, "echo", json!({"text": argument}));
    assert_eq!(text(&answer.json()).len(), 2 << 20);
    let answer = session.call(2, "big", json!({"bytes": 5 << 20}));
    assert_eq!(text(&answer.json()).len(), 5 << 20);
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let (body, filler) = call_of(3_000);
    let whole = session
        .post(&body)
        .header("Expect", "100-continue")
        .to_bytes(edge.public);
    let (head, body) = whole.split_at(whole.len() - body.len());
    let mut connection = session.connection();
    connection.write(head);
    let interim = connection.read_exactly(b"HTTP/1.1 100 Continue\r\n\r\n".len());
    assert_eq!(
        String::from_utf8(interim).unwrap(),
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    connection.write(body);
    let mut answer = connection.head();
    let json: serde_json::Value = serde_json::from_slice(&answer.read_to_end()).unwrap();
    assert_eq!(text(&json), filler);
}
