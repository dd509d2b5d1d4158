//! One legacy client session: what `initialize` settled, its streams, and whether its server's memory is gone.
//!
//! Invariant: a session belongs to the principal that opened it, and everything a server says to it stays
//! in its own streams. The session outlives its server process: the remembered `initialize` brings up the
//! next one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use crate::message::Message;
use crate::processes::Slot;
use crate::scan::Scanner;
use crate::stream::{Shelf, Stream};

/// First revision whose clients know priming events and `retry` (basic/transports, "Sending Messages").
const POLLING_SINCE: &str = "2025-11-25";
/// The only revision with batches.
const BATCH_VERSION: &str = "2025-03-26";

/// A client by the name the edge gave it (`x-mcp-edge-client`), `""` without an edge.
pub(crate) type Principal = Arc<str>;

/// What the client can answer, from its `initialize`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    roots: bool,
    sampling: bool,
    elicitation: bool,
    tasks: bool,
}

impl Capabilities {
    /// Reads the `capabilities` object; anything else declares nothing.
    pub(crate) fn read(raw: &[u8]) -> Self {
        let mut found = Self::default();
        let Ok(mut scanner) = Scanner::new(raw, 256) else {
            return found;
        };
        // The object was scanned before as a part of its message; a failure leaves what was found.
        let _ = scanner.object(|s, key| {
            let declared = s.peek() == Some(b'{');
            match key {
                "roots" => found.roots = declared,
                "sampling" => found.sampling = declared,
                "elicitation" => found.elicitation = declared,
                "tasks" => found.tasks = declared,
                _ => {}
            }
            s.value().map(drop)
        });
        found
    }

    /// Whether a server may send this request to the client; a method nobody knows is for the client to refuse.
    pub(crate) fn allow(&self, method: &str) -> bool {
        match method.split_once('/') {
            Some(("roots", _)) => self.roots,
            Some(("sampling", _)) => self.sampling,
            Some(("elicitation", _)) => self.elicitation,
            Some(("tasks", _)) => self.tasks,
            _ => true,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    number: u64,
    principal: Principal,
    capabilities: Capabilities,
    shelf: Arc<Shelf>,
    standalone: Arc<Stream>,
    slot: OnceLock<Arc<Slot>>,
    /// The client's own `initialize`, for the next process.
    initialize: Message,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    version: String,
    /// The server has answered `initialize`.
    opened: bool,
    initialized: bool,
    used: Instant,
    /// The server's memory is gone and nobody has told the client.
    bereaved: bool,
}

impl Session {
    /// A session for this `initialize` request; its process is assigned by [`Session::settle`].
    fn new(id: String, number: u64, principal: Principal, initialize: Message) -> Arc<Self> {
        let fields = initialize.fields();
        let capabilities = initialize
            .raw(fields.capabilities)
            .map(Capabilities::read)
            .unwrap_or_default();
        let version = initialize
            .text(fields.protocol_version)
            .unwrap_or_default()
            .into_owned();
        let shelf = Shelf::new();
        let standalone = shelf.standalone();
        let state = State {
            version,
            opened: false,
            initialized: false,
            used: Instant::now(),
            bereaved: false,
        };
        Arc::new(Self {
            id,
            number,
            principal,
            capabilities,
            shelf,
            standalone,
            slot: OnceLock::new(),
            initialize,
            state: Mutex::new(state),
        })
    }

    /// Assigns the place of its process, once.
    pub(crate) fn settle(&self, slot: Arc<Slot>) {
        // A second place is never assigned.
        let _ = self.slot.set(slot);
    }

    pub(crate) fn slot(&self) -> Option<&Arc<Slot>> {
        self.slot.get()
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(crate) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// The stream of the client's GET.
    pub(crate) fn standalone(&self) -> &Arc<Stream> {
        &self.standalone
    }

    /// The stream a `Last-Event-ID` names.
    pub(crate) fn stream(&self, number: u64) -> Option<Arc<Stream>> {
        if number == 0 {
            Some(Arc::clone(&self.standalone))
        } else {
            self.shelf.find(number)
        }
    }

    pub(crate) fn initialize(&self) -> &Message {
        &self.initialize
    }

    /// The server's answer to `initialize` settles the version.
    pub(crate) fn negotiated(&self, version: String) {
        let mut state = self.state.lock();
        state.version = version;
        state.opened = true;
    }

    /// Whether a new process has to be brought to where this session is.
    pub(crate) fn opened(&self) -> bool {
        self.state.lock().opened
    }

    /// The client sent `notifications/initialized`.
    pub(crate) fn note_initialized(&self) {
        self.state.lock().initialized = true;
    }

    pub(crate) fn initialized(&self) -> bool {
        self.state.lock().initialized
    }

    /// Whether the client knows priming events. Revisions are dates: they compare as text.
    pub(crate) fn polls(&self) -> bool {
        self.state.lock().version.as_str() >= POLLING_SINCE
    }

    pub(crate) fn batches(&self) -> bool {
        self.state.lock().version == BATCH_VERSION
    }

    /// Marks use now.
    pub(crate) fn touch(&self) {
        self.state.lock().used = Instant::now();
    }

    /// Since its last use; zero while a stream of it is being read.
    pub(crate) fn idle_for(&self) -> Duration {
        if self.reading() {
            Duration::ZERO
        } else {
            self.state.lock().used.elapsed()
        }
    }

    /// Whether the client reads one of its streams now.
    pub(crate) fn reading(&self) -> bool {
        self.standalone.attached() || self.shelf.all().iter().any(|stream| stream.attached())
    }

    /// Its process ended without any call that could tell the client.
    pub(crate) fn bereave(&self) {
        self.state.lock().bereaved = true;
    }

    /// Whether the client has to be told now; true once.
    pub(crate) fn take_bereaved(&self) -> bool {
        std::mem::take(&mut self.state.lock().bereaved)
    }

    /// Ends the connections of all its streams; the streams themselves can be resumed.
    pub(crate) fn hang_up(&self) {
        self.standalone.hang_up();
        for stream in self.shelf.all() {
            stream.hang_up();
        }
    }

    fn close(&self) {
        self.standalone.abandon();
        self.standalone.hang_up();
        self.shelf.clear();
    }
}

/// All sessions of this sidecar, by id.
#[derive(Debug)]
pub(crate) struct Sessions {
    endpoint: String,
    last_number: AtomicU64,
    by_id: Mutex<HashMap<String, Arc<Session>>>,
}

/// Sessions kept at most; past that the one idle longest is ended. Clients hardly ever send DELETE.
const MAX_SESSIONS: usize = 20_000;

impl Sessions {
    /// `endpoint` is the incarnation id that starts every session id.
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            last_number: AtomicU64::new(0),
            by_id: Mutex::default(),
        }
    }

    /// Opens a session for an `initialize`; also the session that had to go for it, if any.
    pub(crate) fn open(
        &self,
        principal: Principal,
        initialize: Message,
    ) -> Result<(Arc<Session>, Option<Arc<Session>>), getrandom::Error> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random)?;
        let id = format!("{}.{}", self.endpoint, URL_SAFE_NO_PAD.encode(random));
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let session = Session::new(id.clone(), number, principal, initialize);
        let mut by_id = self.by_id.lock();
        let evicted = if by_id.len() < MAX_SESSIONS {
            None
        } else {
            let oldest = by_id.values().max_by_key(|session| session.idle_for()).cloned();
            oldest.and_then(|session| by_id.remove(&session.id))
        };
        by_id.insert(id, Arc::clone(&session));
        Ok((session, evicted))
    }

    /// The session of that id, if it is this principal's.
    pub(crate) fn find(&self, id: &str, principal: &str) -> Option<Arc<Session>> {
        let session = self.by_id.lock().get(id).cloned()?;
        (session.principal.as_ref() == principal).then_some(session)
    }

    /// Takes a session out of reach and ends its streams; false if it was out already.
    pub(crate) fn close(&self, session: &Session) -> bool {
        let known = self.by_id.lock().remove(&session.id).is_some();
        session.close();
        known
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.by_id.lock().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.lock().len()
    }
}
