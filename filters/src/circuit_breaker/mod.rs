//! Do not send to a service that fails: one breaker per service.
//!
//! Failures are 502, 503 and 504 from the upstream and what the proxy reports as a failed upstream.
//! Not failures: other statuses, JSON-RPC errors, the client leaving, the edge's own refusals.
//!
//! Invariant: every call that passed holds a [`BreakerPermit`], which reports exactly once: what the
//! hooks told it, or nothing when it is dropped without. The queue asks the permit again when it grants
//! a slot ([`BreakerPermit::still_passes`]).

mod machine;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::chain::Filter;
use crate::ids::ServiceName;
use crate::lane::Lane;
use crate::permit::{Permit, PermitKind};
use crate::reason::Reason;
use crate::request::{End, Outcome, Request, ResponseHead};
use crate::verdict::{Reply, Verdict};

pub use machine::{BreakerConfig, BreakerState};
use machine::{Machine, Pass, Result as CallResult};

/// One service's breaker.
struct Breaker {
    epoch: Instant,
    jitter: RandomState,
    machine: Mutex<Machine>,
}

impl Breaker {
    fn new(config: BreakerConfig) -> Arc<Self> {
        let machine = Mutex::new(Machine::new(config));
        Arc::new(Self {
            epoch: Instant::now(),
            jitter: RandomState::new(),
            machine,
        })
    }

    /// 0 to 1, different in every process and moment.
    fn jitter(&self, now: Duration) -> f64 {
        f64::from(self.jitter.hash_one(now) as u32) / f64::from(u32::MAX)
    }

    fn ask(self: &Arc<Self>) -> Result<BreakerPermit, Duration> {
        let now = self.epoch.elapsed();
        let pass = self.machine.lock().ask(now, self.jitter(now))?;
        Ok(BreakerPermit {
            breaker: Arc::clone(self),
            pass,
            reported: AtomicBool::new(false),
        })
    }
}

/// A call that passed the breaker and has not reported yet.
pub struct BreakerPermit {
    breaker: Arc<Breaker>,
    pass: Pass,
    reported: AtomicBool,
}

impl BreakerPermit {
    /// Whether the call may still go upstream: the breaker may have opened while it waited.
    pub fn still_passes(&self) -> bool {
        self.breaker.machine.lock().still_passes(self.pass)
    }

    /// The upstream could not be reached, or broke off. Only the first report counts.
    pub fn failed(&self) {
        self.report(Some(CallResult::Failure));
    }

    fn answered(&self, status: StatusCode, first_byte: Duration) {
        let failed = matches!(status.as_u16(), 502..=504);
        let slow = || first_byte > self.breaker.machine.lock().config().slow_after;
        self.report(Some(if failed {
            CallResult::Failure
        } else if slow() {
            CallResult::Slow
        } else {
            CallResult::Success
        }));
    }

    fn report(&self, result: Option<CallResult>) {
        if !self.reported.swap(true, Ordering::AcqRel) {
            let now = self.breaker.epoch.elapsed();
            self.breaker
                .machine
                .lock()
                .report(self.pass, result, now, self.breaker.jitter(now));
        }
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        self.report(None);
    }
}

impl Permit for BreakerPermit {
    fn kind(&self) -> PermitKind {
        PermitKind::Breaker
    }
}

/// The breakers of all services. One per edge; survives reloads.
#[derive(Default)]
pub struct BreakerStore {
    breakers: RwLock<HashMap<ServiceName, Arc<Breaker>>>,
}

impl BreakerStore {
    /// The state of every service's breaker.
    pub fn snapshot(&self) -> Vec<(ServiceName, BreakerState)> {
        let breakers = self.breakers.read();
        let mut states: Vec<_> = breakers
            .iter()
            .map(|(name, breaker)| (name.clone(), breaker.machine.lock().state()))
            .collect();
        states.sort_by(|a, b| a.0.cmp(&b.0));
        states
    }

    /// An operator closes a service's breaker; `false` if there is no such service.
    pub fn reset(&self, service: &ServiceName) -> bool {
        let breaker = self.breakers.read().get(service).cloned();
        breaker.map(|breaker| breaker.machine.lock().close()).is_some()
    }

    fn get(&self, service: &ServiceName) -> Option<Arc<Breaker>> {
        self.breakers.read().get(service).cloned()
    }

    /// Makes the store hold exactly these services; those that were there keep their state.
    fn configure(&self, services: HashMap<ServiceName, BreakerConfig>) {
        let mut breakers = self.breakers.write();
        breakers.retain(|name, _| services.contains_key(name));
        for (name, config) in services {
            match breakers.get(&name) {
                Some(breaker) => breaker.machine.lock().configure(config),
                None => {
                    breakers.insert(name, Breaker::new(config));
                }
            }
        }
    }
}

/// The filter.
pub struct CircuitBreaker {
    store: Arc<BreakerStore>,
}

impl CircuitBreaker {
    /// A filter for these services; services that are not named have no breaker.
    pub fn new(services: HashMap<ServiceName, BreakerConfig>, store: Arc<BreakerStore>) -> Self {
        store.configure(services);
        Self { store }
    }
}

/// The reply while a breaker is open.
pub(crate) fn circuit_open(wait: Duration) -> Reply {
    Reply::new(
        Reason::CircuitOpen,
        "the service fails; it is tried again shortly",
    )
    .after(wait)
}

#[async_trait]
impl Filter for CircuitBreaker {
    fn name(&self) -> &'static str {
        "circuit_breaker"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        // A cancellation must reach the service even then, and ends nothing by itself.
        if Lane::of(req) == Lane::Bypass {
            return Verdict::Continue;
        }
        let Some(breaker) = self.store.get(&req.service) else {
            return Verdict::Continue;
        };
        match breaker.ask() {
            Ok(permit) => {
                req.permits.hold(permit);
                Verdict::Continue
            }
            Err(wait) => circuit_open(wait).into(),
        }
    }

    fn on_response(&self, req: &mut Request, res: &ResponseHead) {
        if let Some(permit) = req.permits.get::<BreakerPermit>() {
            permit.answered(res.status, res.first_byte);
        }
    }

    fn on_end(&self, req: &Request, outcome: &Outcome) {
        if let (Some(permit), End::UpstreamFailed(_)) = (req.permits.get::<BreakerPermit>(), outcome.end) {
            permit.failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Call, Message, RpcMethod};
    use crate::testing::request;

    fn filter() -> CircuitBreaker {
        let config = BreakerConfig {
            min_calls: 4,
            ..Default::default()
        };
        CircuitBreaker::new(HashMap::from([("files".into(), config)]), Arc::default())
    }

    async fn ask(filter: &CircuitBreaker) -> Result<Request, Reply> {
        let mut req = request("a", "free");
        match filter.on_request(&mut req).await {
            Verdict::Continue => Ok(req),
            Verdict::Reply(reply) => Err(*reply),
        }
    }

    fn answer(filter: &CircuitBreaker, req: &mut Request, status: u16) {
        let status = StatusCode::from_u16(status).unwrap();
        let head = ResponseHead {
            status,
            event_stream: false,
            mcp_outcome: None,
            first_byte: Duration::ZERO,
        };
        filter.on_response(req, &head);
    }

    fn end(filter: &CircuitBreaker, req: &Request, end: End) {
        filter.on_end(
            req,
            &Outcome {
                status: None,
                end,
                elapsed: Duration::ZERO,
            },
        );
    }

    fn state(filter: &CircuitBreaker) -> BreakerState {
        filter.store.snapshot()[0].1
    }

    #[tokio::test(start_paused = true)]
    async fn failures_open_it_and_it_says_when_to_come_back() {
        let filter = filter();
        for status in [503, 502, 504] {
            answer(&filter, &mut ask(&filter).await.unwrap(), status);
        }
        let waiting = ask(&filter).await.unwrap();
        end(
            &filter,
            &ask(&filter).await.unwrap(),
            End::UpstreamFailed(Reason::UpstreamFailed),
        );
        assert_eq!(state(&filter), BreakerState::Open);
        let reply = ask(&filter).await.err().unwrap();
        assert_eq!(reply.reason, Reason::CircuitOpen);
        let wait = reply.retry_after.unwrap();
        assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_millis(5500));
        assert!(!waiting.permits.get::<BreakerPermit>().unwrap().still_passes());
        tokio::time::advance(wait).await;
        for _ in 0..5 {
            answer(&filter, &mut ask(&filter).await.unwrap(), 200);
        }
        assert_eq!(state(&filter), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_failure_of_the_service_does_not_open_it() {
        let filter = filter();
        for status in [400, 404, 429, 500, 200] {
            answer(&filter, &mut ask(&filter).await.unwrap(), status);
        }
        for _ in 0..50 {
            end(&filter, &ask(&filter).await.unwrap(), End::ClientGone);
        }
        assert_eq!(state(&filter), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_report_of_a_call_counts() {
        let filter = filter();
        for _ in 0..3 {
            let mut req = ask(&filter).await.unwrap();
            answer(&filter, &mut req, 503);
            end(&filter, &req, End::UpstreamFailed(Reason::UpstreamFailed));
        }
        assert_eq!(state(&filter), BreakerState::Closed, "three calls, not six");
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_resets_it_a_reload_keeps_it_and_cancellations_pass() {
        let filter = filter();
        for _ in 0..4 {
            answer(&filter, &mut ask(&filter).await.unwrap(), 503);
        }
        let config = BreakerConfig::default();
        let reloaded = CircuitBreaker::new(
            HashMap::from([("files".into(), config)]),
            Arc::clone(&filter.store),
        );
        assert!(ask(&reloaded).await.is_err());
        let mut cancel = request("a", "free");
        cancel.call = Call::Single(Message::Notification {
            method: RpcMethod::new("notifications/cancelled"),
        });
        assert!(matches!(
            reloaded.on_request(&mut cancel).await,
            Verdict::Continue
        ));
        assert!(filter.store.reset(&"files".into()));
        assert!(!filter.store.reset(&"gone".into()));
        assert!(ask(&reloaded).await.is_ok());
    }
}
