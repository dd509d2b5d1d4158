//! The border to the sidecar: its own path and token, who is calling in the edge's words, nothing forged, nothing lost.

mod support;

use serde_json::json;
use support::http::{Connection, Request};
use support::mcp::rpc;
use support::upstream::Upstream;
use support::{Edge, anonymous, fixed};

#[test]
fn the_path_is_the_sidecars_and_the_token_is_the_edges() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&anonymous(&fixed(
        "far",
        upstream.address,
        "token: \"an-upstream-token-of-32-bytes-len\"",
    )));
    let answer = Request::post("/mcp/far/?x=1", rpc(1, "tools/list", json!({})))
        .header("X-Request-Id", "trace-9")
        .header("Mcp-Session-Id", "played00.abc")
        .header("MCP-Protocol-Version", "2025-06-18")
        .header("Last-Event-ID", "4-2")
        .header("Mcp-Param-Region", "eu")
        .send(edge.public);
    assert_eq!(answer.status, 200, "{answer:?}");
    let [seen] = &upstream.seen()[..] else {
        panic!("{:?}", upstream.seen())
    };
    assert!(seen.head.starts_with("post /mcp http/1.1\n"), "{}", seen.head);
    assert_eq!(
        seen.header("authorization"),
        Some("bearer an-upstream-token-of-32-bytes-len")
    );
    assert_eq!(seen.header("x-mcp-edge-request-id"), Some("trace-9"));
    assert_eq!(seen.header("x-mcp-edge-client"), Some("anonymous/anonymous"));
    assert_eq!(seen.header("x-mcp-edge-tier"), Some("enterprise"));
    for (name, value) in [
        ("mcp-session-id", "played00.abc"),
        ("mcp-protocol-version", "2025-06-18"),
        ("last-event-id", "4-2"),
        ("mcp-param-region", "eu"),
        ("accept", "application/json, text/event-stream"),
    ] {
        assert_eq!(seen.header(name), Some(value));
    }
    assert_eq!(seen.body, rpc(1, "tools/list", json!({})).as_bytes());
}

#[test]
fn a_client_cannot_pose_as_the_edge() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, "")));
    Request::post("/mcp/far", rpc(1, "ping", json!({})))
        .header("X-Mcp-Edge-Client", "mcp-edge/root")
        .header("x-mcp-edge-anything", "x")
        .send(edge.public);
    let seen = &upstream.seen()[0];
    assert_eq!(seen.head.matches("x-mcp-edge-client").count(), 1);
    assert_eq!(seen.header("x-mcp-edge-client"), Some("anonymous/anonymous"));
    assert_eq!(seen.header("x-mcp-edge-anything"), None);
}

#[test]
fn method_and_name_of_a_legacy_request_are_what_its_body_says() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, "")));
    Request::post(
        "/mcp/far",
        rpc(1, "tools/call", json!({"name": "drop_tables", "arguments": {}})),
    )
    .header("Mcp-Method", "ping")
    .header("Mcp-Name", "harmless")
    .send(edge.public);
    let seen = &upstream.seen()[0];
    assert_eq!(
        (seen.header("mcp-method"), seen.header("mcp-name")),
        (Some("tools/call"), Some("drop_tables"))
    );
}

#[test]
fn hop_by_hop_headers_go_no_further() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, "")));
    Request::post("/mcp/far", rpc(1, "ping", json!({})))
        .header("Connection", "close, X-Private")
        .header("X-Private", "1")
        .header("Keep-Alive", "timeout=5")
        .header("TE", "trailers")
        .header("Proxy-Authorization", "Basic eDp5")
        .send(edge.public);
    let seen = &upstream.seen()[0];
    for name in ["x-private", "keep-alive", "te", "proxy-authorization"] {
        assert_eq!(seen.header(name), None, "{name}: {}", seen.head);
    }
}

#[test]
fn the_outcome_header_is_for_the_edge_alone() {
    use std::io::Write;
    let upstream = Upstream::start(|_, stream| {
        let body = r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}"#;
        stream
            .write_all(&support::upstream::ok(
                body,
                "X-Mcp-Edge-Outcome: tool_error\r\nX-Kept: yes\r\n",
            ))
            .is_ok()
    });
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, "")));
    let answer = Request::post("/mcp/far", rpc(1, "tools/call", json!({"name": "x"}))).send(edge.public);
    assert_eq!(
        (answer.header("x-mcp-edge-outcome"), answer.header("x-kept")),
        (None, Some("yes"))
    );
    let line = support::eventually("the access log", || edge.access_log().into_iter().next());
    assert_eq!(
        (&line["outcome"], &line["name"], &line["service"]),
        (&json!("tool_error"), &json!("x"), &json!("far"))
    );
}

#[test]
fn one_client_connection_carries_many_requests() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, "")));
    let mut connection = Connection::open(edge.public);
    for _ in 0..10 {
        let answer = connection.request(&Request::post("/mcp/far", rpc(1, "ping", json!({}))));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(upstream.seen().len(), 10);
}
