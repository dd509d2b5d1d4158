//! The keys of one issuer while the edge runs: fixed, or fetched again and again.
//!
//! The socket is somebody else's ([`KeyFetcher`]); the policy is here: one fetch at a time, an unknown
//! `kid` triggers at most one fetch in 30 s (or anybody could make the edge hammer an identity
//! provider), and keys stay in use for 24 h while the provider is away.
//!
//! Invariant: `generation` changes with every replacement of the keys, so that nothing that was
//! verified with removed keys stays verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keys::{KeyError, KeySet};

/// How often a background task should call [`KeyRing::refresh`].
pub const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// How long an unknown `kid` triggers no further fetch.
pub const REFETCH_PAUSE: Duration = Duration::from_secs(30);
/// How long fetched keys are good for when they cannot be fetched again.
pub const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Gets a JWK set from wherever it is. Implemented outside this crate; must have its own time limit.
#[async_trait]
pub trait KeyFetcher: Send + Sync {
    /// The bytes of the set, at most [`super::keys::MAX_JWKS`].
    async fn fetch(&self) -> Result<Vec<u8>, String>;
}

/// Why keys were not replaced. The old ones stay in use.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// They could not be fetched.
    #[error("the key set could not be fetched: {0}")]
    Fetch(String),
    /// What was fetched is no key set.
    #[error("the fetched key set is not usable: {0}")]
    Keys(#[from] KeyError),
}

struct Held {
    keys: KeySet,
    /// `None`: fixed keys never go stale.
    fetched: Option<Instant>,
}

/// An issuer's keys.
pub struct KeyRing {
    held: ArcSwap<Held>,
    generation: AtomicU64,
    fetcher: Option<Arc<dyn KeyFetcher>>,
    /// Serialises fetches; holds when an unknown `kid` last triggered one.
    flight: Mutex<Option<Instant>>,
}

impl KeyRing {
    /// Keys that change only with the config.
    pub fn fixed(keys: KeySet) -> Arc<Self> {
        Self::with(Held { keys, fetched: None }, None)
    }

    /// Keys that are fetched; none are known until the first [`Self::refresh`].
    pub fn fetched(fetcher: Arc<dyn KeyFetcher>) -> Arc<Self> {
        Self::with(
            Held {
                keys: KeySet::default(),
                fetched: Some(Instant::now()),
            },
            Some(fetcher),
        )
    }

    fn with(held: Held, fetcher: Option<Arc<dyn KeyFetcher>>) -> Arc<Self> {
        Arc::new(Self {
            held: ArcSwap::from_pointee(held),
            generation: AtomicU64::new(0),
            fetcher,
            flight: Mutex::new(None),
        })
    }

    /// Whether a background task should refresh this ring.
    pub fn is_fetched(&self) -> bool {
        self.fetcher.is_some()
    }

    /// Fetches the keys now and puts them in the place of the old ones.
    pub async fn refresh(&self) -> Result<(), RefreshError> {
        let Some(fetcher) = &self.fetcher else {
            return Ok(());
        };
        let _one_at_a_time = self.flight.lock().await;
        self.fetch(fetcher.as_ref()).await
    }

    async fn fetch(&self, fetcher: &dyn KeyFetcher) -> Result<(), RefreshError> {
        let keys = KeySet::from_jwks(&fetcher.fetch().await.map_err(RefreshError::Fetch)?)?;
        self.held.store(Arc::new(Held {
            keys,
            fetched: Some(Instant::now()),
        }));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A token named a key that is not here: fetches, unless that was just done. `true` if the keys
    /// may have changed since the caller looked (at `seen_generation`).
    pub(crate) async fn refetch(&self, seen_generation: u64) -> bool {
        let Some(fetcher) = &self.fetcher else {
            return false;
        };
        let mut last = self.flight.lock().await;
        if self.generation() != seen_generation {
            return true;
        }
        if last.is_some_and(|at| at.elapsed() < REFETCH_PAUSE) {
            return false;
        }
        *last = Some(Instant::now());
        match self.fetch(fetcher.as_ref()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "an unknown key id, and the issuer's keys could not be fetched");
                false
            }
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Hands the keys to `look`; `None` if there are none that may still be used.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&KeySet) -> T) -> Option<T> {
        let held = self.held.load();
        let stale = held.fetched.is_some_and(|at| at.elapsed() >= STALE_AFTER);
        (!stale && !held.keys.0.is_empty()).then(|| look(&held.keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex as SyncMutex;
    use std::sync::atomic::AtomicUsize;

    /// Answers with the set it holds; counts.
    struct Provider(SyncMutex<Result<&'static str, ()>>, AtomicUsize);

    #[async_trait]
    impl KeyFetcher for Provider {
        async fn fetch(&self) -> Result<Vec<u8>, String> {
            self.1.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.0
                .lock()
                .map(|s| s.as_bytes().to_vec())
                .map_err(|()| "down".into())
        }
    }

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}]}"#;

    fn provider() -> (Arc<Provider>, Arc<KeyRing>) {
        let provider = Arc::new(Provider(SyncMutex::new(Ok(SET)), AtomicUsize::new(0)));
        (Arc::clone(&provider), KeyRing::fetched(provider))
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_unknown_kids_cost_one_fetch_in_30_s() {
        let (provider, ring) = provider();
        let seen = ring.generation();
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let ring = Arc::clone(&ring);
                tokio::spawn(async move { ring.refetch(seen).await })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap(), "everybody who waited sees the new keys");
        }
        assert_eq!(provider.1.load(Ordering::SeqCst), 1);
        let seen = ring.generation();
        assert!(!ring.refetch(seen).await, "too early for another");
        tokio::time::advance(REFETCH_PAUSE).await;
        assert!(ring.refetch(seen).await);
        assert_eq!(provider.1.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_outlive_an_outage_by_24_hours_and_no_more() {
        let (provider, ring) = provider();
        assert!(ring.read(|_| ()).is_none(), "no keys before the first fetch");
        ring.refresh().await.unwrap();
        *provider.0.lock() = Err(());
        tokio::time::advance(STALE_AFTER - Duration::from_secs(1)).await;
        assert!(ring.refresh().await.is_err());
        assert!(ring.read(|_| ()).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(ring.read(|_| ()).is_none());
        *provider.0.lock() = Ok(SET);
        ring.refresh().await.unwrap();
        assert!(ring.read(|_| ()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_set_leaves_the_old_keys() {
        let (provider, ring) = provider();
        ring.refresh().await.unwrap();
        let generation = ring.generation();
        *provider.0.lock() = Ok("<html>");
        assert!(matches!(
            ring.refresh().await,
            Err(RefreshError::Keys(KeyError::JwksForm))
        ));
        assert_eq!(
            (ring.read(|k| k.0.len()), ring.generation()),
            (Some(1), generation)
        );
    }
}
