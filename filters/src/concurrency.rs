//! How much a client may do at once: an exact count of its requests under way.
//!
//! Invariant: a client never has more requests under way than its cap, nor more long-lived streams
//! than its stream cap; above the cap at most 100 requests wait, in the order of arrival plus the
//! bounded offset of their lane.
//!
//! A place is handed over inside the waiter's channel, as a guard: if the waiter has left, the guard is
//! dropped with the channel and goes to the next one. So a wake-up cannot be lost.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::chain::Filter;
use crate::ids::{Principal, TierName};
use crate::lane::{Lane, remaining_wait};
use crate::permit::{Permit, PermitKind};
use crate::reason::Reason;
use crate::request::{Identity, Request};
use crate::verdict::{Reply, Verdict};

/// Most requests of one client that wait.
pub const MAX_WAITING: usize = 100;
const SHARDS: usize = 64;

/// What happens above the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverConcurrency {
    /// Wait in the client's own queue.
    #[default]
    Queue,
    /// 429 at once.
    Refuse,
}

/// A client's caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyRule {
    /// Requests under way at once.
    pub max_requests: usize,
    /// Long-lived streams at once.
    pub max_streams: usize,
    /// What happens above `max_requests`.
    pub over: OverConcurrency,
    /// Longest wait, this queue and the service's together.
    pub max_wait: Duration,
}

/// Caps of tiers and clients.
#[derive(Debug, Clone)]
pub struct ConcurrencyConfig {
    /// By tier.
    pub tiers: HashMap<TierName, ConcurrencyRule>,
    /// By client; beats the tier.
    pub clients: HashMap<Principal, ConcurrencyRule>,
    /// For tiers that are not there.
    pub default: ConcurrencyRule,
}

#[derive(Default)]
struct State {
    cap: usize,
    active: usize,
    streams: usize,
    next: u64,
    /// By place: arrival plus offset in milliseconds, then order of arrival.
    waiters: BTreeMap<(i64, u64), oneshot::Sender<ActivePermit>>,
}

#[derive(Default)]
struct Gate(Mutex<State>);

impl Gate {
    /// Gives a freed place to the first waiter that is still there.
    fn pass_on(self: &Arc<Self>) {
        let mut state = self.0.lock();
        state.active = state.active.saturating_sub(1);
        while state.active < state.cap {
            let Some((_, waiter)) = state.waiters.pop_first() else {
                return;
            };
            state.active += 1;
            // Outside the lock: what is not taken is dropped here, and dropping locks.
            let sent = parking_lot::MutexGuard::unlocked(&mut state, || {
                waiter
                    .send(ActivePermit(Some(Arc::clone(self))))
                    .map_err(|mut unsent| unsent.0 = None)
            });
            if sent.is_err() {
                state.active = state.active.saturating_sub(1);
            }
        }
    }
}

/// One request under way; `None` once it has been given up without a drop effect.
struct ActivePermit(Option<Arc<Gate>>);

impl Drop for ActivePermit {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.pass_on();
        }
    }
}

impl Permit for ActivePermit {
    fn kind(&self) -> PermitKind {
        PermitKind::Concurrency
    }
}

struct StreamPermit(Arc<Gate>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.streams = state.streams.saturating_sub(1);
    }
}

impl Permit for StreamPermit {
    fn kind(&self) -> PermitKind {
        PermitKind::Stream
    }
}

/// A waiter's place in line, given up when the waiter leaves.
struct Place<'a>(&'a Arc<Gate>, (i64, u64));

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let gone = self.0.0.lock().waiters.remove(&self.1);
        drop(gone);
    }
}

type Gates = HashMap<Principal, Arc<Gate>>;

/// The counts of all clients. One per edge; survives reloads.
pub struct ConcurrencyStore {
    epoch: Instant,
    hasher: RandomState,
    per_shard: usize,
    shards: Box<[Mutex<Gates>]>,
}

impl ConcurrencyStore {
    /// A store for at most `max_clients` (rounded up to a multiple of 64).
    pub fn new(max_clients: usize) -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            hasher: RandomState::new(),
            per_shard: max_clients.div_ceil(SHARDS).max(1),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Requests under way, streams and waiters of a client.
    pub fn usage(&self, client: &Principal) -> (usize, usize, usize) {
        let gate = self
            .shard(client)
            .and_then(|shard| shard.lock().get(client).cloned());
        gate.map_or((0, 0, 0), |gate| {
            let state = gate.0.lock();
            (state.active, state.streams, state.waiters.len())
        })
    }

    fn shard(&self, client: &Principal) -> Option<&Mutex<Gates>> {
        self.shards.get(self.hasher.hash_one(client) as usize % SHARDS)
    }

    fn gate(&self, client: &Principal) -> Option<Arc<Gate>> {
        let mut shard = self
            .shards
            .get(self.hasher.hash_one(client) as usize % SHARDS)?
            .lock();
        if let Some(gate) = shard.get(client) {
            return Some(Arc::clone(gate));
        }
        if shard.len() >= self.per_shard {
            // A gate that only this map holds has neither permits nor waiters.
            shard.retain(|_, gate| Arc::strong_count(gate) > 1);
            if shard.len() >= self.per_shard {
                return None;
            }
        }
        let gate = Arc::<Gate>::default();
        shard.insert(client.clone(), Arc::clone(&gate));
        Some(gate)
    }
}

/// The filter.
pub struct Concurrency {
    config: ConcurrencyConfig,
    store: Arc<ConcurrencyStore>,
}

impl Concurrency {
    /// A filter with these caps on those counts.
    pub fn new(config: ConcurrencyConfig, store: Arc<ConcurrencyStore>) -> Self {
        Self { config, store }
    }

    fn rule(&self, who: &Identity) -> ConcurrencyRule {
        let by_client = self.config.clients.get(&who.principal);
        *by_client
            .or_else(|| self.config.tiers.get(&who.tier))
            .unwrap_or(&self.config.default)
    }

    async fn enter(&self, req: &mut Request, lane: Lane) -> Result<(), Reply> {
        let Some(who) = req.identity.clone() else {
            return Ok(());
        };
        let rule = self.rule(&who);
        let full = || Reply::new(Reason::TooManyConcurrent, "too many clients at once");
        let gate = self.store.gate(&who.principal).ok_or_else(full)?;
        if lane == Lane::Stream {
            return stream(req, &gate, rule);
        }
        let place = {
            let mut state = gate.0.lock();
            state.cap = rule.max_requests;
            if state.active < rule.max_requests && state.waiters.is_empty() {
                state.active += 1;
                None
            } else if rule.over == OverConcurrency::Refuse {
                let text = format!(
                    "{} requests are under way, and no more are allowed at once",
                    rule.max_requests
                );
                return Err(Reply::new(Reason::TooManyConcurrent, text));
            } else if state.waiters.len() >= MAX_WAITING {
                let text = format!("{MAX_WAITING} requests of this client wait already");
                return Err(Reply::new(Reason::QueueFull, text));
            } else {
                let arrived = i64::try_from(self.store.epoch.elapsed().as_millis()).unwrap_or(i64::MAX);
                state.next += 1;
                let key = (arrived.saturating_add(lane.offset_millis()), state.next);
                let (sender, receiver) = oneshot::channel();
                state.waiters.insert(key, sender);
                Some((Place(&gate, key), receiver))
            }
        };
        let Some((_place, receiver)) = place else {
            req.permits.hold(ActivePermit(Some(Arc::clone(&gate))));
            return Ok(());
        };
        let started = Instant::now();
        let granted = tokio::time::timeout(remaining_wait(req, rule.max_wait), receiver).await;
        req.waited += started.elapsed();
        match granted {
            Ok(Ok(permit)) => {
                req.permits.hold(permit);
                Ok(())
            }
            _ => {
                let text = "the client's own requests took all its places for too long";
                Err(Reply::new(Reason::QueueTimeout, text))
            }
        }
    }
}

fn stream(req: &mut Request, gate: &Arc<Gate>, rule: ConcurrencyRule) -> Result<(), Reply> {
    {
        let mut state = gate.0.lock();
        if state.streams >= rule.max_streams {
            let text = format!(
                "{} streams are open, and no more are allowed at once",
                rule.max_streams
            );
            return Err(Reply::new(Reason::TooManyConcurrent, text));
        }
        state.streams += 1;
    }
    req.permits.hold(StreamPermit(Arc::clone(gate)));
    Ok(())
}

#[async_trait]
impl Filter for Concurrency {
    fn name(&self) -> &'static str {
        "concurrency"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        let lane = Lane::of(req);
        if lane == Lane::Bypass {
            return Verdict::Continue;
        }
        match self.enter(req, lane).await {
            Ok(()) => Verdict::Continue,
            Err(reply) => reply.into(),
        }
    }
}

#[cfg(test)]
mod tests;
