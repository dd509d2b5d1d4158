//! Which server process serves whom, how many there may be, and what happens when one ends.
//!
//! Invariants: a process belongs to one legacy session, to one client's modern requests, or (shared) to
//! all of one era and version, and is never spoken to in two eras; never more than `max` processes run;
//! a command that keeps dying is restarted behind one backoff, whoever asks for it.

mod health;
mod slot;
pub(crate) mod start;
mod sweep;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use health::{Health, State, Status};
pub(crate) use slot::{NoLink, Role, Slot};

use crate::audience::Audience;
use crate::link::{Down, Era, Link};
use crate::metrics::Metrics;
use crate::session::{Principal, Session};
use crate::stdio::{Backoff, ProcessLimits, ServerCommand};
use slot::Place;

/// Clients with a modern process of their own, remembered at most.
const MAX_CLIENTS: usize = 4096;
/// A backoff up to this long is waited for; beyond, the client is told when to come back.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a start waits for an evicted process to go.
const EVICTION: Duration = Duration::from_secs(10);

/// Who may share a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    Client,
    Shared,
}

/// The bounds an operator sets.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) command: ServerCommand,
    pub(crate) limits: ProcessLimits,
    pub(crate) isolation: Isolation,
    pub(crate) max: usize,
    /// `None` is never.
    pub(crate) idle_stop: Option<Duration>,
    pub(crate) start_timeout: Duration,
    /// Largest message to the server, in bytes.
    pub(crate) max_message: usize,
}

#[derive(Debug)]
pub(crate) struct Processes {
    settings: Settings,
    metrics: Arc<Metrics>,
    health: Health,
    permits: Arc<Semaphore>,
    backoff: Mutex<Restart>,
    last_number: AtomicU64,
    places: Mutex<Places>,
    verifying: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Restart {
    policy: Backoff,
    not_before: Option<Instant>,
    /// How the last process ended, and its last lines on stderr.
    why: String,
    stderr: Vec<String>,
}

#[derive(Debug, Default)]
struct Places {
    /// By process number: every process that runs, with its place.
    running: HashMap<u64, (Arc<Slot>, Arc<Link>)>,
    /// Legacy and shared: by requested protocol version.
    shared: HashMap<String, Arc<Slot>>,
    modern: HashMap<Principal, Arc<Slot>>,
    /// A modern process that nobody has used yet.
    spare: Option<Arc<Slot>>,
}

impl Processes {
    pub(crate) fn new(settings: Settings, metrics: Arc<Metrics>, seed: u64) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(settings.max));
        let restart = Restart {
            policy: Backoff::new(seed),
            not_before: None,
            why: String::new(),
            stderr: Vec::new(),
        };
        Arc::new(Self {
            settings,
            metrics,
            health: Health::default(),
            permits,
            backoff: Mutex::new(restart),
            last_number: AtomicU64::new(0),
            places: Mutex::default(),
            verifying: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    pub(crate) fn running(&self) -> usize {
        self.places.lock().running.len()
    }

    /// The place for a new legacy session. In shared mode `version` is what its `initialize` asks for.
    pub(crate) fn place_session(&self, session: &Arc<Session>, version: &str) {
        let slot = match self.settings.isolation {
            Isolation::Client => Slot::new(Role::Session(Arc::downgrade(session))),
            Isolation::Shared => {
                let version = shared_version(version);
                let mut places = self.places.lock();
                let slot = places.shared.entry(version.to_owned()).or_insert_with(|| {
                    Slot::new(Role::Shared {
                        version: version.to_owned(),
                        audience: Arc::default(),
                    })
                });
                Arc::clone(slot)
            }
        };
        if let Role::Shared { audience, .. } = slot.role() {
            audience.join(session);
        }
        session.settle(slot);
    }

    /// The place for a client's modern requests.
    pub(crate) fn modern_place(&self, client: &Principal) -> Arc<Slot> {
        let key: Principal = match self.settings.isolation {
            Isolation::Client => Arc::clone(client),
            Isolation::Shared => Arc::from(""),
        };
        let mut places = self.places.lock();
        if let Some(slot) = places.modern.get(&key) {
            return Arc::clone(slot);
        }
        if places.modern.len() >= MAX_CLIENTS {
            places.modern.retain(|_, slot| !slot.vacant());
        }
        let slot = places.spare.take().unwrap_or_else(|| Slot::new(Role::Modern));
        *slot.client.lock() = Some(Arc::clone(&key));
        places.modern.insert(key, Arc::clone(&slot));
        slot
    }

    /// The running process of a place, started if need be.
    pub(crate) async fn link(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<Arc<Link>, NoLink> {
        let mut place = slot.watch();
        if slot.claim() {
            self.tasks.spawn(Arc::clone(self).serve(Arc::clone(slot)));
        }
        // The sender lives in `slot`, which outlives this wait.
        let settled = place.wait_for(|place| !matches!(place, Place::Starting)).await;
        match settled.as_deref() {
            Ok(Place::Live(link)) => Ok(Arc::clone(link)),
            Ok(Place::Failed(why)) => Err(why.clone()),
            Ok(Place::Empty | Place::Starting) => {
                let (why, retry_after) = self.restart_delay();
                Err(NoLink::Down(Down::Restarting { why, retry_after }))
            }
            Err(_) => Err(NoLink::Down(Down::Draining)),
        }
    }

    /// Ends what a session held: its own process, or its part of a shared one.
    pub(crate) fn release(&self, session: &Session) {
        let Some(slot) = session.slot() else { return };
        match slot.role() {
            Role::Shared { audience, .. } => self.leave(session, audience, slot.live()),
            _ => {
                if let Some(link) = slot.live() {
                    link.stop(Down::SessionEnded);
                }
            }
        }
    }

    fn leave(&self, session: &Session, audience: &Audience, link: Option<Arc<Link>>) {
        let freed = audience.leave(session.number());
        let Some(link) = link else { return };
        self.tasks.spawn(async move {
            for uri in freed {
                let uri = serde_json::Value::from(uri);
                let members = format!("\"method\":\"resources/unsubscribe\",\"params\":{{\"uri\":{uri}}}");
                // Its answer is of no interest, and the server may have none.
                let _ = link.ask(&members, Duration::from_secs(5)).await;
            }
        });
    }

    /// All running links.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.places
            .lock()
            .running
            .values()
            .map(|(_, link)| Arc::clone(link))
            .collect()
    }

    /// The right to run one more process; an idle one is stopped for it if there is no room.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, NoLink> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let full = NoLink::NoProcess {
            max: self.settings.max,
        };
        if !self.evict() {
            return Err(full);
        }
        match tokio::time::timeout(EVICTION, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full),
        }
    }

    /// Stops the process that is idle longest; false if all are busy.
    fn evict(&self) -> bool {
        let mut places = self.places.lock();
        let idle = places
            .running
            .values()
            .filter(|(_, link)| !link.busy() && !link.stopping());
        let Some((slot, link)) = idle.max_by_key(|(_, link)| link.idle_for()).cloned() else {
            return false;
        };
        if places
            .spare
            .as_ref()
            .is_some_and(|spare| Arc::ptr_eq(spare, &slot))
        {
            places.spare = None;
        }
        drop(places);
        self.metrics.evictions.inc();
        tracing::info!(
            process = link.number(),
            "stopping an idle process to make room for another"
        );
        slot.vacate();
        link.stop(Down::Idle);
        true
    }

    /// Why and for how long the next start has to wait.
    fn restart_delay(&self) -> (String, Duration) {
        let restart = self.backoff.lock();
        let wait = restart
            .not_before
            .map(|at| at.saturating_duration_since(Instant::now()));
        (restart.why.clone(), wait.unwrap_or_default())
    }

    /// Stops everything, in order, for at most `limit`.
    pub(crate) async fn shut_down(&self, limit: Duration) {
        self.stop.cancel();
        for link in self.links() {
            link.stop(Down::Draining);
        }
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("some processes did not stop in time and are killed");
        }
    }

    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The era of the command; waits for the verification that runs at the start.
    pub(crate) async fn era(&self) -> Result<Era, NoLink> {
        let limit = self.settings.start_timeout;
        match tokio::time::timeout(limit, self.health.settled()).await {
            Err(_) => Err(NoLink::Silent { limit }),
            Ok(status) => match (status.era, status.reason) {
                (Some(era), _) => Ok(era),
                (None, why) => {
                    let (_, retry_after) = self.restart_delay();
                    Err(NoLink::Unstartable {
                        why: why.unwrap_or_default(),
                        retry_after,
                    })
                }
            },
        }
    }
}

/// Versions a shared process is kept for; anything else is served by the newest legacy one.
fn shared_version(requested: &str) -> &'static str {
    const KNOWN: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
    KNOWN
        .into_iter()
        .find(|known| *known == requested)
        .unwrap_or("2025-11-25")
}
