//! Every metric and every field of the access log moves when its cause happens.

mod support;

use serde_json::json;
use support::http::Request;
use support::mcp::{Session, rpc};
use support::{Edge, anonymous, demo, eventually};

#[test]
fn calls_refusals_and_health_are_counted() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    session.call(1, "echo", json!({"text": "secret argument"}));
    Request::post("/mcp/none", rpc(1, "ping", json!({}))).send(edge.public);
    let calls = r#"mcp_requests_total{code="2xx",method="tools/call",service="demo",tier="enterprise"}"#;
    eventually("the call's count", || (edge.metric(calls)? == 1.0).then_some(()));
    let refused = r#"mcp_request_errors_total{reason="no_route",service="-"}"#;
    eventually("the refusal's count", || {
        (edge.metric(refused)? == 1.0).then_some(())
    });
    assert_eq!(edge.metric(r#"mcp_service_health{service="demo"}"#), Some(1.0));
    assert!(edge.metric(r#"mcp_service_probes{service="demo"}"#).unwrap() >= 1.0);
    assert_eq!(
        edge.metric(r#"mcp_service_endpoints{service="demo",state="healthy"}"#),
        Some(1.0)
    );
    assert_eq!(edge.metric("mcp_edge_requests_under_way"), Some(0.0));
    assert!(edge.metric("mcp_request_duration_seconds_count").unwrap() >= 1.0);
    assert!(edge.metric("mcp_edge_overhead_seconds_count").unwrap() >= 1.0);

    let line = eventually("the call's line", || {
        edge.access_log()
            .into_iter()
            .find(|line| line["method"] == "tools/call")
    });
    for (field, value) in [
        ("client", json!("anonymous/anonymous")),
        ("tier", json!("enterprise")),
        ("service", json!("demo")),
        ("era", json!("legacy")),
        ("http_method", json!("POST")),
        ("path", json!("/mcp/demo")),
        ("name", json!("echo")),
        ("status", json!(200)),
        ("outcome", json!("ok")),
        ("attempts", json!(1)),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(
        line["bytes_in"].as_u64().unwrap() > 50 && line["bytes_out"].as_u64().unwrap() > 50,
        "{line}"
    );
    assert_eq!(line["endpoint"].as_str().unwrap().len(), 8);
    assert!(
        !edge
            .access_log()
            .iter()
            .any(|line| line.to_string().contains("secret argument"))
    );
}

#[test]
fn open_streams_are_under_way() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let stream = session.listen();
    assert_eq!(stream.status, 200);
    assert_eq!(edge.metric("mcp_edge_requests_under_way"), Some(1.0));
    drop(stream);
    eventually("the stream's end", || {
        (edge.metric("mcp_edge_requests_under_way")? == 0.0).then_some(())
    });
}
