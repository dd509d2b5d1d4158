//! The wall clock, injected, so that a test decides what time it is.
//!
//! Only tokens and sessions need it. Everything else measures with tokio's monotonic clock, which
//! tests pause.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. Cheap to clone.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::from_fn(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        })
    }

    /// A clock that says what `now` says, in seconds since 1970.
    pub fn from_fn(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Seconds since 1970.
    pub fn unix_secs(&self) -> u64 {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_clock_is_past_2020_and_a_given_one_says_what_it_is_told() {
        assert!(WallClock::system().unix_secs() > 1_577_836_800);
        assert_eq!(WallClock::from_fn(|| 7).unix_secs(), 7);
    }
}
