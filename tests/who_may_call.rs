//! `auth` and `edge.allowed_*`: tokens, their absence, origins and hosts, seen by a client.

mod support;

use std::process::Command;

use serde_json::json;
use support::http::Request;
use support::mcp::rpc;
use support::upstream::Upstream;
use support::{Edge, SECRET, binary, config, fixed};

const AUTH: &str = "auth: {jwt: [{issuer: mcp-edge, algorithms: [HS256], secret: \"${MCP_JWT_SECRET}\", audience: mcp-edge}]}";

fn ping() -> Request {
    Request::post("/mcp/far", rpc(1, "ping", json!({})))
}

fn mint(args: &[&str]) -> String {
    let out = Command::new(binary())
        .args(["token", "mint"])
        .args(args)
        .env("MCP_JWT_SECRET", SECRET)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_minted_token_opens_the_door_and_names_its_client() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&config(AUTH, &fixed("far", upstream.address, ""), ""));
    let token = mint(&["--client", "codex"]);
    let answer = ping()
        .header("Authorization", &format!("Bearer {token}"))
        .send(edge.public);
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = &upstream.seen()[0];
    assert_eq!(seen.header("x-mcp-edge-client"), Some("mcp-edge/codex"));
    assert!(
        !seen.head.contains(&token.to_lowercase()),
        "the token went upstream"
    );
    assert!(!edge.stderr().contains(&token), "the token is in the log");
}

#[test]
fn without_a_good_token_it_is_401_with_a_challenge() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&config(AUTH, &fixed("far", upstream.address, ""), ""));
    let missing = ping().send(edge.public);
    assert_eq!(
        (missing.status, missing.reason().as_str()),
        (401, "token_missing")
    );
    assert!(missing.header("www-authenticate").unwrap().starts_with("Bearer"));
    let bad = ping()
        .header("Authorization", "Bearer e30.e30.e30")
        .send(edge.public);
    assert_eq!((bad.status, bad.reason().as_str()), (401, "token_invalid"));
    let two = ping()
        .header("Authorization", "Bearer a")
        .header("Authorization", "Bearer b")
        .send(edge.public);
    assert_eq!((two.status, two.reason().as_str()), (400, "bad_request"));
    let query = Request::post("/mcp/far?access_token=x", rpc(1, "ping", json!({}))).send(edge.public);
    assert_eq!(query.status, 401);
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_browsers_page_from_elsewhere_is_refused() {
    let upstream = Upstream::echoing();
    let auth = "auth: {anonymous: {tier: enterprise}}";
    let yaml = config(auth, &fixed("far", upstream.address, ""), "").replace(
        "  drain: 5s",
        "  drain: 5s\n  allowed_origins: [\"https://app.example.com\"]\n  allowed_hosts: [mcp.example.com]",
    );
    let edge = Edge::start(&yaml);
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Host", "evil.example"),
    ] {
        let answer = ping().header(name, value).send(edge.public);
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (403, "origin_denied"),
            "{name}: {value}"
        );
    }
    for (name, value) in [
        ("Origin", "https://app.example.com"),
        ("Origin", "http://localhost:6274"),
        ("Host", "mcp.example.com"),
    ] {
        assert_eq!(
            ping().header(name, value).send(edge.public).status,
            200,
            "{name}: {value}"
        );
    }
    assert_eq!(upstream.seen().len(), 3);
}
