//! Sessions in memory, in shards.
//!
//! Invariant: bounded; what may be forgotten is only what says nothing any more: created sessions that
//! idled out, and revocations older than the longest life of a token.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{ClientSession, SessionError, SessionRef, SessionStatus, SessionStore};
use crate::jwt::verify::{LEEWAY, MAX_LIFE};
use crate::request::Identity;

const SHARDS: usize = 64;

type Shard = HashMap<SessionRef, ClientSession>;

/// The store.
pub struct MemorySessions {
    idle: u64,
    per_shard: usize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

impl MemorySessions {
    /// A store for at most `max_sessions` (rounded up to a multiple of 64), in which created sessions
    /// idle out after `idle`.
    pub fn new(idle: Duration, max_sessions: usize) -> Arc<Self> {
        Arc::new(Self {
            idle: idle.as_secs().max(1),
            per_shard: max_sessions.div_ceil(SHARDS).max(1),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    fn shard(&self, session: &SessionRef) -> Option<&Mutex<Shard>> {
        self.shards.get(self.hasher.hash_one(session) as usize % SHARDS)
    }

    fn is_idle(&self, record: &ClientSession, now: u64) -> bool {
        now.saturating_sub(record.last_activity) >= self.idle
    }

    fn may_forget(&self, record: &ClientSession, now: u64) -> bool {
        match record.revoked_at {
            Some(at) => now.saturating_sub(at) > MAX_LIFE + 2 * LEEWAY,
            None => self.is_idle(record, now),
        }
    }

    fn has_room(&self, shard: &mut Shard, now: u64) -> bool {
        if shard.len() >= self.per_shard {
            shard.retain(|_, record| !self.may_forget(record, now));
        }
        shard.len() < self.per_shard
    }
}

fn record(session: SessionRef, who: &Identity, now: u64) -> ClientSession {
    ClientSession {
        session,
        principal: who.principal.clone(),
        tier: who.tier.clone(),
        created_at: now,
        last_activity: now,
        requests: 0,
        revoked_at: None,
    }
}

impl SessionStore for MemorySessions {
    fn create(&self, id: Arc<str>, who: &Identity, now: u64) -> Result<(), SessionError> {
        let session = SessionRef::Created(id);
        let mut shard = self.shard(&session).ok_or(SessionError::Full)?.lock();
        if !self.has_room(&mut shard, now) {
            return Err(SessionError::Full);
        }
        shard.insert(session.clone(), record(session, who, now));
        Ok(())
    }

    fn touch(&self, session: &SessionRef, who: &Identity, now: u64) -> SessionStatus {
        let created = matches!(session, SessionRef::Created(_));
        let Some(shard) = self.shard(session) else {
            return SessionStatus::Expired;
        };
        let mut shard = shard.lock();
        let Some(found) = shard.get_mut(session) else {
            if created {
                return SessionStatus::Expired;
            }
            // No place to count it is no reason to refuse it: nobody has revoked it.
            if self.has_room(&mut shard, now) {
                let begun = ClientSession {
                    requests: 1,
                    ..record(session.clone(), who, now)
                };
                shard.insert(session.clone(), begun);
            }
            return SessionStatus::Active;
        };
        if found.principal != who.principal {
            return SessionStatus::Foreign;
        }
        match found.revoked_at {
            // A token of the very second of the revocation may be from before it.
            Some(at) if created || who.token_iat.is_none_or(|issued| issued <= at) => {
                return SessionStatus::Revoked;
            }
            _ if created && self.is_idle(found, now) => return SessionStatus::Expired,
            _ => {}
        }
        found.last_activity = now;
        found.requests += 1;
        found.tier = who.tier.clone();
        SessionStatus::Active
    }

    fn revoke(&self, session: &SessionRef, now: u64) -> bool {
        let Some(shard) = self.shard(session) else {
            return false;
        };
        let mut shard = shard.lock();
        if let Some(found) = shard.get_mut(session) {
            found.revoked_at = Some(now);
            return true;
        }
        let SessionRef::Implicit(principal) = session else {
            return false;
        };
        // Beyond the bound if need be: an operator's revocation is never dropped.
        let begun = ClientSession {
            session: session.clone(),
            principal: principal.clone(),
            tier: "".into(),
            created_at: now,
            last_activity: now,
            requests: 0,
            revoked_at: Some(now),
        };
        shard.insert(session.clone(), begun);
        true
    }

    fn list(&self, now: u64) -> Vec<ClientSession> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(
                shard
                    .lock()
                    .values()
                    .filter(|record| !self.may_forget(record, now))
                    .cloned(),
            );
        }
        all
    }
}
