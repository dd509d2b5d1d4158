//! Which endpoint a request goes to, and what its sidecar is told.
//!
//! Invariant: a sidecar sees the edge's token and never the client's; who is calling is said by the edge alone.

use std::hash::Hasher;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, EXPECT};
use http::{HeaderName, HeaderValue};
use mcp_edge_filters::{Call, Era, Message, Request};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, OrErr, Result};
use xxhash_rust::xxh3::Xxh3;

use super::inbound::REQUEST_ID;
use super::router::{MCP_PATH, Matched};
use crate::upstream::{Endpoint, EndpointAddr};

const CLIENT: HeaderName = HeaderName::from_static("x-mcp-edge-client");
const TIER: HeaderName = HeaderName::from_static("x-mcp-edge-tier");
const SESSION: HeaderName = HeaderName::from_static("x-mcp-edge-session");
const EDGE_REQUEST_ID: HeaderName = HeaderName::from_static("x-mcp-edge-request-id");

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// A sidecar is on this machine or next to it: what does not connect by now will not.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(2);

/// A sidecar that takes no bytes for this long is stuck.
const WRITE: std::time::Duration = std::time::Duration::from_secs(30);

/// Kept connections are dropped before anything between here and a sidecar may have forgotten them.
const KEEP: std::time::Duration = std::time::Duration::from_secs(55);

/// Pingora's description of an endpoint, with the limits of the request.
///
/// # Errors
/// The socket's path is too long for the system.
pub(super) fn peer(endpoint: &Endpoint, matched: &Matched) -> Result<HttpPeer> {
    let mut peer = match endpoint.addr() {
        EndpointAddr::Tcp(address) => HttpPeer::new(*address, false, String::new()),
        EndpointAddr::Unix(path) => {
            let path = path
                .to_str()
                .ok_or_else(|| Error::explain(ErrorType::InternalError, "the socket's path is not UTF-8"))?;
            HttpPeer::new_uds(path, false, String::new())?
        }
    };
    // A new incarnation listens at the old address: a connection kept from the old one must not be used for it.
    peer.group_key = incarnation(endpoint);
    if let Some(options) = peer.get_mut_peer_options() {
        options.connection_timeout = Some(CONNECT);
        options.total_connection_timeout = Some(CONNECT);
        options.write_timeout = Some(WRITE);
        options.idle_timeout = Some(KEEP);
        // Between two reads. The first byte has its own, see `deadline`; this must not cut it short.
        options.read_timeout = Some(matched.timeouts.idle.max(matched.timeouts.first_byte));
    }
    Ok(peer)
}

fn incarnation(endpoint: &Endpoint) -> u64 {
    let mut hash = Xxh3::new();
    hash.write(endpoint.id().as_str().as_bytes());
    hash.finish()
}

/// Makes a client's request head the edge's own.
///
/// # Errors
/// A value that no header can carry: the names were checked, so a defect.
pub(super) fn rewrite(head: &mut RequestHeader, endpoint: &Endpoint, request: &Request) -> Result<()> {
    head.set_uri(http::Uri::from_static(MCP_PATH));
    head.remove_header(&AUTHORIZATION);
    // Answered here already, see `body`.
    head.remove_header(&EXPECT);
    if let Some(token) = endpoint.authorization() {
        head.insert_header(AUTHORIZATION, token.clone())?;
    }
    if request.era == Era::Legacy {
        say_what_is_asked(head, request)?;
    }
    let id = header_value(request.id.as_str())?;
    head.insert_header(REQUEST_ID, id.clone())?;
    head.insert_header(EDGE_REQUEST_ID, id)?;
    if let Some(identity) = &request.identity {
        head.insert_header(CLIENT, header_value(identity.principal.as_str())?)?;
        head.insert_header(TIER, header_value(identity.tier.as_str())?)?;
        if let Some(session) = &identity.session_id {
            head.insert_header(SESSION, header_value(session)?)?;
        }
    }
    Ok(())
}

/// A legacy client's own `Mcp-Method` and `Mcp-Name` mean nothing; what was read from its body does, and the sidecar
/// refuses a body that says otherwise.
fn say_what_is_asked(head: &mut RequestHeader, request: &Request) -> Result<()> {
    head.remove_header(&METHOD);
    head.remove_header(&NAME);
    let Call::Single(message) = &request.call else {
        return Ok(());
    };
    if let Some(method) = message.method() {
        head.insert_header(METHOD, header_value(method)?)?;
    }
    if let Message::Request { name: Some(name), .. } = message {
        head.insert_header(NAME, mcp_name(name))?;
    }
    Ok(())
}

/// `Mcp-Name` as 2026-07-28 writes it (streamable-http, "Value Encoding"): plain where that is safe, else base64.
fn mcp_name(name: &str) -> String {
    let plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && name.trim() == name
        && !name.starts_with("=?");
    if plain && !name.is_empty() {
        name.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(name))
    }
}

fn header_value(text: &str) -> Result<HeaderValue> {
    // Ids of outside issuers may hold anything that JSON can; what no header can carry is percent-encoded, which
    // keeps two different names different because a percent sign is encoded as well.
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if text.bytes().all(plain) {
        return HeaderValue::from_str(text)
            .or_err(ErrorType::InternalError, "a name that no header can carry");
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::try_from(encoded).map_err(|_| Error::new(ErrorType::InternalError))
}

#[cfg(test)]
mod tests {
    use super::header_value;

    #[test]
    fn different_names_stay_different_headers() {
        assert_eq!(header_value("mcp-edge/codex").unwrap(), "mcp-edge/codex");
        assert_eq!(header_value("idp/a\nb").unwrap(), "idp/a%0Ab");
        assert_eq!(header_value("idp/a%0Ab").unwrap(), "idp/a%250Ab");
        assert_eq!(header_value("idp/ä").unwrap(), "idp/%C3%A4");
    }
}
