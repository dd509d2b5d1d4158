//! SIGTERM: out as soon as nothing is under way, streams ended properly, no process left, nothing cut before `edge.drain`.

mod support;

use std::time::Duration;

use serde_json::json;
use support::http::Request;
use support::mcp::{Session, rpc, text};
use support::{Edge, PATIENCE, alive, anonymous, demo, eventually, signal};

#[test]
fn an_idle_edge_leaves_at_once_and_leaves_no_process() {
    let edge = Edge::start(&anonymous(&demo("demo", "")).replace("drain: 5s", "drain: 25s"));
    Session::open(edge.public, "/mcp/demo");
    let processes = edge.descendants();
    assert!(
        processes.len() >= 2,
        "a sidecar and a server at least: {processes:?}"
    );
    let (code, took) = edge.stop();
    assert_eq!(code, Some(0));
    assert!(
        took < Duration::from_secs(20),
        "an idle edge waited for its drain period: {took:?}"
    );
    eventually("the end of all processes", || {
        processes.iter().all(|pid| !alive(*pid)).then_some(())
    });
}

#[test]
fn a_call_under_way_is_finished_and_new_ones_are_refused() {
    let edge = Edge::start(&anonymous(&demo("demo", "")).replace("drain: 5s", "drain: 20s"));
    let session = Session::open(edge.public, "/mcp/demo");
    let call = session.call_request(1, "slow", json!({"ms": 3000, "steps": 1}));
    let to = edge.public;
    let answer = std::thread::spawn(move || call.send(to));
    eventually("the call under way", || {
        (edge.health()["under_way"] == 1).then_some(())
    });
    signal(edge.pid(), rustix::process::Signal::TERM);
    eventually("draining", || {
        (edge.get_health("/ready").status == 503).then_some(())
    });
    let refused = session.post(&rpc(2, "ping", json!({}))).send(edge.public);
    assert_eq!((refused.status, refused.reason().as_str()), (503, "draining"));
    assert!(refused.header("retry-after").is_some());
    let answer = answer.join().unwrap();
    let message = match answer.header("content-type") {
        Some("text/event-stream") => {
            let body = answer.text();
            serde_json::from_str(
                body.lines()
                    .rev()
                    .find_map(|line| line.strip_prefix("data:"))
                    .unwrap(),
            )
            .unwrap()
        }
        _ => answer.json(),
    };
    assert_eq!(text(&message), "slept 3000 ms in 1 steps");
}

#[test]
fn open_streams_end_properly_and_do_not_hold_up_the_stop() {
    let edge = Edge::start(&anonymous(&demo("demo", "")).replace("drain: 5s", "drain: 60s"));
    let session = Session::open(edge.public, "/mcp/demo");
    let mut stream = session.listen();
    assert_eq!(
        (stream.status, stream.header("content-type")),
        (200, Some("text/event-stream"))
    );
    signal(edge.pid(), rustix::process::Signal::TERM);
    // `event` panics on a body that was cut instead of ended.
    while stream.event().is_some() {}
    let (code, took) = edge.stop();
    assert_eq!(code, Some(0));
    assert!(took < PATIENCE);
}

#[test]
fn requests_at_the_health_listener_say_that_it_drains() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let ready = Request::new("GET", "/ready").send(edge.health);
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
}
