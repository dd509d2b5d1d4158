//! `timeouts`: first byte, idle and total, of the service and of the route, each seen by a client of a stuck server.

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;
use support::http::Request;
use support::mcp::rpc;
use support::upstream::Upstream;
use support::{Edge, anonymous, fixed};

fn ping(path: &str) -> Request {
    Request::post(path, rpc(5, "tools/list", json!({})))
}

/// Sends a head and an event every `pause`, for a minute at most.
fn ticking(pause: Duration) -> Upstream {
    Upstream::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut alive = stream.write_all(head.as_bytes()).is_ok();
        for _ in 0..600 {
            alive = alive && stream.write_all(b"8\r\n: tick\n\n\r\n").is_ok();
            if !alive {
                break;
            }
            std::thread::sleep(pause);
        }
        false
    })
}

#[test]
fn no_first_byte_in_time_is_504() {
    let stuck = Upstream::start(|_, _| {
        std::thread::sleep(Duration::from_secs(60));
        false
    });
    let limits = "timeouts: {first_byte: 500ms, idle: 50s, total: 55s}";
    let edge = Edge::start(&anonymous(&fixed("far", stuck.address, limits)));
    let answer = ping("/mcp/far").send(edge.public);
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (504, "upstream_timeout")
    );
    assert_eq!(answer.json()["id"], 5);
    assert!(answer.text().contains("first_byte"), "{}", answer.text());
}

#[test]
fn first_byte_does_not_cut_a_stream_that_pauses_longer() {
    let upstream = ticking(Duration::from_millis(900));
    let limits = "timeouts: {first_byte: 300ms, idle: 20s, total: 55s}";
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, limits)));
    let mut stream = ping("/mcp/far").open(edge.public);
    let start = Instant::now();
    stream.read_chunks(3);
    assert!(
        start.elapsed() > Duration::from_secs(1),
        "three events cannot be here so soon"
    );
}

#[test]
fn a_silent_stream_is_cut_after_the_idle_limit() {
    let upstream = ticking(Duration::from_secs(60));
    let limits = "timeouts: {first_byte: 400ms, idle: 500ms, total: 55s}";
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, limits)));
    let stream = ping("/mcp/far").open(edge.public);
    assert!(stream.is_cut());
}

#[test]
fn the_total_ends_even_a_lively_stream_and_a_route_may_say_so() {
    let upstream = ticking(Duration::from_millis(50));
    let routes = "routes: [{match: {path: /short}, service: far, timeouts: {total: 700ms}}, {match: {path: \"/mcp/{service}\"}}]";
    let auth = "auth: {anonymous: {tier: enterprise}}";
    let edge = Edge::start(&support::config(
        auth,
        &fixed("far", upstream.address, ""),
        routes,
    ));
    assert!(ping("/short").open(edge.public).is_cut());
    let mut other = ping("/mcp/far").open(edge.public);
    // Twice the other route's limit.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1400) {
        other.read_chunks(1);
    }
}
