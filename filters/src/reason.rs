//! Why the edge answers itself.
//!
//! Invariant: every reason is a variant of [`Reason`], and its status and stable name stand in one
//! table, here.

use http::StatusCode;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $status:literal $name:literal;)*) => {
        /// Why the edge answered itself (design, "What the edge answers itself"). The names are part
        /// of the interface: clients and dashboards match on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The HTTP status as a number.
            const fn code(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The stable name, `error.data.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// Framing, two Authorization headers, unreadable JSON-RPC.
    BadRequest 400 "bad_request";
    /// A header that the modern era requires is missing or malformed.
    HeaderMismatch 400 "header_mismatch";
    /// No token, and none may be left out.
    TokenMissing 401 "token_missing";
    /// A token that does not verify.
    TokenInvalid 401 "token_invalid";
    /// A good token, too old.
    TokenExpired 401 "token_expired";
    /// The token's client session idled out.
    SessionExpired 401 "session_expired";
    /// The token's client session was ended.
    SessionRevoked 401 "session_revoked";
    /// An `Origin` or `Host` that is not allowed.
    OriginDenied 403 "origin_denied";
    /// The service is not for this client.
    ServiceDenied 403 "service_denied";
    /// The tool is not for this client.
    ToolDenied 403 "tool_denied";
    /// The token lacks a scope.
    ScopeMissing 403 "scope_missing";
    /// No such service.
    NoRoute 404 "no_route";
    /// The path does not take this method.
    MethodNotAllowed 405 "method_not_allowed";
    /// `Accept` leaves no form to answer in.
    NotAcceptable 406 "not_acceptable";
    /// The request did not arrive in time.
    RequestTimeout 408 "request_timeout";
    /// The body is over the limit.
    BodyTooLarge 413 "body_too_large";
    /// The request target is over the limit.
    UriTooLong 414 "uri_too_long";
    /// The body is no JSON.
    UnsupportedMediaType 415 "unsupported_media_type";
    /// Over the client's rate.
    RateLimited 429 "rate_limited";
    /// Over the client's concurrency.
    TooManyConcurrent 429 "too_many_concurrent";
    /// The queue has no place left.
    QueueFull 429 "queue_full";
    /// The headers are over the limit.
    HeadersTooLarge 431 "headers_too_large";
    /// A defect of the edge.
    Internal 500 "internal";
    /// Connect, reset or bad framing, after retries.
    UpstreamFailed 502 "upstream_failed";
    /// The service's breaker is open.
    CircuitOpen 503 "circuit_open";
    /// No replica is healthy.
    NoHealthyUpstream 503 "no_healthy_upstream";
    /// The wait in the queue was over its limit.
    QueueTimeout 503 "queue_timeout";
    /// No server process can be started now.
    NoProcess 503 "no_process";
    /// The server's memory is gone.
    ServerRestarted 503 "server_restarted";
    /// The token issuer's keys cannot be fetched.
    KeysUnavailable 503 "keys_unavailable";
    /// The edge is stopping.
    Draining 503 "draining";
    /// The service is starting.
    Starting 503 "starting";
    /// First byte or idle limit passed.
    UpstreamTimeout 504 "upstream_timeout";
}

impl Reason {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether waiting helps: these replies always carry `Retry-After` (at least 1 s).
    pub fn is_temporary(self) -> bool {
        matches!(self.code(), 429 | 503)
    }

    /// The JSON-RPC code: the HTTP status, which is outside the reserved range; for modern traffic
    /// 400 and 404 are the codes of the specification (2026-07-28, streamable-http, "Server
    /// Validation" and "Protocol Version Header").
    pub(crate) fn rpc_code(self, modern: bool) -> i32 {
        match (self, self.code()) {
            (Self::HeaderMismatch, _) if modern => -32020,
            (_, 400) if modern => -32602,
            (_, 404) if modern => -32601,
            (_, status) => i32::from(status),
        }
    }

    /// The OAuth error code (RFC 6750 section 3.1) for `WWW-Authenticate`.
    pub(crate) fn oauth_error(self) -> Option<&'static str> {
        match self {
            Self::TokenInvalid | Self::TokenExpired | Self::SessionExpired | Self::SessionRevoked => {
                Some("invalid_token")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn reasons_have_distinct_snake_case_names_and_error_statuses() {
        let names: HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(
                reason
                    .as_str()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            assert_eq!(reason.status().as_u16(), reason.code());
            assert!(reason.status().is_client_error() || reason.status().is_server_error());
        }
    }
}
