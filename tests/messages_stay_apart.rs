//! Nobody ever sees another call's or another client's messages: the worst fault of a translator.

mod support;

use std::thread;

use serde_json::json;
use support::http::Stream;
use support::mcp::{Session, text};
use support::{Edge, anonymous, demo};

/// The progress tokens that a stream carried, and its result's text.
fn read(mut stream: Stream) -> (Vec<serde_json::Value>, String) {
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let mut tokens = Vec::new();
    loop {
        let message = stream.message().expect("a result");
        if message.get("method").is_none() {
            return (tokens, text(&message).to_owned());
        }
        assert_eq!(message["method"], "notifications/progress");
        tokens.push(message["params"]["progressToken"].clone());
    }
}

#[test]
fn concurrent_calls_of_one_session_see_only_their_own_progress() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let calls: Vec<_> = (1..=4)
        .map(|n: i64| {
            let session = session.clone();
            thread::spawn(move || {
                read(session.stream(
                    n,
                    "slow",
                    json!({"ms": 400 + n, "steps": 4}),
                    format!("token-{n}"),
                ))
            })
        })
        .collect();
    for (n, call) in (1..).zip(calls) {
        let (tokens, text) = call.join().unwrap();
        assert_eq!(tokens, vec![json!(format!("token-{n}")); 4]);
        assert_eq!(text, format!("slept {} ms in 4 steps", 400 + n));
    }
}

/// Same ids, same tokens, at the same time, in both kinds of isolation.
fn clients_with_equal_ids(isolation: &str) {
    let edge = Edge::start(&anonymous(&demo("demo", &format!("isolation: {isolation}"))));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let to = edge.public;
            thread::spawn(move || {
                let session = Session::open(to, "/mcp/demo");
                for round in 0..20 {
                    let mine = format!("client {n} round {round}");
                    let answer = session.call(1, "echo", json!({"text": mine}));
                    assert_eq!(text(&answer.json()), mine);
                    assert_eq!(answer.json()["id"], 1);
                }
                let (tokens, text) =
                    read(session.stream(1, "slow", json!({"ms": 200 + n, "steps": 3}), "same"));
                assert_eq!(
                    (tokens, text),
                    (vec![json!("same"); 3], format!("slept {} ms in 3 steps", 200 + n))
                );
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn two_clients_never_see_each_others_answers_with_processes_of_their_own() {
    clients_with_equal_ids("client");
}

#[test]
fn two_clients_never_see_each_others_answers_on_a_shared_process() {
    clients_with_equal_ids("shared");
}
