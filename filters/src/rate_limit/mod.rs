//! How much a client may call: an exact limit per verified client.
//!
//! Invariant: with the exact algorithm no client ever gets more than its limit in any window, and none
//! is refused below it. The counters live in a [`RateStore`] that outlives the config: a reload changes
//! limits and forgets nothing. The store is bounded, and gives up a client's counter only when that
//! counter says nothing any more; when it is full of live ones, new clients are refused, so that
//! inventing clients cannot erase a counter.

mod meter;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::chain::Filter;
use crate::ids::{Principal, TierName};
use crate::lane::RateCost;
use crate::reason::Reason;
use crate::request::{Identity, Request};
use crate::verdict::{Reply, Verdict, whole_seconds};

pub use meter::Algorithm;
use meter::{Meter, Taken};

/// Largest limit that is counted exactly; above it the log would cost more than it is worth, and GCRA
/// with a burst of the whole limit takes its place.
pub const MAX_EXACT: u32 = 4096;
/// How much more than the limit everything but calls may come.
const OTHER_FACTOR: u32 = 10;
const SHARDS: usize = 64;

/// A limit per window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRule {
    /// Units in a window; `None` is no limit.
    pub limit: Option<u32>,
    /// How it is enforced.
    pub algorithm: Algorithm,
}

/// Limits of tiers and clients.
#[derive(Debug, Clone)]
pub struct RateLimitConfig {
    /// The window.
    pub window: Duration,
    /// By tier. A tier that is not here has the smallest limit of those that are.
    pub tiers: HashMap<TierName, RateRule>,
    /// By client; beats the tier.
    pub clients: HashMap<Principal, RateRule>,
}

#[derive(Default)]
struct Counters {
    charged: Meter,
    other: Meter,
}

#[derive(Default)]
struct Shard {
    clients: HashMap<Principal, Counters>,
    /// When the shard was last searched for counters to give up, in milliseconds.
    swept: u64,
}

/// The counters of all clients. One per edge; survives reloads.
pub struct RateStore {
    epoch: Instant,
    hasher: RandomState,
    per_shard: usize,
    shards: Box<[Mutex<Shard>]>,
}

impl RateStore {
    /// A store for at most `max_clients` (rounded up to a multiple of 64).
    pub fn new(max_clients: usize) -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            hasher: RandomState::new(),
            per_shard: max_clients.div_ceil(SHARDS).max(1),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Number of clients with counters.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().clients.len()).sum()
    }

    /// Whether nobody is counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&self, client: &Principal, window: u64, take: impl FnOnce(&mut Counters, u64) -> Taken) -> Taken {
        let now = u64::try_from(self.epoch.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(window);
        let hash = self.hasher.hash_one(client) as usize;
        let Some(shard) = self.shards.get(hash % SHARDS) else {
            return Taken::Later(window);
        };
        let mut shard = shard.lock();
        if let Some(counters) = shard.clients.get_mut(client) {
            return take(counters, now);
        }
        if shard.clients.len() >= self.per_shard && !shard.make_room(window, now, self.per_shard) {
            return Taken::Later(1000);
        }
        take(shard.clients.entry(client.clone()).or_default(), now)
    }
}

impl Shard {
    /// Gives up counters that say nothing; at most once a second, because it looks at all of them.
    fn make_room(&mut self, window: u64, now: u64, max: usize) -> bool {
        if now.saturating_sub(self.swept) >= 1000 {
            self.swept = now;
            self.clients
                .retain(|_, c| !(c.charged.is_idle(window, now) && c.other.is_idle(window, now)));
        }
        self.clients.len() < max
    }
}

/// The filter.
pub struct RateLimit {
    config: RateLimitConfig,
    window: u64,
    fallback: RateRule,
    store: Arc<RateStore>,
}

impl RateLimit {
    /// A filter with these limits on those counters.
    pub fn new(config: RateLimitConfig, store: Arc<RateStore>) -> Self {
        let strictest = config
            .tiers
            .values()
            .filter(|rule| rule.limit.is_some())
            .min_by_key(|rule| rule.limit);
        let fallback = strictest.copied().unwrap_or(RateRule {
            limit: None,
            algorithm: Algorithm::Exact,
        });
        let window = u64::try_from(config.window.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        Self {
            config,
            window,
            fallback,
            store,
        }
    }

    fn rule(&self, who: &Identity) -> RateRule {
        let by_client = self.config.clients.get(&who.principal);
        *by_client
            .or_else(|| self.config.tiers.get(&who.tier))
            .unwrap_or(&self.fallback)
    }

    fn check(&self, who: &Identity, cost: RateCost) -> Result<(), Reply> {
        let rule = self.rule(who);
        let Some(base) = rule.limit else { return Ok(()) };
        let (limit, cost, charged) = match cost.charged {
            0 => (base.saturating_mul(OTHER_FACTOR), cost.other, false),
            units => (base, units, true),
        };
        let algorithm = if limit > MAX_EXACT {
            Algorithm::Smooth { burst: limit }
        } else {
            rule.algorithm
        };
        let taken = self.store.take(&who.principal, self.window, |counters, now| {
            let meter = if charged {
                &mut counters.charged
            } else {
                &mut counters.other
            };
            meter.take(algorithm, limit, self.window, cost, now)
        });
        match taken {
            Taken::Yes => Ok(()),
            Taken::Later(wait) => Err(self.refusal(who, limit, Duration::from_millis(wait))),
        }
    }

    /// 429 with the headers of draft-ietf-httpapi-ratelimit-headers-10 and the older ones.
    fn refusal(&self, who: &Identity, limit: u32, wait: Duration) -> Reply {
        let (window, reset) = (self.config.window.as_secs(), whole_seconds(wait));
        let by_client = self.config.clients.contains_key(&who.principal);
        let policy = if by_client { "client" } else { who.tier.as_str() };
        let message = format!("over the limit of {limit} requests in {window} s; wait {reset} s");
        let number = |name, value| (HeaderName::from_static(name), HeaderValue::from(value));
        let mut reply = Reply::new(Reason::RateLimited, message)
            .after(wait)
            .header(
                HeaderName::from_static("ratelimit-policy"),
                &format!("\"{policy}\";q={limit};w={window}"),
            )
            .header(
                HeaderName::from_static("ratelimit"),
                &format!("\"{policy}\";r=0;t={reset}"),
            );
        reply.headers.push(number("x-ratelimit-limit", u64::from(limit)));
        reply.headers.push(number("x-ratelimit-remaining", 0));
        reply.headers.push(number("x-ratelimit-reset", reset));
        reply
    }
}

#[async_trait]
impl Filter for RateLimit {
    fn name(&self) -> &'static str {
        "rate_limit"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        // The chain puts jwt_auth first; without an identity there is nobody to count.
        let Some(who) = &req.identity else {
            return Verdict::Continue;
        };
        match self.check(who, RateCost::of(req)) {
            Ok(()) => Verdict::Continue,
            Err(reply) => reply.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::testing::{identity, request};

    fn config(free: u32) -> RateLimitConfig {
        let rule = |limit| RateRule {
            limit,
            algorithm: Algorithm::Exact,
        };
        RateLimitConfig {
            window: Duration::from_secs(60),
            tiers: HashMap::from([
                ("free".into(), rule(Some(free))),
                ("pro".into(), rule(Some(600))),
                ("enterprise".into(), rule(None)),
            ]),
            clients: HashMap::from([(Principal::of("i", "vip"), rule(Some(5)))]),
        }
    }

    async fn ask(filter: &RateLimit, client: &str, tier: &str, call: Call) -> Option<Reply> {
        let mut req = request(client, tier);
        req.call = call;
        match filter.on_request(&mut req).await {
            Verdict::Continue => None,
            Verdict::Reply(reply) => Some(*reply),
        }
    }

    async fn passed(filter: &RateLimit, client: &str, tier: &str, tries: usize) -> usize {
        let mut passed = 0;
        for _ in 0..tries {
            passed += usize::from(ask(filter, client, tier, Call::tool("t")).await.is_none());
        }
        passed
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_gets_its_limit_and_no_other_clients() {
        let filter = RateLimit::new(config(3), RateStore::new(1000));
        assert_eq!(passed(&filter, "a", "free", 10).await, 3);
        assert_eq!(passed(&filter, "b", "free", 10).await, 3);
        assert_eq!(
            passed(&filter, "vip", "enterprise", 10).await,
            5,
            "a client's own limit beats its tier"
        );
        assert_eq!(passed(&filter, "c", "enterprise", 2000).await, 2000);
        assert_eq!(
            passed(&filter, "d", "gone", 10).await,
            3,
            "a tier without limit has the smallest"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_refusal_says_when_to_come_back() {
        let filter = RateLimit::new(config(1), RateStore::new(1000));
        assert!(ask(&filter, "a", "free", Call::tool("t")).await.is_none());
        tokio::time::advance(Duration::from_millis(48_500)).await;
        let reply = ask(&filter, "a", "free", Call::tool("t")).await.unwrap();
        assert_eq!(
            (reply.reason, reply.retry_after),
            (Reason::RateLimited, Some(Duration::from_millis(11_500)))
        );
        let headers: Vec<_> = reply
            .headers
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        assert_eq!(
            headers,
            [
                "ratelimit-policy: \"free\";q=1;w=60",
                "ratelimit: \"free\";r=0;t=12",
                "x-ratelimit-limit: 1",
                "x-ratelimit-remaining: 0",
                "x-ratelimit-reset: 12"
            ]
        );
        tokio::time::advance(Duration::from_millis(11_500)).await;
        assert!(ask(&filter, "a", "free", Call::tool("t")).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn everything_but_calls_has_its_own_ceiling() {
        let filter = RateLimit::new(config(1), RateStore::new(1000));
        assert_eq!(passed(&filter, "a", "free", 2).await, 1);
        let mut others = 0;
        for _ in 0..20 {
            others += usize::from(ask(&filter, "a", "free", Call::NotRpc).await.is_none());
        }
        assert_eq!(others, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_changes_the_limit_and_keeps_the_count() {
        let store = RateStore::new(1000);
        let before = RateLimit::new(config(5), Arc::clone(&store));
        assert_eq!(passed(&before, "a", "free", 9).await, 5);
        let after = RateLimit::new(config(7), Arc::clone(&store));
        assert_eq!(passed(&after, "a", "free", 9).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_store_refuses_new_clients_and_forgets_only_idle_ones() {
        let store = RateStore::new(64);
        let filter = RateLimit::new(config(1), Arc::clone(&store));
        for i in 0..1000 {
            let _ = ask(&filter, &format!("c{i}"), "free", Call::tool("t")).await;
        }
        assert!(store.len() <= 64);
        let held: Vec<_> = store
            .shards
            .iter()
            .flat_map(|s| s.lock().clients.keys().cloned().collect::<Vec<_>>())
            .collect();
        for client in held {
            let who = Identity {
                principal: client,
                ..identity("x", "free")
            };
            assert!(
                filter.check(&who, RateCost { charged: 1, other: 0 }).is_err(),
                "still counted"
            );
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(passed(&filter, "new", "free", 5).await, 1);
    }
}
