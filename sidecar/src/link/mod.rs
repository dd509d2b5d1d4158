//! One running server process and everything that is under way on it.
//!
//! Problem: many HTTP requests share one pair of pipes, and nothing a server says carries more than an id.
//! Invariants: every call has an id of ours that no other call of the process ever had, so ids and
//! progress tokens of two clients cannot meet; each message of the server goes to one party; when the
//! process ends every call is answered at once. The tasks of a process are in [`pump`], what it says is
//! read in [`dispatch`].

mod call;
mod dispatch;
mod pump;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub(crate) use call::{Ask, Party};
pub(crate) use pump::{Ended, Pump};

use crate::audience::Audience;
use crate::http::ParamHeaders;
use crate::metrics::Metrics;
use crate::session::Session;
use crate::splice::Payload;
use crate::stream::Shelf;
use call::{Asked, Call};

/// Messages waiting for the server to read.
const QUEUE: usize = 256;
/// Calls under way on one process.
const MAX_CALLS: usize = 1024;

/// Which revisions a process is spoken to in (basic/versioning, "Terminology").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

/// Whose process it is, which decides where its uncorrelated messages go.
#[derive(Debug)]
pub(crate) enum Tenant {
    /// One legacy session.
    Session(Weak<Session>),
    /// All legacy sessions of one protocol version.
    Shared(Arc<Audience>),
    /// Modern requests, of one client or of all.
    Modern,
    /// Nobody's: it is being verified.
    Nobody,
}

/// Why a process takes no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Down {
    #[error("the MCP server ended ({why}) and is being restarted")]
    Restarting { why: String, retry_after: Duration },
    #[error("the MCP server was stopped because it was idle")]
    Idle,
    #[error("the session has ended")]
    SessionEnded,
    #[error("the sidecar is shutting down")]
    Draining,
    #[error("too many calls are under way on this MCP server process")]
    TooManyCalls,
}

/// A message on its way to the server, with its share of the queue's bytes.
#[derive(Debug)]
struct Outgoing {
    payload: Payload,
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(crate) struct Link {
    number: u64,
    tenant: Tenant,
    outbox: mpsc::Sender<Outgoing>,
    /// KiB that client messages may wait with.
    room: Arc<Semaphore>,
    room_kib: u32,
    state: Mutex<State>,
    last_id: AtomicU64,
    stop: CancellationToken,
    /// Bounds what the streams of modern calls hold.
    shelf: Arc<Shelf>,
    /// Result of the sidecar's own `initialize`.
    initialized: OnceLock<Bytes>,
    pub(crate) param_headers: ParamHeaders,
    metrics: Arc<Metrics>,
    started: Instant,
    used: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct State {
    /// By our id, so the first is the oldest.
    calls: BTreeMap<u64, Call>,
    /// The server's requests that clients have not answered yet, by our id.
    asked: HashMap<u64, Asked>,
    down: Option<Down>,
}

/// Ids of server requests are unique in the whole sidecar: a client's late answer to a dead process
/// must not answer the next one.
static LAST_ASKED: AtomicU64 = AtomicU64::new(0);

impl Link {
    /// A link and the receiving end of its queue, for its [`Pump`].
    fn new(
        number: u64,
        tenant: Tenant,
        max_message: usize,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (outbox, queue) = mpsc::channel(QUEUE);
        // One message of the largest size always fits.
        let room_kib = u32::try_from(max_message / 1024 * 2 + 1024).unwrap_or(u32::MAX >> 4);
        let link = Arc::new(Self {
            number,
            tenant,
            outbox,
            room: Arc::new(Semaphore::new(room_kib as usize)),
            room_kib,
            state: Mutex::default(),
            last_id: AtomicU64::new(0),
            stop: CancellationToken::new(),
            shelf: Shelf::new(),
            initialized: OnceLock::new(),
            param_headers: ParamHeaders::default(),
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            used: Mutex::new(Instant::now()),
        });
        (link, queue)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Since its last call ended or began; zero while one is under way.
    pub(crate) fn idle_for(&self) -> Duration {
        if self.busy() {
            Duration::ZERO
        } else {
            self.used.lock().elapsed()
        }
    }

    /// Whether a call is under way or one of its clients reads a stream.
    pub(crate) fn busy(&self) -> bool {
        let state = self.state.lock();
        if !state.calls.is_empty() || !state.asked.is_empty() {
            return true;
        }
        drop(state);
        match &self.tenant {
            Tenant::Session(session) => session.upgrade().is_some_and(|session| session.reading()),
            Tenant::Shared(audience) => audience.sessions(None).iter().any(|session| session.reading()),
            Tenant::Modern | Tenant::Nobody => false,
        }
    }

    /// Whether it takes no further call.
    pub(crate) fn stopping(&self) -> bool {
        self.state.lock().down.is_some()
    }

    pub(crate) fn era(&self) -> Era {
        match self.tenant {
            Tenant::Modern => Era::Modern,
            Tenant::Session(_) | Tenant::Shared(_) | Tenant::Nobody => Era::Legacy,
        }
    }

    /// Whether a call of this session is under way.
    pub(crate) fn serves(&self, session: &Arc<Session>) -> bool {
        let party = Party::Session(Arc::clone(session));
        self.state.lock().calls.values().any(|call| call.is_of(&party))
    }

    /// Remembers the result of the sidecar's own `initialize`.
    pub(crate) fn set_initialized(&self, result: Bytes) {
        // Set once, by the handshake.
        let _ = self.initialized.set(result);
    }

    pub(crate) fn initialized(&self) -> Option<&Bytes> {
        self.initialized.get()
    }

    /// Takes no further call and lets the process stop; calls under way are answered with `why`.
    pub(crate) fn stop(&self, why: Down) {
        self.go_down(why);
        self.stop.cancel();
    }

    /// Waits for room in the queue, then for the message's turn in it. An error of the process reaches the
    /// call by [`Link::go_down`], so there is none here.
    async fn send(&self, payload: Payload) {
        let kib = u32::try_from(payload.len() / 1024 + 1)
            .unwrap_or(u32::MAX)
            .min(self.room_kib);
        // The semaphore is never closed.
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.ok();
        let _ = self.outbox.send(Outgoing { payload, _room: room }).await;
    }

    /// For messages of ours that must not wait, because the reader of the server sends them.
    fn post(&self, payload: Payload) {
        if self.outbox.try_send(Outgoing { payload, _room: None }).is_err() {
            tracing::warn!(
                process = self.number,
                "the server does not read; a message to it was dropped"
            );
            self.metrics.dropped("to_server");
        }
    }

    fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The process is gone or going: answers every call under way, once.
    fn go_down(&self, why: Down) {
        let mut state = self.state.lock();
        if state.down.is_some() {
            return;
        }
        state.down = Some(why.clone());
        let calls = std::mem::take(&mut state.calls);
        state.asked.clear();
        drop(state);
        if let Tenant::Session(session) = &self.tenant
            && let Some(session) = session.upgrade()
        {
            if !calls.values().any(Call::is_clients) {
                session.bereave();
            }
            session.standalone().hang_up();
        }
        if let Tenant::Shared(audience) = &self.tenant {
            for session in audience.sessions(None) {
                session.standalone().hang_up();
            }
        }
        for call in calls.into_values() {
            call.fail(&why);
        }
    }
}
