//! A client that goes away is noticed at once, and takes nobody else with it.

mod support;

use serde_json::json;
use support::mcp::{Session, text};
use support::{Edge, anonymous, demo, eventually};

#[test]
fn a_client_gone_mid_stream_is_no_longer_under_way() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let mut stream = session.stream(1, "slow", json!({"ms": 60_000, "steps": 600}), "t");
    stream.message().unwrap();
    assert_eq!(edge.health()["under_way"], 1);
    drop(stream);
    eventually("the end of the request", || {
        (edge.health()["under_way"] == 0).then_some(())
    });
    // In the legacy era leaving is no cancel; the session goes on.
    assert_eq!(
        text(&session.call(2, "echo", json!({"text": "still here"})).json()),
        "still here"
    );
}

#[test]
fn a_slow_reader_gets_all_of_it_and_holds_up_nobody() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let slow = Session::open(edge.public, "/mcp/demo");
    let fast = Session::open(edge.public, "/mcp/demo");
    let mut stream = slow
        .call_request(1, "big", json!({"bytes": 5 << 20}))
        .open(edge.public);
    for n in 0..50 {
        let mine = n.to_string();
        assert_eq!(text(&fast.call(n, "echo", json!({"text": mine})).json()), mine);
    }
    let body = stream.read_to_end();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(text(&json).len(), 5 << 20);
}
