//! The place of one server process: empty, starting, live, or failed. Whoever needs the process waits
//! here; one start serves all who wait.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::audience::Audience;
use crate::link::{Down, Link, Tenant};
use crate::session::{Principal, Session};

/// Why there is no process to talk to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLink {
    #[error("all {max} processes of this MCP server are in use")]
    NoProcess { max: usize },
    #[error("the MCP server cannot be started: {why}")]
    Unstartable { why: String, retry_after: Duration },
    #[error("the MCP server is not started again before its backoff has passed: {why}")]
    Backoff { why: String, retry_after: Duration },
    #[error("the MCP server did not answer within {} s of its start", .limit.as_secs_f32())]
    Silent { limit: Duration },
    #[error("this MCP server speaks no modern revision")]
    LegacyOnly,
    #[error("the process was stopped: {0}")]
    Down(Down),
}

/// Whose place it is; decides the handshake and where uncorrelated messages go.
#[derive(Debug)]
pub(crate) enum Role {
    /// One legacy session's own process.
    Session(Weak<Session>),
    /// One process for all legacy sessions of this protocol version.
    Shared {
        version: String,
        audience: Arc<Audience>,
    },
    /// Modern requests of one client, or of all.
    Modern,
    /// The start that tells whether the command works, and which era it speaks.
    Probe,
    /// A second look at a command that did not survive the probe: as a legacy client would open it.
    Check,
}

impl Role {
    pub(super) fn tenant(&self) -> Tenant {
        match self {
            Self::Session(session) => Tenant::Session(Weak::clone(session)),
            Self::Shared { audience, .. } => Tenant::Shared(Arc::clone(audience)),
            // A probed process of a modern server becomes the first client's.
            Self::Modern | Self::Probe => Tenant::Modern,
            Self::Check => Tenant::Nobody,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Place {
    Empty,
    Starting,
    Live(Arc<Link>),
    Failed(NoLink),
}

#[derive(Debug)]
pub(crate) struct Slot {
    role: Role,
    place: watch::Sender<Place>,
    /// Of a modern slot: the client it was last given to. A spare has none.
    pub(super) client: Mutex<Option<Principal>>,
}

impl Slot {
    pub(crate) fn new(role: Role) -> Arc<Self> {
        Arc::new(Self {
            role,
            place: watch::Sender::new(Place::Empty),
            client: Mutex::new(None),
        })
    }

    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// The process, if it runs.
    pub(crate) fn live(&self) -> Option<Arc<Link>> {
        match &*self.place.borrow() {
            Place::Live(link) => Some(Arc::clone(link)),
            _ => None,
        }
    }

    pub(super) fn vacant(&self) -> bool {
        !matches!(&*self.place.borrow(), Place::Live(_) | Place::Starting)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Place> {
        self.place.subscribe()
    }

    /// Claims the right to start; false if somebody has it or the process runs.
    pub(super) fn claim(&self) -> bool {
        self.place.send_if_modified(|place| {
            let free = matches!(place, Place::Empty | Place::Failed(_));
            if free {
                *place = Place::Starting;
            }
            free
        })
    }

    pub(super) fn settle(&self, link: &Arc<Link>) {
        self.place.send_replace(Place::Live(Arc::clone(link)));
    }

    pub(super) fn fail(&self, why: NoLink) {
        self.place.send_replace(Place::Failed(why));
    }

    /// The process ended.
    pub(super) fn vacate(&self) {
        self.place.send_if_modified(|place| {
            let live = matches!(place, Place::Live(_));
            if live {
                *place = Place::Empty;
            }
            live
        });
    }
}
