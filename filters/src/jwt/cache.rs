//! Tokens that were verified a moment ago, by the hash of the whole token.
//!
//! Invariant: an entry is used only until the token's `exp`, for 60 s at most, and only while the
//! issuer's keys are those it was verified with. Bounded, and split into shards so that no lock is
//! shared by all requests. The key is SHA-256: with a weaker hash one token could stand for another.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use crate::request::Identity;

const SHARDS: usize = 64;
/// Entries of one shard; 16,384 in all (about 8 MiB at worst).
const PER_SHARD: usize = 256;
/// Longest use of an entry in seconds.
const MAX_AGE: u64 = 60;

#[derive(Clone)]
pub(crate) struct CachedToken {
    pub(crate) identity: Arc<Identity>,
    pub(crate) generation: u64,
    good_until: u64,
}

type Key = [u8; 32];

pub(crate) struct TokenCache {
    shards: Box<[RwLock<HashMap<Key, CachedToken>>]>,
}

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }

    pub(crate) fn key(token: &str) -> Key {
        Sha256::digest(token.as_bytes()).into()
    }

    fn shard(&self, key: &Key) -> Option<&RwLock<HashMap<Key, CachedToken>>> {
        let [first, ..] = key;
        self.shards.get(usize::from(*first) % SHARDS)
    }

    pub(crate) fn get(&self, key: &Key, now: u64) -> Option<CachedToken> {
        self.shard(key)?
            .read()
            .get(key)
            .filter(|entry| now < entry.good_until)
            .cloned()
    }

    /// Keeps a token verified at `now`. A full shard drops what is past its time, and if there is
    /// nothing, does not take the new one: a flood of tokens costs verifications, not memory.
    pub(crate) fn put(&self, key: Key, identity: Arc<Identity>, generation: u64, now: u64) {
        let good_until = identity.token_exp.unwrap_or(0).min(now.saturating_add(MAX_AGE));
        let Some(shard) = self.shard(&key) else { return };
        let mut shard = shard.write();
        if shard.len() >= PER_SHARD {
            shard.retain(|_, entry| now < entry.good_until);
        }
        if shard.len() < PER_SHARD {
            shard.insert(
                key,
                CachedToken {
                    identity,
                    generation,
                    good_until,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Principal;

    fn identity(exp: u64) -> Arc<Identity> {
        Arc::new(Identity {
            issuer: "i".into(),
            id: "c".into(),
            principal: Principal::of("i", "c"),
            tier: "free".into(),
            scopes: [].into(),
            session_id: None,
            token_iat: None,
            token_exp: Some(exp),
        })
    }

    #[test]
    fn an_entry_is_good_until_exp_and_for_60_s_at_most() {
        let cache = TokenCache::new();
        let (short, long) = (TokenCache::key("short"), TokenCache::key("long"));
        cache.put(short, identity(110), 0, 100);
        cache.put(long, identity(10_000), 0, 100);
        assert!(cache.get(&short, 109).is_some());
        assert!(cache.get(&short, 110).is_none());
        assert!(cache.get(&long, 159).is_some());
        assert!(cache.get(&long, 160).is_none());
        assert!(cache.get(&TokenCache::key("other"), 100).is_none());
    }

    #[test]
    fn a_flood_is_bounded_and_makes_room_once_it_is_over() {
        let cache = TokenCache::new();
        for i in 0..40_000 {
            cache.put(TokenCache::key(&i.to_string()), identity(10_000), 0, 100);
        }
        let held = |cache: &TokenCache| cache.shards.iter().map(|s| s.read().len()).sum::<usize>();
        assert_eq!(held(&cache), SHARDS * PER_SHARD);
        let late = TokenCache::key("late");
        cache.put(late, identity(10_000), 0, 161);
        assert!(cache.get(&late, 161).is_some());
    }
}
