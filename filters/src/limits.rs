//! Size limits: the cheapest refusal comes first.
//!
//! Invariant: nothing behind this filter sees a request whose head is over the configured size,
//! whose declared body is over its service's limit, or whose routing headers can be read in two ways.
//! (A body that declares no length is counted while it streams, by the proxy.)

use std::collections::HashMap;

use async_trait::async_trait;

use crate::chain::Filter;
use crate::ids::ServiceName;
use crate::reason::Reason;
use crate::request::Request;
use crate::verdict::{Reply, Verdict};

/// Sizes in bytes, counts in lines.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// All header names and values together.
    pub max_header_bytes: usize,
    /// Header lines.
    pub max_headers: usize,
    /// The request target: path and query.
    pub max_target_bytes: usize,
    /// A declared body, for services without an own limit.
    pub max_body_bytes: u64,
    /// A declared body, by service.
    pub max_body_by_service: HashMap<ServiceName, u64>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            max_target_bytes: 8 * 1024,
            max_body_bytes: 16 * 1024 * 1024,
            max_body_by_service: HashMap::new(),
        }
    }
}

/// The filter.
#[derive(Debug)]
pub struct Limits(LimitsConfig);

impl Limits {
    /// A filter with these limits.
    pub fn new(config: LimitsConfig) -> Self {
        Self(config)
    }

    /// The largest body of a service in bytes, also for bodies that are counted while they stream.
    pub fn max_body(&self, service: &ServiceName) -> u64 {
        self.0
            .max_body_by_service
            .get(service)
            .copied()
            .unwrap_or(self.0.max_body_bytes)
    }

    fn check(&self, req: &Request) -> Result<(), Reply> {
        let refuse = |reason, message: String| Err(Reply::new(reason, message));
        let limits = &self.0;
        if req.target_bytes > limits.max_target_bytes {
            let max = limits.max_target_bytes;
            return refuse(
                Reason::UriTooLong,
                format!("the request target is longer than {max} bytes"),
            );
        }
        if req.header_bytes > limits.max_header_bytes {
            let max = limits.max_header_bytes;
            return refuse(
                Reason::HeadersTooLarge,
                format!("the headers are larger than {max} bytes"),
            );
        }
        if req.header_count > limits.max_headers {
            let max = limits.max_headers;
            return refuse(
                Reason::HeadersTooLarge,
                format!("there are more than {max} headers"),
            );
        }
        if req.ambiguous {
            let message = "Host, Origin or Content-Length was sent more than once; send each at most once";
            return Err(Reply::new(Reason::BadRequest, message));
        }
        let max = self.max_body(&req.service);
        if req.content_length.is_some_and(|length| length > max) {
            return refuse(
                Reason::BodyTooLarge,
                format!("the body is larger than {max} bytes"),
            );
        }
        Ok(())
    }
}

#[async_trait]
impl Filter for Limits {
    fn name(&self) -> &'static str {
        "limits"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        match self.check(req) {
            Ok(()) => Verdict::Continue,
            Err(reply) => reply.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(LimitsConfig {
            max_header_bytes: 1000,
            max_headers: 10,
            max_target_bytes: 50,
            max_body_bytes: 100,
            max_body_by_service: HashMap::from([("big".into(), 200)]),
        })
    }

    fn reason(change: impl FnOnce(&mut Request)) -> Option<Reason> {
        let mut req = Request::new("r".into(), http::Method::POST, "/mcp/files", "files".into());
        change(&mut req);
        limits().check(&req).err().map(|reply| reply.reason)
    }

    #[test]
    fn what_is_at_the_limit_passes_and_one_more_does_not() {
        assert_eq!(reason(|r| r.target_bytes = 50), None);
        assert_eq!(reason(|r| r.target_bytes = 51), Some(Reason::UriTooLong));
        assert_eq!(reason(|r| r.header_bytes = 1000), None);
        assert_eq!(reason(|r| r.header_bytes = 1001), Some(Reason::HeadersTooLarge));
        assert_eq!(reason(|r| r.header_count = 10), None);
        assert_eq!(reason(|r| r.header_count = 11), Some(Reason::HeadersTooLarge));
        assert_eq!(reason(|r| r.content_length = Some(100)), None);
        assert_eq!(
            reason(|r| r.content_length = Some(101)),
            Some(Reason::BodyTooLarge)
        );
        assert_eq!(reason(|r| r.ambiguous = true), Some(Reason::BadRequest));
    }

    #[test]
    fn a_service_may_have_its_own_body_limit() {
        let big = |length| reason(|r| (r.service, r.content_length) = ("big".into(), Some(length)));
        assert_eq!(big(200), None);
        assert_eq!(big(201), Some(Reason::BodyTooLarge));
    }
}
