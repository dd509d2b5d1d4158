//! What a filter says, and what the client is sent when the edge answers itself.
//!
//! Invariant: every reply is written by [`Reply::render`], so that a client sees one shape.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::reason::Reason;
use crate::request::RawJson;

/// What a filter decided.
#[must_use = "a verdict that is not looked at lets a refused request through"]
#[derive(Debug)]
pub enum Verdict {
    /// Let the request on.
    Continue,
    /// Answer it here. Boxed: the usual verdict is the other one.
    Reply(Box<Reply>),
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// An answer made by the edge.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Why.
    pub reason: Reason,
    /// One sentence for the person who reads it: what, and what to do. Never a secret.
    pub message: Cow<'static, str>,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// Headers beyond the usual ones; they replace the usual one of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// How errors are written for one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RpcContext<'a> {
    /// The path speaks JSON-RPC.
    pub is_rpc: bool,
    /// The request's id, when it was read. Without one the error has no `id` at all, as the
    /// specification's schema wants (never `null`).
    pub id: Option<&'a RawJson>,
    /// The client is of the modern era.
    pub modern: bool,
}

/// A reply, ready to be sent.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers, without `Content-Length`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// A reply with no extra header.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
            headers: Vec::new(),
        }
    }

    /// Says when to come back.
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a header; a value that no header can carry is left out.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// 405 that names the methods which the path takes.
    pub fn method_not_allowed(allowed: &str) -> Self {
        Self::new(Reason::MethodNotAllowed, format!("this path takes {allowed}")).header(ALLOW, allowed)
    }

    /// Writes the reply: a JSON-RPC error where the path speaks JSON-RPC, else
    /// `application/problem+json` (RFC 9457).
    pub fn render(&self, rpc: RpcContext<'_>) -> Rendered {
        let retry_after = self
            .retry_after
            .or(self.reason.is_temporary().then_some(Duration::from_secs(1)));
        Rendered {
            status: self.reason.status(),
            headers: self.all_headers(rpc, retry_after),
            body: if rpc.is_rpc {
                self.rpc_body(rpc, retry_after)
            } else {
                self.problem_body(retry_after)
            },
        }
    }

    fn all_headers(
        &self,
        rpc: RpcContext<'_>,
        retry_after: Option<Duration>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let content_type = if rpc.is_rpc {
            "application/json"
        } else {
            "application/problem+json"
        };
        let mut headers = Vec::with_capacity(self.headers.len() + 4);
        headers.push((CONTENT_TYPE, HeaderValue::from_static(content_type)));
        headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
        headers.extend(self.headers.iter().cloned());
        let has = |name: HeaderName| self.headers.iter().any(|(n, _)| *n == name);
        if let Some(wait) = retry_after
            && !has(RETRY_AFTER)
        {
            headers.push((RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
        }
        match self.reason.status() {
            StatusCode::UNAUTHORIZED if !has(WWW_AUTHENTICATE) => {
                headers.push((WWW_AUTHENTICATE, self.challenge(None)));
            }
            // RFC 9110 section 15.5.6: a 405 names what is allowed.
            StatusCode::METHOD_NOT_ALLOWED if !has(ALLOW) => {
                let allowed = if rpc.modern { "POST" } else { "GET, POST, DELETE" };
                headers.push((ALLOW, HeaderValue::from_static(allowed)));
            }
            _ => {}
        }
        headers
    }

    /// The `WWW-Authenticate` value (RFC 6750 section 3), with `resource_metadata` (RFC 9728 section
    /// 5.1) if OAuth is configured.
    pub fn challenge(&self, resource_metadata: Option<&str>) -> HeaderValue {
        let mut value = String::from("Bearer realm=\"mcp-edge\"");
        if let Some(error) = self.reason.oauth_error() {
            value.push_str(", error=\"");
            value.push_str(error);
            value.push_str("\", error_description=\"");
            // A quoted string (RFC 9110 section 5.6.4) of what RFC 6750 allows here.
            value.extend(
                self.message
                    .chars()
                    .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')),
            );
            value.push('"');
        }
        if let Some(url) = resource_metadata {
            value.push_str(", resource_metadata=\"");
            value.push_str(url);
            value.push('"');
        }
        HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Bearer"))
    }

    fn rpc_body(&self, rpc: RpcContext<'_>, retry_after: Option<Duration>) -> Bytes {
        let mut data = serde_json::Map::new();
        data.insert("reason".into(), self.reason.as_str().into());
        if let Some(wait) = retry_after {
            data.insert("retryAfterMs".into(), whole_millis(wait).into());
        }
        let error = serde_json::json!({
            "code": self.reason.rpc_code(rpc.modern),
            "message": self.message,
            "data": data,
        });
        let id = rpc
            .id
            .map_or_else(String::new, |id| format!("\"id\":{},", id.as_str()));
        Bytes::from(format!("{{\"jsonrpc\":\"2.0\",{id}\"error\":{error}}}"))
    }

    fn problem_body(&self, retry_after: Option<Duration>) -> Bytes {
        let status = self.reason.status();
        let mut problem = serde_json::Map::new();
        problem.insert("type".into(), "about:blank".into());
        problem.insert(
            "title".into(),
            status.canonical_reason().unwrap_or("Error").into(),
        );
        problem.insert("status".into(), status.as_u16().into());
        problem.insert("detail".into(), self.message.as_ref().into());
        problem.insert("reason".into(), self.reason.as_str().into());
        if let Some(wait) = retry_after {
            problem.insert("retryAfterMs".into(), whole_millis(wait).into());
        }
        Bytes::from(serde_json::Value::Object(problem).to_string())
    }
}

/// `Retry-After` in seconds: rounded up, at least 1, so that nobody comes back too early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0))
        .max(1)
}

/// `retryAfterMs`: rounded up, at least 1.
fn whole_millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn body(rendered: &Rendered) -> Value {
        serde_json::from_slice(&rendered.body).unwrap()
    }

    fn header<'a>(rendered: &'a Rendered, name: &str) -> Option<&'a str> {
        rendered
            .headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.to_str().unwrap())
    }

    #[test]
    fn a_legacy_rpc_error_has_the_status_as_code_and_the_clients_id() {
        let id = RawJson::id("\"a\"").unwrap();
        let rpc = RpcContext {
            is_rpc: true,
            id: Some(&id),
            modern: false,
        };
        let sent = Reply::new(Reason::RateLimited, "too fast")
            .after(Duration::from_millis(1200))
            .render(rpc);
        assert_eq!(sent.status, 429);
        assert_eq!(header(&sent, "retry-after"), Some("2"));
        assert_eq!(header(&sent, "content-type"), Some("application/json"));
        assert_eq!(
            body(&sent),
            json!({"jsonrpc": "2.0", "id": "a", "error": {"code": 429, "message": "too fast",
                   "data": {"reason": "rate_limited", "retryAfterMs": 1200}}})
        );
    }

    #[test]
    fn an_unread_id_is_left_out() {
        let sent = Reply::new(Reason::BadRequest, "x").render(RpcContext {
            is_rpc: true,
            ..Default::default()
        });
        assert_eq!(body(&sent).get("id"), None);
    }

    #[test]
    fn modern_errors_use_the_codes_of_the_specification() {
        let rpc = RpcContext {
            is_rpc: true,
            id: None,
            modern: true,
        };
        let code = |reason| body(&Reply::new(reason, "x").render(rpc))["error"]["code"].clone();
        assert_eq!(code(Reason::HeaderMismatch), -32020);
        assert_eq!(code(Reason::BadRequest), -32602);
        assert_eq!(code(Reason::NoRoute), -32601);
        assert_eq!(code(Reason::MethodNotAllowed), 405);
        assert_eq!(code(Reason::QueueTimeout), 503);
    }

    #[test]
    fn other_paths_get_a_problem() {
        let sent = Reply::new(Reason::CircuitOpen, "the service fails").render(RpcContext::default());
        assert_eq!(header(&sent, "content-type"), Some("application/problem+json"));
        assert_eq!(header(&sent, "retry-after"), Some("1"));
        assert_eq!(
            body(&sent),
            json!({"type": "about:blank", "title": "Service Unavailable", "status": 503,
                   "detail": "the service fails", "reason": "circuit_open", "retryAfterMs": 1000})
        );
    }

    #[test]
    fn a_401_challenges_and_a_405_names_methods() {
        let missing = Reply::new(Reason::TokenMissing, "no token").render(RpcContext::default());
        assert_eq!(
            header(&missing, "www-authenticate"),
            Some("Bearer realm=\"mcp-edge\"")
        );
        let expired = Reply::new(Reason::TokenExpired, "expired\" \\ at\n1").render(RpcContext::default());
        assert_eq!(
            header(&expired, "www-authenticate"),
            Some("Bearer realm=\"mcp-edge\", error=\"invalid_token\", error_description=\"expired  at1\"")
        );
        let rpc = RpcContext {
            modern: true,
            ..Default::default()
        };
        let method = Reply::new(Reason::MethodNotAllowed, "x").render(rpc);
        assert_eq!(header(&method, "allow"), Some("POST"));
        let method = Reply::method_not_allowed("GET").render(rpc);
        assert_eq!(header(&method, "allow"), Some("GET"));
    }

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
        assert_eq!(whole_millis(Duration::from_nanos(1_000_001)), 2);
    }
}
