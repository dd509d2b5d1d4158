//! Verified tokens, remembered for a minute: a client sends the same one with every request.
//!
//! Only a keyed hash of a token is kept, never the token. Invariant: nothing is remembered past its token's expiry or
//! [`KEEP`], at most [`PER_SHARD`] times [`SHARDS`] identities are kept, and no lock is shared by all requests.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use crate::request::Identity;

/// Longest memory, in seconds.
const KEEP: u64 = 60;
const SHARDS: usize = 16;
const PER_SHARD: usize = 1024;

struct Known {
    identity: Arc<Identity>,
    until: u64,
}

/// Tokens that were verified a moment ago.
pub(super) struct Cache {
    shards: Vec<RwLock<HashMap<[u8; 32], Known>>>,
    spread: RandomState,
}

/// A token's place in the cache.
pub(super) struct Place([u8; 32]);

impl Default for Cache {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            spread: RandomState::new(),
        }
    }
}

impl Cache {
    /// A collision would give one client another's identity, so the hash is a cryptographic one.
    pub(super) fn place(token: &str) -> Place {
        Place(Sha256::digest(token).into())
    }

    fn shard(&self, place: &Place) -> Option<&RwLock<HashMap<[u8; 32], Known>>> {
        let at = usize::try_from(self.spread.hash_one(place.0) % SHARDS as u64).unwrap_or(0);
        self.shards.get(at)
    }

    /// The identity, if the token was verified a moment before `now` (seconds since 1970).
    pub(super) fn get(&self, place: &Place, now: u64) -> Option<Arc<Identity>> {
        let shard = self.shard(place)?.read();
        shard
            .get(&place.0)
            .filter(|known| now < known.until)
            .map(|known| known.identity.clone())
    }

    /// Remembers a verified token.
    pub(super) fn put(&self, place: &Place, identity: Arc<Identity>, now: u64) {
        let until = identity.token_exp.unwrap_or(0).min(now + KEEP);
        let Some(shard) = self.shard(place) else { return };
        let mut shard = shard.write();
        if shard.len() >= PER_SHARD {
            shard.retain(|_, known| now < known.until);
        }
        // Full of live ones: verifying again costs microseconds, forgetting costs nothing.
        if shard.len() < PER_SHARD {
            shard.insert(place.0, Known { identity, until });
        }
    }
}
