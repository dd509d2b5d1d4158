//! Sidecars that somebody else runs: nothing is started, addresses are found.
//!
//! One configured `host:port` is one replica. Its name is resolved again and again, because the addresses behind it may
//! come and go (a Kubernetes headless service, Swarm's `tasks.<name>`); every address is an endpoint. Invariant: a name
//! that cannot be resolved for a while loses nobody, since active checks know better which addresses still serve.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use http::HeaderValue;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::control::bearer;
use super::{Change, Replica, Runtime, StartError};
use crate::config::{HostPort, Service, ServiceRuntime};
use crate::upstream::{EndpointAddr, EndpointId, EndpointSpec};

/// Addresses taken of one name.
const MAX_ADDRESSES: usize = 64;

/// Longest time for one resolution.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

type Resolve = dyn Fn(HostPort) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Finds endpoints by name.
pub(super) struct FixedRuntime {
    resolve: Arc<Resolve>,
    every: Duration,
}

impl FixedRuntime {
    /// Names are resolved by the system, `every` so often.
    pub(super) fn new(every: Duration) -> Self {
        let resolve = |name: HostPort| -> BoxFuture<'static, _> {
            Box::pin(async move {
                Ok(tokio::net::lookup_host((name.host.as_str(), name.port))
                    .await?
                    .collect())
            })
        };
        Self {
            resolve: Arc::new(resolve),
            every,
        }
    }
}

#[async_trait]
impl Runtime for FixedRuntime {
    fn start_is_costly(&self) -> bool {
        false
    }

    async fn start(&self, service: &Arc<Service>, replica: u32) -> Result<Box<dyn Replica>, StartError> {
        let ServiceRuntime::Fixed { upstreams, token } = &service.runtime else {
            return Err(StartError::WrongRuntime);
        };
        let index = usize::try_from(replica).unwrap_or(usize::MAX);
        let name = upstreams.get(index).ok_or(StartError::WrongRuntime)?;
        let address: Option<IpAddr> = name.host.parse().ok();
        let mut found = Found::default();
        if let Some(ip) = address {
            found.update([SocketAddr::new(ip, name.port)].into());
        }
        Ok(Box::new(FixedReplica {
            name: name.clone(),
            authorization: token.as_ref().and_then(bearer),
            resolve: Arc::clone(&self.resolve),
            every: self.every,
            next: address.is_none().then(Instant::now),
            found,
            failing: false,
        }))
    }
}

struct FixedReplica {
    name: HostPort,
    authorization: Option<HeaderValue>,
    resolve: Arc<Resolve>,
    every: Duration,
    /// When to resolve next; never for an address.
    next: Option<Instant>,
    found: Found,
    failing: bool,
}

#[async_trait]
impl Replica for FixedReplica {
    async fn change(&mut self) -> Change {
        loop {
            match self.found.news.pop_front() {
                Some(News::Came(addr)) => return Change::Up(self.spec(addr)),
                Some(News::Went(addr)) => return Change::Down(EndpointAddr::Tcp(addr)),
                None => {}
            }
            let Some(next) = self.next else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(next).await;
            let answer = tokio::time::timeout(RESOLVE_TIMEOUT, (self.resolve)(self.name.clone())).await;
            // Set only now: a call that is dropped while it resolves is made up for by the next one.
            self.next = Some(Instant::now() + self.every);
            let why = match answer {
                Ok(Ok(addresses)) if !addresses.is_empty() => {
                    self.failing = false;
                    self.found
                        .update(addresses.into_iter().take(MAX_ADDRESSES).collect());
                    continue;
                }
                Ok(Ok(_)) => "it has no address".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {RESOLVE_TIMEOUT:?}"),
            };
            if let Some(change) = self.fail(&why) {
                return change;
            }
        }
    }

    async fn stop(self: Box<Self>, _grace: Duration) {}
}

impl FixedReplica {
    /// A resolution failed. Known addresses stay; only a replica that never had one has failed with it.
    fn fail(&mut self, why: &str) -> Option<Change> {
        let first = !std::mem::replace(&mut self.failing, true);
        if !first {
            return None;
        }
        let reason = format!("cannot resolve `{}`: {why}", self.name.host);
        if self.found.addresses.is_empty() {
            return Some(Change::Failed(reason));
        }
        tracing::warn!(reason, "keeping the addresses known so far");
        None
    }

    fn spec(&self, addr: SocketAddr) -> EndpointSpec {
        let text = addr.to_string();
        EndpointSpec {
            id: EndpointId::stand_in(&text),
            addr: EndpointAddr::Tcp(addr),
            authorization: self.authorization.clone(),
            seed: xxh3_64(text.as_bytes()),
            learns_id: true,
        }
    }
}

/// The addresses of a name, and what has changed about them.
#[derive(Default)]
struct Found {
    addresses: BTreeSet<SocketAddr>,
    news: VecDeque<News>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Came(SocketAddr),
    Went(SocketAddr),
}

impl Found {
    fn update(&mut self, now: BTreeSet<SocketAddr>) {
        // First who came: the pool is never empty in between.
        self.news
            .extend(now.difference(&self.addresses).map(|addr| News::Came(*addr)));
        self.news
            .extend(self.addresses.difference(&now).map(|addr| News::Went(*addr)));
        self.addresses = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    type Answer = io::Result<Vec<SocketAddr>>;

    /// A replica of `files.internal:80` whose resolver gives these answers, then goes on failing.
    fn replica(answers: Vec<Answer>) -> FixedReplica {
        let answers = Mutex::new(VecDeque::from(answers));
        let resolve = move |_: HostPort| -> BoxFuture<'static, Answer> {
            let answer = answers
                .lock()
                .pop_front()
                .unwrap_or_else(|| Err(io::Error::other("no such host")));
            Box::pin(std::future::ready(answer))
        };
        FixedReplica {
            name: "files.internal:80".parse().unwrap(),
            authorization: None,
            resolve: Arc::new(resolve),
            every: Duration::from_secs(5),
            next: Some(Instant::now()),
            found: Found::default(),
            failing: false,
        }
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn text(change: &Change) -> String {
        match change {
            Change::Up(spec) => format!("up {}", spec.addr),
            Change::Down(addr) => format!("down {addr}"),
            Change::Failed(reason) => format!("failed {reason}"),
            Change::Ended(end) => format!("ended {}", end.reason),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_come_and_go_with_the_name() {
        let mut replica = replica(vec![
            Ok(vec![addr(1), addr(2)]),
            Ok(vec![addr(2), addr(1), addr(1)]),
            Err(io::Error::other("no such host")),
            Ok(vec![addr(2), addr(3)]),
        ]);
        let began = Instant::now();
        assert_eq!(text(&replica.change().await), "up 10.0.0.1:80");
        assert_eq!(text(&replica.change().await), "up 10.0.0.2:80");
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(text(&replica.change().await), "up 10.0.0.3:80");
        assert_eq!(
            began.elapsed().as_secs(),
            15,
            "resolved every 5 s; a failure loses nobody"
        );
        assert_eq!(text(&replica.change().await), "down 10.0.0.1:80");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_never_resolved_has_failed_and_may_recover() {
        let mut replica = replica(vec![Ok(vec![]), Err(io::Error::other("down")), Ok(vec![addr(1)])]);
        let failed = "failed cannot resolve `files.internal`: it has no address";
        assert_eq!(text(&replica.change().await), failed);
        assert_eq!(text(&replica.change().await), "up 10.0.0.1:80");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_call_loses_no_change() {
        let mut replica = replica(vec![Ok(vec![addr(1)]), Ok(vec![addr(1), addr(2)])]);
        assert_eq!(text(&replica.change().await), "up 10.0.0.1:80");
        for _ in 0..4 {
            let wait = tokio::time::timeout(Duration::from_secs(1), replica.change());
            assert!(wait.await.is_err());
        }
        assert_eq!(text(&replica.change().await), "up 10.0.0.2:80");
    }
}
