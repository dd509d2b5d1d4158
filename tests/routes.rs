//! `routes`: by path prefix, host, header and tags; the first that fits decides.

mod support;

use serde_json::json;
use support::http::Request;
use support::mcp::rpc;
use support::upstream::Upstream;
use support::{Edge, config, fixed};

fn ping(path: &str) -> Request {
    Request::post(path, rpc(1, "ping", json!({})))
}

#[test]
fn each_condition_sends_a_request_where_it_says() {
    let (a, b) = (Upstream::echoing(), Upstream::echoing());
    let services = fixed("a", a.address, "tags: [storage]") + &fixed("b", b.address, "");
    let routes = r#"
routes:
  - {match: {path: /by-host, host: b.localhost}, service: b}
  - {match: {path: /by-header, headers: {x-canary: "yes"}}, service: b}
  - {match: {path: /by-header}, service: a}
  - {match: {path: "/tagged/{service}", tags: [storage]}}
"#;
    let auth = "auth: {anonymous: {tier: enterprise}}";
    let yaml =
        config(auth, &services, routes).replace("  drain: 5s", "  drain: 5s\n  allowed_hosts: [b.localhost]");
    let edge = Edge::start(&yaml);
    let count = || (a.seen().len(), b.seen().len());
    let status = |request: Request| request.send(edge.public).status;

    assert_eq!(status(ping("/by-host").header("Host", "B.localhost:8080")), 200);
    assert_eq!(count(), (0, 1));
    assert_eq!(status(ping("/by-host")), 404);
    assert_eq!(status(ping("/by-header").header("X-Canary", "yes")), 200);
    assert_eq!(count(), (0, 2));
    assert_eq!(status(ping("/by-header").header("X-Canary", "no")), 200);
    assert_eq!(count(), (1, 2));
    assert_eq!(status(ping("/tagged/a")), 200);
    assert_eq!(status(ping("/tagged/b")), 404);
    assert_eq!(count(), (2, 2));
    // Own routes replace the default one.
    assert_eq!(status(ping("/mcp/a")), 404);
    assert_eq!(status(ping("/by-headers")), 404);
}
