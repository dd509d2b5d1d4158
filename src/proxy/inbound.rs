//! A client's headers as the filters see them, and what of them may not go further.
//!
//! Invariant: nothing that a client sends can pose as the edge's own word to a sidecar: `x-mcp-edge-*` is dropped
//! before anything looks at the request, and the client's token never goes upstream.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method};
use mcp_edge_filters::{Era, Reply, Request, RequestId, ServiceName, classify};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::body::Head;

/// Prefix of the headers between edge and sidecar.
pub(super) const EDGE_PREFIX: &str = "x-mcp-edge-";

/// The tracking id of a request, both ways.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// Removes the headers that only the edge may set.
pub(super) fn drop_edge_headers(request: &mut RequestHeader) {
    let forged: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with(EDGE_PREFIX))
        .cloned()
        .collect();
    for name in forged {
        request.remove_header(&name);
    }
}

/// `Host`, or `:authority` on HTTP/2.
pub(super) fn authority(request: &RequestHeader) -> &str {
    let host = request.headers.get(HOST).and_then(|value| value.to_str().ok());
    host.or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default()
}

/// The filters' view of a request whose service is known.
pub(super) fn view(
    session: &Session,
    id: RequestId,
    service: ServiceName,
    listener_loopback: bool,
) -> Request {
    let header = session.req_header();
    let headers = &header.headers;
    let mut request = Request::new(id, header.method.clone(), header.uri.path(), service);
    request.target_bytes = header
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    request.authorization = headers.get_all(AUTHORIZATION).iter().cloned().collect();
    request.origin = headers.get(ORIGIN).cloned();
    request.host = authority(header).parse().ok();
    request.ambiguous = [HOST, ORIGIN, CONTENT_LENGTH]
        .iter()
        .any(|name| headers.get_all(name).iter().count() > 1);
    request.content_length = content_length(headers);
    request.header_bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    request.header_count = headers.len();
    request.peer = peer(session);
    request.listener_loopback = listener_loopback;
    request.era = era(headers);
    request.is_rpc = header.method == Method::POST || request.era == Era::Modern;
    request.wants_stream = header.method == Method::GET && accepts_event_stream(headers);
    request
}

/// Fills in what the request asks: from the headers in the modern era, from the body's head in the legacy one.
///
/// # Errors
/// The reply for a form that the era forbids.
pub(super) fn read_call(request: &mut Request, headers: &HeaderMap, body: &Head) -> Result<(), Reply> {
    if request.method != Method::POST {
        return Ok(());
    }
    match request.era {
        Era::Modern => {
            request.rpc_id = classify::rpc_id(&body.bytes);
            request.call = classify::modern(headers)?;
        }
        Era::Legacy => {
            let envelope = classify::legacy(&body.bytes, body.complete)?;
            request.call = envelope.call;
            request.rpc_id = envelope.id;
        }
    }
    request.wants_stream |= request.call.is_subscription();
    Ok(())
}

/// Keeps a sane id that the client sent, else makes one.
pub(super) fn request_id(headers: &HeaderMap) -> RequestId {
    let sent = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    sent.and_then(RequestId::from_client).unwrap_or_else(fresh_id)
}

/// Unique in this process, and in practice among processes: a random start and a count.
fn fresh_id() -> RequestId {
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let start = START.get_or_init(|| getrandom::u64().unwrap_or_else(|_| crate::access_log::now_ms()));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    RequestId::new(format!("{start:016x}-{count:x}"))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// By the version header alone: never by connection, never by what the client did before.
pub(super) fn era(headers: &HeaderMap) -> Era {
    classify::era(
        headers
            .get(PROTOCOL_VERSION)
            .and_then(|value| value.to_str().ok()),
    )
}

fn accepts_event_stream(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.contains("text/event-stream"))
    })
}

fn peer(session: &Session) -> IpAddr {
    // Only a Unix socket has no address, and only this machine can reach one.
    let address = session
        .client_addr()
        .and_then(pingora::protocols::l4::socket::SocketAddr::as_inet);
    address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), std::net::SocketAddr::ip)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ids_differ_and_a_clients_sane_id_is_kept() {
        let mut headers = HeaderMap::new();
        assert_ne!(request_id(&headers), request_id(&headers));
        headers.insert(REQUEST_ID, HeaderValue::from_static("trace-7"));
        assert_eq!(request_id(&headers).as_str(), "trace-7");
        headers.insert(REQUEST_ID, HeaderValue::from_static("two words"));
        assert_ne!(request_id(&headers).as_str(), "two words");
    }

    #[test]
    fn forged_edge_headers_are_dropped() {
        let mut request = RequestHeader::build("POST", b"/mcp/x", None).unwrap();
        request.insert_header("X-Mcp-Edge-Client", "root").unwrap();
        request.insert_header("x-mcp-edge-tier", "enterprise").unwrap();
        request.insert_header("mcp-session-id", "kept").unwrap();
        drop_edge_headers(&mut request);
        let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["mcp-session-id"]);
    }
}
