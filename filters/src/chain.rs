//! The filters of one config, in order, and how a request passes them.
//!
//! Invariant: the first reply ends the pass; a panic in a filter is a 500 for that request and
//! nothing else; `on_response` and `on_end` reach exactly the filters that saw the request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use crate::reason::Reason;
use crate::request::{Outcome, Request, ResponseHead};
use crate::verdict::{Reply, Verdict};

/// One rule about requests.
#[async_trait]
pub trait Filter: Send + Sync {
    /// The name in logs and metrics.
    fn name(&self) -> &'static str;

    /// Lets the request on, or answers it here. May wait (the queue does); the caller may drop the
    /// future at any await when the client leaves.
    async fn on_request(&self, req: &mut Request) -> Verdict;

    /// The upstream's status and headers are known; the body is not.
    fn on_response(&self, _req: &mut Request, _res: &ResponseHead) {}

    /// The request has ended, however it ended. Metrics only: resources are released by `Drop`.
    fn on_end(&self, _req: &Request, _outcome: &Outcome) {}
}

/// Filters in the order in which a request meets them. Cheap to clone.
#[derive(Clone)]
pub struct Chain(Arc<[Arc<dyn Filter>]>);

impl Chain {
    /// A chain of `filters`, first one first.
    pub fn new(filters: Vec<Arc<dyn Filter>>) -> Self {
        Self(filters.into())
    }

    /// The names of the filters, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|filter| filter.name())
    }

    /// Passes the request through the filters until one replies.
    pub async fn run(&self, req: &mut Request) -> Verdict {
        for filter in self.0.iter() {
            req.seen += 1;
            match guarded(filter.as_ref(), req).await {
                Verdict::Continue => {}
                Verdict::Reply(reply) => {
                    tracing::debug!(filter = filter.name(), reason = reply.reason.as_str(), id = %req.id, "refused");
                    return Verdict::Reply(reply);
                }
            }
        }
        Verdict::Continue
    }

    /// Tells the filters that saw the request about the response head, last one first.
    pub fn on_response(&self, req: &mut Request, res: &ResponseHead) {
        for filter in self.0.iter().take(req.seen).rev() {
            contained(filter.name(), || filter.on_response(req, res));
        }
    }

    /// Tells the filters that saw the request how it ended, last one first.
    pub fn on_end(&self, req: &Request, outcome: &Outcome) {
        for filter in self.0.iter().take(req.seen).rev() {
            contained(filter.name(), || filter.on_end(req, outcome));
        }
    }
}

/// Runs one filter; a panic becomes a 500. What the filter had taken is in `req` or in locals of its
/// future, both of which release by `Drop`, so going on after the panic is safe.
async fn guarded(filter: &dyn Filter, req: &mut Request) -> Verdict {
    let name = filter.name();
    // The call itself is inside the future, so that also a panic before the first await is caught.
    let mut future = pin!(async { filter.on_request(req).await });
    std::future::poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(defect(name)))
    })
    .await
}

fn contained(filter: &'static str, hook: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(hook)).is_err() {
        tracing::error!(filter, "a filter's hook panicked");
    }
}

fn defect(filter: &'static str) -> Verdict {
    tracing::error!(filter, "a filter panicked; its request is answered with 500");
    Reply::new(
        Reason::Internal,
        "the edge has a defect; the request was not sent on",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::End;
    use http::StatusCode;
    use parking_lot::Mutex;
    use std::time::Duration;

    type Log = Arc<Mutex<Vec<String>>>;

    enum Does {
        Pass,
        Refuse,
        Panic,
        PanicLater,
    }

    struct Probe(&'static str, Does, Log);

    #[async_trait]
    impl Filter for Probe {
        fn name(&self) -> &'static str {
            self.0
        }
        async fn on_request(&self, _req: &mut Request) -> Verdict {
            self.2.lock().push(format!("{} request", self.0));
            match self.1 {
                Does::Pass => Verdict::Continue,
                Does::Refuse => Reply::new(Reason::OriginDenied, "no").into(),
                Does::Panic => panic!("defect"),
                Does::PanicLater => {
                    tokio::task::yield_now().await;
                    panic!("defect")
                }
            }
        }
        fn on_response(&self, _req: &mut Request, _res: &ResponseHead) {
            self.2.lock().push(format!("{} response", self.0));
        }
        fn on_end(&self, _req: &Request, _outcome: &Outcome) {
            self.2.lock().push(format!("{} end", self.0));
            if matches!(self.1, Does::Panic) {
                panic!("defect");
            }
        }
    }

    async fn pass(doers: Vec<(&'static str, Does)>) -> (Option<Reason>, Vec<String>) {
        let log = Log::default();
        let chain = Chain::new(
            doers
                .into_iter()
                .map(|(n, d)| Arc::new(Probe(n, d, Arc::clone(&log))) as Arc<dyn Filter>)
                .collect(),
        );
        let mut req = Request::new("r".into(), http::Method::POST, "/mcp/files", "files".into());
        let reason = match chain.run(&mut req).await {
            Verdict::Continue => None,
            Verdict::Reply(reply) => Some(reply.reason),
        };
        let head = ResponseHead {
            status: StatusCode::OK,
            event_stream: false,
            mcp_outcome: None,
            first_byte: Duration::ZERO,
        };
        if reason.is_none() {
            chain.on_response(&mut req, &head);
        }
        chain.on_end(
            &req,
            &Outcome {
                status: None,
                end: End::Complete,
                elapsed: Duration::ZERO,
            },
        );
        let log = log.lock().clone();
        (reason, log)
    }

    #[tokio::test]
    async fn filters_run_in_order_and_hooks_in_reverse() {
        let (reason, log) = pass(vec![("a", Does::Pass), ("b", Does::Pass)]).await;
        assert_eq!(reason, None);
        assert_eq!(
            log,
            [
                "a request",
                "b request",
                "b response",
                "a response",
                "b end",
                "a end"
            ]
        );
    }

    #[tokio::test]
    async fn the_first_reply_stops_the_pass() {
        let (reason, log) = pass(vec![("a", Does::Pass), ("b", Does::Refuse), ("c", Does::Pass)]).await;
        assert_eq!(reason, Some(Reason::OriginDenied));
        assert_eq!(log, ["a request", "b request", "b end", "a end"]);
    }

    #[tokio::test]
    async fn a_panic_is_a_500_for_that_request_only() {
        for does in [Does::Panic, Does::PanicLater] {
            let (reason, log) = pass(vec![("a", Does::Pass), ("b", does), ("c", Does::Pass)]).await;
            assert_eq!(reason, Some(Reason::Internal));
            assert_eq!(log, ["a request", "b request", "b end", "a end"]);
        }
    }
}
