//! Client sessions: a token can be bound to one, and ending it ends the token.
//!
//! A token of our own issuer with a `session_id` lives and dies with that session, which idles out.
//! Every other client has an implicit session, one per (issuer, subject): it never idles out, and
//! revoking it refuses the tokens that were issued until then.
//!
//! Invariant: a revocation holds from the next request on, and is never forgotten while a token that it
//! refuses could still be valid.

mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::chain::Filter;
use crate::clock::WallClock;
use crate::ids::{Principal, TierName};
use crate::reason::Reason;
use crate::request::{Identity, Request};
use crate::verdict::{Reply, Verdict};

pub use memory::MemorySessions;

/// Names a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionRef {
    /// One that was created, by its id.
    Created(Arc<str>),
    /// The implicit one of a client.
    Implicit(Principal),
}

impl SessionRef {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("client:") {
            Some(principal) => Self::Implicit(Principal::new(principal)),
            None => Self::Created(text.into()),
        }
    }
}

impl fmt::Display for SessionRef {
    /// The id, or `client:` and the client; ids have no colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(id) => f.write_str(id),
            Self::Implicit(principal) => write!(f, "client:{principal}"),
        }
    }
}

/// A session as operators see it. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSession {
    /// Its name.
    pub session: SessionRef,
    /// Whose it is.
    pub principal: Principal,
    /// The client's tier at its last request.
    pub tier: TierName,
    /// When it began.
    pub created_at: u64,
    /// When it was last used.
    pub last_activity: u64,
    /// Requests so far.
    pub requests: u64,
    /// When it was revoked.
    pub revoked_at: Option<u64>,
}

/// What a store says of a session that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStatus {
    /// In force; the request was counted.
    Active,
    /// Idle for too long, or not known (any more).
    Expired,
    /// Ended.
    Revoked,
    /// Somebody else's.
    Foreign,
}

/// Why a session was not made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// The store is full of sessions in force.
    #[error("there are too many client sessions; end some, or wait until some idle out")]
    Full,
    /// The system has no random numbers.
    #[error("no session id could be made: the system gave no random bytes")]
    Random,
}

/// Where sessions are kept. Asked on every request, so it must answer from memory.
pub trait SessionStore: Send + Sync {
    /// Adds a created session.
    fn create(&self, id: Arc<str>, who: &Identity, now: u64) -> Result<(), SessionError>;

    /// Looks a session up for a request and counts it. Implicit sessions begin here.
    fn touch(&self, session: &SessionRef, who: &Identity, now: u64) -> SessionStatus;

    /// Ends a session from now on; `false` if there is no such session. An implicit one that was never
    /// seen is revoked all the same.
    fn revoke(&self, session: &SessionRef, now: u64) -> bool;

    /// Sessions in force or revoked, in no order.
    fn list(&self, now: u64) -> Vec<ClientSession>;
}

/// How sessions work.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Our own issuer: the `session_id` of its tokens, and of no others, names a session here.
    pub own_issuer: Arc<str>,
}

/// Default of how long a created session may be idle.
pub const IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// The filter.
pub struct Session {
    config: SessionConfig,
    store: Arc<dyn SessionStore>,
    clock: WallClock,
}

impl Session {
    /// A filter on this store.
    pub fn new(config: SessionConfig, store: Arc<dyn SessionStore>, clock: WallClock) -> Self {
        Self { config, store, clock }
    }

    fn check(&self, who: &Identity) -> Result<(), Reply> {
        let session = match &who.session_id {
            Some(id) if who.issuer == self.config.own_issuer => SessionRef::Created(Arc::clone(id)),
            _ => SessionRef::Implicit(who.principal.clone()),
        };
        let refuse = |reason, message: &'static str| Err(Reply::new(reason, message));
        match self.store.touch(&session, who, self.clock.unix_secs()) {
            SessionStatus::Active => Ok(()),
            SessionStatus::Expired => refuse(
                Reason::SessionExpired,
                "the client session has expired; make a new one with POST /sessions",
            ),
            SessionStatus::Revoked => refuse(Reason::SessionRevoked, "the client session was ended"),
            SessionStatus::Foreign => refuse(
                Reason::TokenInvalid,
                "the token names a session of another client",
            ),
        }
    }
}

/// Makes a session for a client and returns its id (128 random bits, base64url).
pub fn create(store: &dyn SessionStore, who: &Identity, now: u64) -> Result<Arc<str>, SessionError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| SessionError::Random)?;
    let id: Arc<str> = URL_SAFE_NO_PAD.encode(bytes).into();
    store.create(Arc::clone(&id), who, now)?;
    Ok(id)
}

#[async_trait]
impl Filter for Session {
    fn name(&self) -> &'static str {
        "session"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        let Some(who) = &req.identity else {
            return Verdict::Continue;
        };
        match self.check(who) {
            Ok(()) => Verdict::Continue,
            Err(reply) => reply.into(),
        }
    }
}

#[cfg(test)]
mod tests;
