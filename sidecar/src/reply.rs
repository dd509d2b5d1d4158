//! What the sidecar itself answers when it cannot pass a message on.
//!
//! One table of reasons: HTTP status, JSON-RPC code, and a stable word for programs. Codes are the HTTP
//! status number, outside the range JSON-RPC reserves, except where the specification fixes a code.

use std::time::Duration;

use serde_json::{Value, json};

use crate::link::Down;
use crate::splice::Payload;

/// Why; the table of the sidecar's own answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    ParseError,
    InvalidRequest,
    BadRequest,
    MetaMissing,
    HeaderMismatch,
    UnsupportedVersion,
    SessionMissing,
    SessionUnknown,
    NoRoute,
    MethodNotAllowed,
    /// The same for modern traffic, which must see a code it knows or it falls back to `initialize`.
    MethodNotAllowedModern,
    NotAcceptable,
    StreamOpen,
    BodyTooLarge,
    UnsupportedMediaType,
    TokenInvalid,
    HostDenied,
    OriginDenied,
    Cancelled,
    TooManySubscriptions,
    Internal,
    AnswerTooLarge,
    ServerRestarting,
    ServerRestarted,
    NoProcess,
    TooManyCalls,
    Draining,
    ServerSilent,
}

impl Reason {
    /// (HTTP status, JSON-RPC code, word).
    fn row(self) -> (u16, i64, &'static str) {
        match self {
            Self::ParseError => (400, -32700, "parse_error"),
            Self::InvalidRequest => (400, -32600, "invalid_request"),
            Self::BadRequest => (400, 400, "bad_request"),
            Self::MetaMissing => (400, -32602, "meta_missing"),
            Self::HeaderMismatch => (400, -32020, "header_mismatch"),
            Self::UnsupportedVersion => (400, -32022, "unsupported_version"),
            Self::SessionMissing => (400, 400, "session_missing"),
            Self::SessionUnknown => (404, 404, "session_unknown"),
            Self::NoRoute => (404, 404, "no_route"),
            Self::MethodNotAllowed => (405, 405, "method_not_allowed"),
            Self::MethodNotAllowedModern => (405, -32601, "method_not_allowed"),
            Self::NotAcceptable => (406, 406, "not_acceptable"),
            Self::StreamOpen => (409, 409, "stream_open"),
            Self::BodyTooLarge => (413, 413, "body_too_large"),
            Self::UnsupportedMediaType => (415, 415, "unsupported_media_type"),
            Self::TokenInvalid => (401, 401, "token_invalid"),
            Self::HostDenied => (403, 403, "host_denied"),
            Self::OriginDenied => (403, 403, "origin_denied"),
            Self::Cancelled => (499, 499, "cancelled"),
            Self::TooManySubscriptions => (429, 429, "too_many_subscriptions"),
            Self::Internal => (500, 500, "internal"),
            Self::AnswerTooLarge => (502, 502, "answer_too_large"),
            Self::ServerRestarting => (503, 503, "server_restarting"),
            Self::ServerRestarted => (503, 503, "server_restarted"),
            Self::NoProcess => (503, 503, "no_process"),
            Self::TooManyCalls => (503, 503, "too_many_calls"),
            Self::Draining => (503, 503, "draining"),
            Self::ServerSilent => (504, 504, "upstream_timeout"),
        }
    }
}

/// One refusal: the reason, the sentence for people, and what a program can do about it.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    reason: Reason,
    message: String,
    retry_after: Option<Duration>,
    data: Vec<(&'static str, Value)>,
}

impl Fault {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
            data: Vec::new(),
        }
    }

    /// Waiting that long helps.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A further member of `error.data`.
    pub(crate) fn with(mut self, key: &'static str, value: Value) -> Self {
        self.data.push((key, value));
        self
    }

    /// The answer to a call whose process is gone.
    pub(crate) fn of_down(down: &Down) -> Self {
        let (reason, after) = match down {
            Down::Restarting { retry_after, .. } => (Reason::ServerRestarting, Some(*retry_after)),
            Down::Idle => (Reason::ServerRestarting, Some(Duration::ZERO)),
            Down::SessionEnded => (Reason::SessionUnknown, None),
            Down::Draining => (Reason::Draining, Some(Duration::from_secs(1))),
            Down::TooManyCalls => (Reason::TooManyCalls, Some(Duration::from_secs(1))),
        };
        Self {
            reason,
            message: down.to_string(),
            retry_after: after,
            data: Vec::new(),
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.reason.row().0
    }

    pub(crate) fn code(&self) -> i64 {
        self.reason.row().1
    }

    /// For the `Retry-After` header: whole seconds, at least one.
    pub(crate) fn retry_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|after| after.as_millis().div_ceil(1000).max(1) as u64)
    }

    /// The JSON-RPC error message; `id` is raw JSON, absent if it was not read.
    pub(crate) fn body(&self, id: Option<&[u8]>) -> Payload {
        let mut data = json!({ "reason": self.reason.row().2 });
        if let Some(members) = data.as_object_mut() {
            if let Some(after) = self.retry_after {
                members.insert("retryAfterMs".into(), json!(after.as_millis() as u64));
            }
            for (key, value) in &self.data {
                members.insert((*key).into(), value.clone());
            }
        }
        let error = json!({ "code": self.code(), "message": self.message, "data": data });
        let id = id.map_or("null".into(), |id| String::from_utf8_lossy(id));
        Payload::from(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_why_and_when_to_retry() {
        let down = Down::Restarting {
            why: "killed by signal 9".into(),
            retry_after: Duration::from_millis(1200),
        };
        let fault = Fault::of_down(&down);
        let body: Value = serde_json::from_slice(&fault.body(Some(b"\"a\"")).parts().concat()).unwrap();
        assert_eq!(body["id"], "a");
        assert_eq!(body["error"]["code"], 503);
        assert_eq!(
            body["error"]["data"],
            json!({"reason": "server_restarting", "retryAfterMs": 1200})
        );
        assert_eq!(fault.retry_seconds(), Some(2));
    }

    #[test]
    fn codes_stay_outside_the_reserved_range_unless_the_specification_names_them() {
        let named = [-32700, -32600, -32601, -32602, -32020, -32022];
        for reason in [
            Reason::BadRequest,
            Reason::SessionMissing,
            Reason::SessionUnknown,
            Reason::NoRoute,
            Reason::MethodNotAllowed,
            Reason::ServerRestarting,
            Reason::NoProcess,
            Reason::Draining,
        ] {
            let (status, code, _) = reason.row();
            assert_eq!(i64::from(status), code);
        }
        for reason in [
            Reason::ParseError,
            Reason::InvalidRequest,
            Reason::MetaMissing,
            Reason::HeaderMismatch,
        ] {
            assert!(named.contains(&reason.row().1));
        }
    }
}
