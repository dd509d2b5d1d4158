//! Several replicas: sessions stay where they are, clients spread, a dead replica is out at once, probes are real.

mod support;

use std::collections::BTreeSet;

use serde_json::json;
use support::http::Request;
use support::mcp::{Session, rpc, text};
use support::upstream::Upstream;
use support::{Edge, anonymous, command_line, demo, eventually, fixed, signal};

/// The endpoint part of a session id.
fn endpoint(session: &Session) -> String {
    session.id.split('.').next().unwrap().to_owned()
}

fn sidecars(edge: &Edge) -> Vec<u32> {
    edge.descendants()
        .into_iter()
        .filter(|pid| command_line(*pid).contains(" sidecar "))
        .collect()
}

#[test]
fn sessions_stay_at_their_replica_and_stateless_ones_spread() {
    let edge = Edge::start(&anonymous(&demo(
        "demo",
        "stateless: true, replicas: {min: 2, max: 2}",
    )));
    let sessions: Vec<Session> = (0..16).map(|_| Session::open(edge.public, "/mcp/demo")).collect();
    let used: BTreeSet<String> = sessions.iter().map(endpoint).collect();
    assert_eq!(used.len(), 2, "16 sessions on one of two replicas");
    for (n, session) in (0..).zip(&sessions) {
        // At another replica the session would be unknown.
        assert_eq!(text(&session.call(n, "echo", json!({"text": "x"})).json()), "x");
    }
}

#[test]
fn a_killed_replica_is_replaced_and_its_sessions_are_told_so() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let [sidecar] = sidecars(&edge)[..] else {
        panic!("sidecars: {:?}", sidecars(&edge))
    };
    signal(sidecar, rustix::process::Signal::KILL);
    let renewed = eventually("a new replica", || {
        let answer =
            Request::post("/mcp/demo", support::mcp::initialize_body("2025-11-25")).send(edge.public);
        (answer.status == 200).then(|| answer.header("mcp-session-id").unwrap().to_owned())
    });
    assert_ne!(renewed.split('.').next(), session.id.split('.').next());
    // Never 400, 401 or 502: 404 is what makes a client initialise again.
    assert_eq!(
        session
            .post(&rpc(2, "tools/list", json!({})))
            .send(edge.public)
            .status,
        404
    );
}

#[test]
fn health_checks_reach_the_upstream() {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, "")));
    let counted = eventually("probes", || (upstream.probes() >= 2).then(|| upstream.probes()));
    let endpoint = &edge.health()["services"]["far"]["endpoints"][0];
    assert!(
        endpoint["probes"].as_u64().unwrap() >= 1,
        "{endpoint} after {counted} probes"
    );
    assert_eq!(endpoint["id"], "played00");
}

#[test]
fn a_refused_connection_takes_a_replica_out_and_the_request_goes_elsewhere() {
    // Two addresses, of which nobody listens at one.
    let upstream = Upstream::echoing();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let services = format!(
        "    - {{name: far, stateless: true, upstreams: [\"{}\", \"{nobody}\"]}}\n",
        upstream.address
    );
    let edge = Edge::start(&anonymous(&services));
    for n in 0..20 {
        let answer = Request::post("/mcp/far", rpc(n, "ping", json!({}))).send(edge.public);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(upstream.seen().len(), 20);
}

#[test]
fn nobody_there_is_503_with_the_reason() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let edge = Edge::launch(&anonymous(&fixed("far", nobody, "timeouts: {start: 1s}")), &[]);
    eventually("the verdict", || {
        (edge.health()["services"]["far"]["status"] == "unhealthy").then_some(())
    });
    let answer = Request::post("/mcp/far", rpc(1, "ping", json!({}))).send(edge.public);
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (503, "no_healthy_upstream")
    );
    assert!(answer.header("retry-after").is_some());
    assert!(answer.json()["error"]["data"]["retryAfterMs"].as_u64().unwrap() >= 1000);
}
