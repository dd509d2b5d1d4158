//! A server that dies takes its calls with it at once, with a clear error; the session goes on.

mod support;

use serde_json::json;
use support::mcp::{Session, rpc, text};
use support::{Edge, anonymous, command_line, demo, eventually, signal};

/// The demo servers below the edge (not their guards, whose command lines also name them).
fn servers(edge: &Edge) -> Vec<u32> {
    let is_server = |pid: &u32| {
        let line = command_line(*pid);
        line.trim_end().ends_with("mcp-edge demo") && !line.contains(" guard") && !line.contains(" sidecar ")
    };
    edge.descendants().into_iter().filter(is_server).collect()
}

#[test]
fn calls_in_flight_fail_clearly_and_the_next_ones_work() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let mut stream = session.stream(1, "slow", json!({"ms": 60_000, "steps": 600}), "t");
    assert_eq!(stream.message().unwrap()["method"], "notifications/progress");
    let [server] = servers(&edge)[..] else {
        panic!("servers: {:?}", servers(&edge))
    };
    signal(server, rustix::process::Signal::KILL);
    let error = loop {
        let message = stream.message().expect("an error before the end");
        if message.get("method").is_none() {
            break message;
        }
    };
    assert_eq!(
        (&error["id"], error["error"]["code"].as_i64()),
        (&json!(1), Some(503)),
        "{error}"
    );
    assert!(
        error["error"]["data"]["reason"]
            .as_str()
            .unwrap()
            .starts_with("server_restart"),
        "{error}"
    );
    assert!(stream.message().is_none());
    let again = eventually("the server again", || {
        let answer = session.call(2, "echo", json!({"text": "again"}));
        answer.json().get("result").is_some().then_some(answer)
    });
    assert_eq!(text(&again.json()), "again");
}

#[test]
fn a_tool_that_ends_the_process_is_an_error_and_not_a_hang() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let answer = session.call("crash", "crash", json!({}));
    assert_eq!(answer.json()["error"]["code"].as_i64(), Some(503), "{answer:?}");
    eventually("the server again", || {
        session
            .post(&rpc(3, "tools/list", json!({})))
            .send(edge.public)
            .json()
            .get("result")
            .map(|_| ())
    });
}
