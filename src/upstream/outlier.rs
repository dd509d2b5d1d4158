//! Passive ejection: what real requests meet takes an endpoint out before the next active check does.
//!
//! A refused connection ejects at once, other failures only in a row. Invariant: ejection never takes the last
//! endpoint, nor more than half of a pool: [`allowed`] is asked, one ejection at a time, before any.
//! An endpoint returns with the first successful active check after its time, never by the clock alone.

use std::time::Duration;

use tokio::time::Instant;

use super::random::jittered;

/// When an endpoint is ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierRules {
    /// Failures in a row that eject.
    pub consecutive: u32,
    /// Time out for the first ejection; the n-th takes n times as long.
    pub base: Duration,
    /// Longest time out; an endpoint that behaved for this long starts again at `base`.
    pub cap: Duration,
    /// Part of the time by which it varies, so that endpoints ejected together do not return together.
    pub jitter: f64,
}

impl Default for OutlierRules {
    fn default() -> Self {
        Self {
            consecutive: 5,
            base: Duration::from_secs(30),
            cap: Duration::from_secs(300),
            jitter: 0.2,
        }
    }
}

/// Whether one more of a pool may be ejected.
///
/// `total` and `ejected` count the pool's endpoints, `others_open` those that would still be chosen afterwards.
pub(crate) fn allowed(total: usize, ejected: usize, others_open: usize) -> bool {
    others_open >= 1 && ejected < total / 2
}

/// The ejections of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ejection {
    count: u32,
    until: Option<Instant>,
    readmitted: Option<Instant>,
}

impl Ejection {
    /// Ejects now; the time out. `unit` in `[0, 1)` places the jitter.
    pub(crate) fn eject(&mut self, now: Instant, rules: &OutlierRules, unit: f64) -> Duration {
        if self
            .readmitted
            .is_some_and(|at| now.saturating_duration_since(at) >= rules.cap)
        {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        let out_for = jittered(
            rules.base.saturating_mul(self.count).min(rules.cap),
            rules.jitter,
            unit,
        );
        self.until = Some(now + out_for);
        out_for
    }

    /// Time left of the ejection; `None` if there is none, zero if it only waits for a successful check.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }

    /// Ejected, and the time is over.
    pub(crate) fn may_return(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Ends the ejection.
    pub(crate) fn readmit(&mut self, now: Instant) {
        self.until = None;
        self.readmitted = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: OutlierRules = OutlierRules {
        consecutive: 5,
        base: Duration::from_secs(30),
        cap: Duration::from_secs(300),
        jitter: 0.2,
    };

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn never_the_last_and_never_more_than_half() {
        // (total, ejected, others open) → allowed
        for (total, ejected, others, want) in [
            (1, 0, 0, false),
            (2, 0, 1, true),
            (2, 1, 0, false),
            (2, 0, 0, false),
            (3, 0, 2, true),
            (3, 1, 1, false),
            (4, 1, 2, true),
            (4, 2, 1, false),
            (4, 1, 0, false),
        ] {
            assert_eq!(
                allowed(total, ejected, others),
                want,
                "{total} {ejected} {others}"
            );
        }
    }

    #[test]
    fn the_nth_ejection_takes_n_times_as_long_up_to_the_cap() {
        let mut ejection = Ejection::default();
        let mut now = Instant::now();
        for n in 1..=12 {
            assert_eq!(ejection.eject(now, &RULES, 0.5), secs((30 * n).min(300)), "{n}");
            now += secs(300);
            assert!(ejection.may_return(now));
            ejection.readmit(now);
            assert_eq!(ejection.left(now), None);
        }
    }

    #[test]
    fn jitter_is_a_fifth() {
        let now = Instant::now();
        assert_eq!(Ejection::default().eject(now, &RULES, 0.0), secs(24));
        assert!(Ejection::default().eject(now, &RULES, 0.999_999) < secs(36));
    }

    #[test]
    fn good_behaviour_is_forgiven() {
        let mut ejection = Ejection::default();
        let now = Instant::now();
        ejection.eject(now, &RULES, 0.5);
        ejection.readmit(now + secs(30));
        ejection.eject(now + secs(40), &RULES, 0.5);
        ejection.readmit(now + secs(100));
        assert_eq!(ejection.eject(now + secs(399), &RULES, 0.5), secs(90));
        ejection.readmit(now + secs(500));
        assert_eq!(ejection.eject(now + secs(800), &RULES, 0.5), secs(30));
    }

    #[test]
    fn it_may_not_return_before_its_time() {
        let mut ejection = Ejection::default();
        let now = Instant::now();
        assert!(!ejection.may_return(now), "nothing to return from");
        ejection.eject(now, &RULES, 0.5);
        assert!(!ejection.may_return(now + secs(29)));
        assert_eq!(ejection.left(now + secs(29)), Some(secs(1)));
        assert!(ejection.may_return(now + secs(30)));
    }
}
