//! Pingora's own advisories, tried through this proxy: nothing a client smuggles is taken for a request.

mod support;

use support::http::Connection;
use support::upstream::Upstream;
use support::{Edge, anonymous, fixed};

/// Sends raw bytes; returns everything that comes back, and the requests that reached the upstream.
fn attack(bytes: &[u8]) -> (String, Vec<String>) {
    let upstream = Upstream::echoing();
    let edge = Edge::start(&anonymous(&fixed("far", upstream.address, "")));
    let mut connection = Connection::open(edge.public);
    connection.write(bytes);
    connection.set_read_timeout(std::time::Duration::from_secs(3));
    let back = String::from_utf8_lossy(&connection.drain()).into_owned();
    (back, upstream.seen().into_iter().map(|seen| seen.head).collect())
}

#[test]
fn bytes_after_an_upgrade_request_are_no_request_cve_2026_2833() {
    let (back, seen) = attack(
        b"GET /mcp/far HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nGET /mcp/far?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert!(
        seen.iter()
            .all(|head| !head.contains("upgrade: foo") && !head.contains("smuggled")),
        "{seen:?}\n{back}"
    );
    assert!(seen.len() <= 2, "{seen:?}");
}

#[test]
fn http_1_0_with_transfer_encoding_is_not_two_requests_cve_2026_2835() {
    let (back, seen) = attack(
        b"POST /mcp/far HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET /mcp/far HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: 1\r\n\r\n",
    );
    assert!(
        seen.iter().all(|head| !head.contains("x-smuggled")),
        "{seen:?}\n{back}"
    );
}

#[test]
fn two_lengths_are_refused() {
    let (back, seen) = attack(
        b"POST /mcp/far HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    );
    assert!(back.starts_with("HTTP/1.1 400"), "{back}");
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn a_length_and_chunks_together_are_refused_or_framed_once() {
    let (back, seen) = attack(
        b"POST /mcp/far HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /mcp/far HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: 1\r\nConnection: close\r\n\r\n",
    );
    // RFC 9112 section 6.3: chunked wins or the message is an error; then the connection ends or goes on in frame.
    // What must not happen is a body for one side that is a request for the other.
    for head in &seen {
        assert!(
            !(head.contains("content-length: 4") && head.contains("transfer-encoding")),
            "{head}\n{back}"
        );
    }
}

#[test]
fn two_hosts_are_refused() {
    let (back, seen) = attack(b"GET /mcp/far HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n");
    assert!(back.starts_with("HTTP/1.1 4"), "{back}");
    assert!(seen.is_empty(), "{seen:?}");
}
