//! `processes`: how many servers run behind a sidecar, and how long an unused one stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod support;

use serde_json::json;
use support::http::Request;
use support::mcp::{Session, initialize_body, rpc};
use support::{Edge, anonymous, command_line, demo, eventually};

#[test]
fn an_unused_process_and_its_session_go_after_idle_stop() {
    let edge = Edge::start(&anonymous(&demo("demo", "processes: {max: 4, idle_stop: 1s}")));
    let session = Session::open(edge.public, "/mcp/demo");
    let servers = || {
        edge.descendants()
            .into_iter()
            .filter(|pid| command_line(*pid).contains("guard"))
            .count()
    };
    assert!(servers() >= 1);
    eventually("the end of unused servers", || (servers() == 0).then_some(()));
    let answer = session.post(&rpc(1, "tools/list", json!({}))).send(edge.public);
    assert_eq!(answer.status, 404);
}

#[test]
fn never_is_told_to_the_sidecar() {
    let edge = Edge::start(&anonymous(&demo("demo", "processes: {idle_stop: never}")));
    let told = |pid: &u32| command_line(*pid).contains("--idle-stop never");
    assert!(edge.descendants().iter().any(told));
}

#[test]
fn past_the_most_processes_a_new_client_is_told_to_come_back() {
    let edge = Edge::start(&anonymous(&demo("demo", "processes: {max: 1}")));
    let session = Session::open(edge.public, "/mcp/demo");
    let mut call = session.stream(1, "slow", json!({"ms": 60_000, "steps": 600}), "t");
    call.message().unwrap();
    let refused = Request::post("/mcp/demo", initialize_body("2025-11-25")).send(edge.public);
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (503, "no_process"),
        "{refused:?}"
    );
    assert!(refused.header("retry-after").is_some());
}
