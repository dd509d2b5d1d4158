//! One request as the filters see it: owned parts, cheap to make, no proxy type.
//!
//! A filter may wait, and the wait is raced against the client leaving; so nothing here borrows
//! from the connection, and dropping the `Request` gives back everything that was taken for it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::call::{Call, Era};
use crate::ids::{Principal, RequestId, ServiceName, TierName};
use crate::permit::Permits;
use crate::reason::Reason;
use crate::verdict::RpcContext;

/// A JSON-RPC id as the client wrote it (a JSON string or number), to be put into an error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJson(Box<str>);

impl RawJson {
    /// Longest id that is sent back.
    const MAX: usize = 256;

    /// Accepts one JSON string or number (MCP: ids are strings or integers, never null) of at most
    /// 256 bytes, so that a reply cannot be made to carry anything else.
    pub fn id(text: &str) -> Option<Self> {
        if text.len() > Self::MAX {
            return None;
        }
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        (value.is_string() || value.is_number()).then(|| Self(text.trim().into()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who is calling: a client of an issuer, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `iss`, or `anonymous`.
    pub issuer: Arc<str>,
    /// `client_id`, else `sub`.
    pub id: Arc<str>,
    /// `issuer/id`: the key of every per-client rule.
    pub principal: Principal,
    /// The tier in force for this request.
    pub tier: TierName,
    /// Scopes the token grants, in its order.
    pub scopes: Arc<[Box<str>]>,
    /// The client session that the token is bound to.
    pub session_id: Option<Arc<str>>,
    /// `iat` of the token, seconds since 1970. A revoked subject's older tokens are refused by it.
    pub token_iat: Option<u64>,
    /// `exp` of the token, seconds since 1970; `None` for anonymous requests.
    pub token_exp: Option<u64>,
}

/// One request. The adapter fills the public fields; filters add what stands below "added".
pub struct Request {
    /// Tracking id.
    pub id: RequestId,
    /// HTTP method.
    pub method: Method,
    /// Path without the query.
    pub path: Arc<str>,
    /// Bytes of the request target (path and query) as sent.
    pub target_bytes: usize,
    /// The service that the route chose.
    pub service: ServiceName,
    /// Every `Authorization` header, as sent.
    pub authorization: Vec<HeaderValue>,
    /// `Origin`, if sent. Several make the adapter send the first and set [`Self::ambiguous`].
    pub origin: Option<HeaderValue>,
    /// `Host` (HTTP/1.1) or `:authority` (HTTP/2).
    pub host: Option<HeaderValue>,
    /// The client sent several `Host`, `Origin` or `Content-Length` headers: refused by `limits`.
    pub ambiguous: bool,
    /// Declared body length in bytes.
    pub content_length: Option<u64>,
    /// Bytes of all header names and values.
    pub header_bytes: usize,
    /// Number of header lines.
    pub header_count: usize,
    /// The peer of the connection.
    pub peer: IpAddr,
    /// Whether the listener that took the connection is bound to a loopback address.
    pub listener_loopback: bool,
    /// The client's protocol family.
    pub era: Era,
    /// What is asked.
    pub call: Call,
    /// The path speaks JSON-RPC, so errors are JSON-RPC errors.
    pub is_rpc: bool,
    /// The id for error replies, when it was read.
    pub rpc_id: Option<RawJson>,
    /// A stream that lives as long as the client wants: GET with `text/event-stream`, or
    /// `subscriptions/listen`.
    pub wants_stream: bool,
    /// How long the client says it will wait at all.
    pub max_wait: Option<Duration>,

    /// Added by `jwt_auth`: who is calling.
    pub identity: Option<Arc<Identity>>,
    /// Added by any filter: guards, given back when the request ends.
    pub permits: Permits,
    /// Added by any filter: headers for the response, whoever makes it.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Added by waiting filters: time spent in queues. Part of the latency that a client sees.
    pub waited: Duration,

    /// How many filters of the chain have seen this request.
    pub(crate) seen: usize,
}

impl Request {
    /// A bare GET-less request from loopback; the adapter (or test) sets the fields it knows.
    pub fn new(id: RequestId, method: Method, path: impl Into<Arc<str>>, service: ServiceName) -> Self {
        let path = path.into();
        Self {
            id,
            method,
            target_bytes: path.len(),
            path,
            service,
            authorization: Vec::new(),
            origin: None,
            host: None,
            ambiguous: false,
            content_length: None,
            header_bytes: 0,
            header_count: 0,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener_loopback: false,
            era: Era::Legacy,
            call: Call::NotRpc,
            is_rpc: true,
            rpc_id: None,
            wants_stream: false,
            max_wait: None,
            identity: None,
            permits: Permits::default(),
            response_headers: Vec::new(),
            waited: Duration::ZERO,
            seen: 0,
        }
    }

    /// How an error for this request is written.
    pub fn rpc_context(&self) -> RpcContext<'_> {
        RpcContext {
            is_rpc: self.is_rpc,
            id: self.rpc_id.as_ref(),
            modern: self.era == Era::Modern,
        }
    }
}

/// What is known of the answer before its body.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status from the upstream.
    pub status: StatusCode,
    /// The body is `text/event-stream`.
    pub event_stream: bool,
    /// `x-mcp-edge-outcome` as the sidecar sent it.
    pub mcp_outcome: Option<HeaderValue>,
    /// From the request being sent upstream to the response head.
    pub first_byte: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The upstream's answer was passed on to its end.
    Complete,
    /// A filter or the router answered.
    Refused(Reason),
    /// The upstream failed, before or while it answered.
    UpstreamFailed(Reason),
    /// The client left first.
    ClientGone,
}

/// The end of a request, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Status that the client was sent, if one was.
    pub status: Option<StatusCode>,
    /// How it ended.
    pub end: End,
    /// From arrival to end, queue time included.
    pub elapsed: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_string_or_a_number_is_an_id() {
        for good in ["1", "-7", "\"a\\u0022b\"", " 3 ", "12345678901234567890123"] {
            assert_eq!(
                RawJson::id(good).map(|id| id.as_str().to_owned()).as_deref(),
                Some(good.trim())
            );
        }
        let long = format!("\"{}\"", "x".repeat(300));
        for bad in ["", "null", "true", "{}", "[1]", "1,\"x\":2", "\"", &long] {
            assert_eq!(RawJson::id(bad), None, "{bad}");
        }
    }
}
