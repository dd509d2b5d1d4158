//! When to start a server again, and when to call it a crash loop. Pure: time comes in as arguments.
//!
//! Problem: a server that dies at once must not be restarted in a tight loop, nor 21 of them in step; one that ran well
//! for hours must be back in a second. A reset at every *start* would undo the backoff of a server that always starts
//! and always dies (fastmcp 1908, toolhive 2117): only uptime resets it.

use std::fmt;
use std::time::{Duration, Instant};

/// Delay after the first death.
const FIRST: Duration = Duration::from_secs(1);
/// Largest delay before jitter; with it 60 s.
const LARGEST: Duration = Duration::from_secs(50);
/// The delay is spread evenly over ± this part of itself.
const JITTER: f64 = 0.2;
/// Uptime that proves a server good: its next death counts as the first.
const SUSTAINED: Duration = Duration::from_secs(30);
/// A death before this uptime is early.
const EARLY: Duration = Duration::from_secs(10);
/// So many early deaths in a row are a crash loop.
const LOOP: u32 = 3;

/// The restart policy of one command. Tell it every end that was not ordered.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Deaths in a row without sustained uptime.
    deaths: u32,
    /// Early deaths in a row.
    early: u32,
    last_uptime: Duration,
    random: u64,
}

/// The answer to a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartAt {
    /// Start it again then, not before.
    pub at: Instant,
    /// From the death to `at`.
    pub delay: Duration,
    /// The verdict, if the server dies again and again. It is restarted all the same.
    pub crash_loop: Option<CrashLoop>,
}

/// A server that died early several times in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashLoop {
    /// Early deaths in a row.
    pub deaths: u32,
    /// Uptime before the last one.
    pub last_uptime: Duration,
}

impl fmt::Display for CrashLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "crash loop: died {} times in a row within {} s of its start, last after {:.1} s",
            self.deaths,
            EARLY.as_secs(),
            self.last_uptime.as_secs_f64()
        )
    }
}

impl Backoff {
    /// `seed` decides the jitter: a random number, or a fixed one in a test.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            deaths: 0,
            early: 0,
            last_uptime: Duration::ZERO,
            random: seed,
        }
    }

    /// The server ended by itself at `now`, `uptime` after its start (zero if it never started).
    pub fn on_exit(&mut self, uptime: Duration, now: Instant) -> RestartAt {
        self.on_healthy(uptime);
        self.last_uptime = uptime;
        if uptime < EARLY {
            self.early = self.early.saturating_add(1);
        }
        let doubled = FIRST
            .saturating_mul(2u32.saturating_pow(self.deaths))
            .min(LARGEST);
        self.deaths = self.deaths.saturating_add(1);
        let delay = doubled.mul_f64(1.0 - JITTER + 2.0 * JITTER * self.next_random());
        RestartAt {
            at: now + delay,
            delay,
            crash_loop: self.crash_loop(),
        }
    }

    /// The running server was found well, `uptime` after its start. Only uptime counts: 10 s lift a crash-loop verdict,
    /// 30 s reset the delay. Calling it is optional; the next [`Backoff::on_exit`] sees the same uptime.
    pub fn on_healthy(&mut self, uptime: Duration) {
        if uptime >= EARLY {
            self.early = 0;
        }
        if uptime >= SUSTAINED {
            self.deaths = 0;
        }
    }

    /// Why the server is unhealthy, if it is in a crash loop. `uptime` of the process that runs now, if one does: from
    /// 10 s on it is taken for well again.
    #[must_use]
    pub fn reason(&self, uptime: Option<Duration>) -> Option<String> {
        if uptime.is_some_and(|uptime| uptime >= EARLY) {
            return None;
        }
        self.crash_loop().map(|verdict| verdict.to_string())
    }

    fn crash_loop(&self) -> Option<CrashLoop> {
        (self.early >= LOOP).then_some(CrashLoop {
            deaths: self.early,
            last_uptime: self.last_uptime,
        })
    }

    /// Even in [0, 1): splitmix64 (Steele, Lea, Flood 2014), its top 53 bits.
    fn next_random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn assert_near(delay: Duration, seconds: f64) {
        let delay = delay.as_secs_f64();
        assert!(
            (delay - seconds).abs() <= 0.2 * seconds + 1e-6,
            "{delay} is not {seconds} ± 20 %"
        );
    }

    #[test]
    fn doubles_from_one_second_to_at_most_a_minute() {
        let now = Instant::now();
        let mut backoff = Backoff::new(7);
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 50.0, 50.0] {
            let restart = backoff.on_exit(SECOND, now);
            assert_near(restart.delay, seconds);
            assert_eq!(restart.at, now + restart.delay);
        }
    }

    #[test]
    fn sustained_uptime_resets_and_a_start_does_not() {
        let now = Instant::now();
        let mut backoff = Backoff::new(7);
        for _ in 0..5 {
            backoff.on_exit(SECOND, now);
        }
        backoff.on_healthy(SECOND);
        assert_near(backoff.on_exit(29 * SECOND, now).delay, 32.0);
        assert_near(backoff.on_exit(30 * SECOND, now).delay, 1.0);
        backoff.on_exit(SECOND, now);
        backoff.on_healthy(30 * SECOND);
        assert_near(backoff.on_exit(SECOND, now).delay, 1.0);
    }

    #[test]
    fn three_early_deaths_in_a_row_are_a_crash_loop() {
        let now = Instant::now();
        let mut backoff = Backoff::new(7);
        assert_eq!(backoff.on_exit(SECOND, now).crash_loop, None);
        assert_eq!(backoff.on_exit(SECOND, now).crash_loop, None);
        assert_eq!(backoff.reason(None), None);
        let verdict = backoff.on_exit(1500 * SECOND / 1000, now).crash_loop.unwrap();
        assert_eq!(verdict.deaths, 3);
        let reason = "crash loop: died 3 times in a row within 10 s of its start, last after 1.5 s";
        assert_eq!(backoff.reason(None).unwrap(), reason);
        assert_eq!(backoff.reason(Some(9 * SECOND)).unwrap(), reason);
        assert_eq!(backoff.reason(Some(10 * SECOND)), None);
        assert_eq!(backoff.on_exit(10 * SECOND, now).crash_loop, None);
        assert_eq!(backoff.reason(None), None);
    }

    #[test]
    fn jitter_follows_the_seed() {
        let now = Instant::now();
        let delays = |seed| {
            let mut backoff = Backoff::new(seed);
            [(); 4].map(|()| backoff.on_exit(SECOND, now).delay)
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }

    proptest! {
        /// Against a model that looks back over the whole list of uptimes.
        #[test]
        fn agrees_with_its_rules(
            seed in any::<u64>(),
            uptimes in proptest::collection::vec(prop_oneof![0u64..10_000, 10_000u64..30_000, 30_000u64..90_000], 1..40),
        ) {
            let now = Instant::now();
            let mut backoff = Backoff::new(seed);
            for (index, uptime) in uptimes.iter().enumerate() {
                let restart = backoff.on_exit(Duration::from_millis(*uptime), now);
                let so_far = &uptimes[..=index];
                // This death follows those since the last sustained uptime, which belongs to the new series.
                let since = so_far.iter().rposition(|uptime| *uptime >= 30_000).map_or(index, |at| index - at);
                let doubled = 2f64.powi(i32::try_from(since).unwrap()).min(50.0);
                let ratio = restart.delay.as_secs_f64() / doubled;
                prop_assert!((0.8 - 1e-6..=1.2 + 1e-6).contains(&ratio), "{since}: {ratio}");
                prop_assert!(restart.delay <= Duration::from_secs(60));
                let early = so_far.iter().rev().take_while(|uptime| **uptime < 10_000).count();
                prop_assert_eq!(restart.crash_loop.map(|verdict| verdict.deaths as usize), (early >= 3).then_some(early));
                prop_assert_eq!(backoff.reason(None).is_some(), early >= 3);
            }
        }
    }
}
