//! What the edge answers itself: status, reason and shape are the interface that clients match on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod support;

use serde_json::json;
use support::http::{Connection, Request};
use support::mcp::{Session, initialize_body, rpc};
use support::{Edge, anonymous, demo, eventually};

fn edge() -> Edge {
    Edge::start(&anonymous(&demo("demo", "")))
}

#[test]
fn an_unknown_service_is_404_no_route_and_lists_nothing() {
    let edge = edge();
    let answer = Request::post("/mcp/other", rpc(1, "ping", json!({}))).send(edge.public);
    assert_eq!((answer.status, answer.reason().as_str()), (404, "no_route"));
    assert!(!answer.text().contains("demo"), "{}", answer.text());
    let id = answer.header("x-request-id").unwrap().to_owned();
    eventually(
        "the refusal's line, under the id that the client was given",
        || {
            edge.access_log()
                .into_iter()
                .find(|line| line["request_id"] == id.as_str())
        },
    );
    let get = Request::new("GET", "/").send(edge.public);
    assert_eq!(get.header("content-type"), Some("application/problem+json"));
    assert_eq!(
        (get.status, get.json()["reason"].as_str()),
        (404, Some("no_route"))
    );
}

#[test]
fn a_modern_404_carries_the_modern_code_so_that_clients_do_not_fall_back() {
    let edge = edge();
    let answer = Request::post("/mcp/other", rpc(7, "tools/list", json!({})))
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", "tools/list")
        .send(edge.public);
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_i64()),
        (404, Some(-32601))
    );
}

#[test]
fn other_methods_are_405_with_allow() {
    let edge = edge();
    for method in ["PUT", "PATCH", "OPTIONS"] {
        let answer = Request::new(method, "/mcp/demo").send(edge.public);
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, POST, DELETE")),
            "{method}"
        );
        assert_eq!(answer.reason(), "method_not_allowed");
    }
}

#[test]
fn unreadable_json_is_400() {
    let edge = edge();
    let answer = Request::post("/mcp/demo", "{\"jsonrpc\": ").send(edge.public);
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_i64()),
        (400, Some(-32700)),
        "{answer:?}"
    );
}

#[test]
fn another_content_type_is_415() {
    let edge = edge();
    let request = Request::new("POST", "/mcp/demo")
        .header("Content-Type", "text/plain")
        .body(initialize_body("2025-11-25"));
    assert_eq!(request.send(edge.public).status, 415);
}

#[test]
fn a_body_over_the_limit_is_413_declared_or_not() {
    let edge =
        Edge::start(&anonymous(&demo("demo", "")).replace("  drain: 5s", "  drain: 5s\n  max_body: 100KB"));
    let body = rpc(
        3,
        "tools/call",
        json!({"name": "echo", "arguments": {"text": "x".repeat(200_000)}}),
    );
    let declared = Request::post("/mcp/demo", body.clone()).send(edge.public);
    assert_eq!(
        (declared.status, declared.reason().as_str()),
        (413, "body_too_large")
    );
    let chunked = Request::post("/mcp/demo", body).chunked(8_000).send(edge.public);
    assert_eq!(
        (chunked.status, chunked.reason().as_str()),
        (413, "body_too_large")
    );
}

#[test]
fn headers_over_the_limit_are_431() {
    let edge = edge();
    let answer = Request::post("/mcp/demo", rpc(1, "ping", json!({})))
        .header("X-Long", &"x".repeat(40_000))
        .send(edge.public);
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (431, "headers_too_large")
    );
}

#[test]
fn an_unknown_session_is_404_and_a_missing_one_400() {
    let edge = edge();
    let unknown = Request::post("/mcp/demo", rpc(1, "tools/list", json!({})))
        .header("Mcp-Session-Id", "deadbeef.notasessionofours")
        .send(edge.public);
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let missing = Request::post("/mcp/demo", rpc(1, "tools/list", json!({}))).send(edge.public);
    assert_eq!(missing.status, 400, "{missing:?}");
}

#[test]
fn the_errors_id_is_the_requests_and_the_tracking_id_is_kept() {
    let edge = edge();
    let session = Session::open(edge.public, "/mcp/demo");
    let unknown = session
        .post(&rpc("a\"b", "no/such", json!({})))
        .header("X-Request-Id", "trace-1")
        .send(edge.public);
    assert_eq!((unknown.status, &unknown.json()["id"]), (200, &json!("a\"b")));
    assert_eq!(unknown.json()["error"]["code"], -32601);
    assert_eq!(unknown.header("x-request-id"), Some("trace-1"));
    let made = session.post(&rpc(1, "ping", json!({}))).send(edge.public);
    assert!(made.header("x-request-id").is_some_and(|id| id.len() > 8));
}

#[test]
fn a_refusal_before_the_body_was_read_closes_the_connection() {
    let edge =
        Edge::start(&anonymous(&demo("demo", "")).replace("  drain: 5s", "  drain: 5s\n  max_body: 100KB"));
    let mut connection = Connection::open(edge.public);
    let smuggled = "POST /mcp/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\nGET /mcp/other HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.write(smuggled.as_bytes());
    let all = String::from_utf8(connection.drain()).unwrap();
    assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{all}");
    assert!(all.starts_with("HTTP/1.1 413"), "{all}");
}
