//! The two ways of counting: an exact sliding log, and GCRA.
//!
//! Both are plain values moved by a clock that the caller reads, in milliseconds since any fixed
//! moment. A cost is taken whole or not at all.

use std::collections::VecDeque;

/// How a limit is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Never more than the limit in any window, and never a refusal below it. Takes 4 bytes a unit.
    #[default]
    Exact,
    /// GCRA (ITU-T I.371): units drip at the limit's rate, with room for `burst` at once. A window may
    /// see up to the limit plus `burst`. Takes 8 bytes a client.
    Smooth {
        /// Units that may come at once, at least 1.
        burst: u32,
    },
}

/// What a meter said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Taken.
    Yes,
    /// Not taken; it will fit after this many milliseconds if nothing else is taken.
    Later(u64),
}

/// One client's use of one limit. Keeps its history when the limit changes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Milliseconds (wrapping) of the units in the window, oldest first.
    log: VecDeque<u32>,
    /// Time of the newest unit, unwrapped: tells a log that is all out of date even after the u32
    /// went round.
    newest: u64,
    /// GCRA's theoretical arrival time in microseconds.
    arrival: u64,
}

impl Meter {
    pub(super) fn take(&mut self, rule: Algorithm, limit: u32, window: u64, cost: u32, now: u64) -> Taken {
        match rule {
            Algorithm::Exact => self.take_exact(limit, window, cost, now),
            Algorithm::Smooth { burst } => self.take_smooth(limit, window, cost, burst, now),
        }
    }

    fn take_exact(&mut self, limit: u32, window: u64, cost: u32, now: u64) -> Taken {
        self.forget(window, now);
        let (limit, cost) = (limit as usize, cost as usize);
        let over = (self.log.len() + cost).saturating_sub(limit);
        if over == 0 {
            // The log is the window: what is cut off the clock here comes back as the age below.
            self.log.extend(std::iter::repeat_n(now as u32, cost));
            self.newest = now;
            return Taken::Yes;
        }
        // It fits when the `over` oldest units have left; more than the limit never fits.
        Taken::Later(self.log.get(over - 1).map_or(window, |at| window - age(now, *at)))
    }

    fn forget(&mut self, window: u64, now: u64) {
        if now.saturating_sub(self.newest) >= window {
            self.log.clear();
            return;
        }
        while self.log.front().is_some_and(|at| age(now, *at) >= window) {
            self.log.pop_front();
        }
    }

    fn take_smooth(&mut self, limit: u32, window: u64, cost: u32, burst: u32, now: u64) -> Taken {
        let now = now.saturating_mul(1000);
        let step = window.saturating_mul(1000) / u64::from(limit.max(1));
        let arrival = self
            .arrival
            .max(now)
            .saturating_add(step.saturating_mul(u64::from(cost)));
        let room = step.saturating_mul(u64::from(burst.max(1)));
        let wait = arrival.saturating_sub(now).saturating_sub(room);
        if limit == 0 {
            return Taken::Later(window);
        }
        if wait == 0 {
            self.arrival = arrival;
            return Taken::Yes;
        }
        Taken::Later(wait.div_ceil(1000))
    }

    /// Whether this meter is as good as new, so that it may be forgotten.
    pub(super) fn is_idle(&self, window: u64, now: u64) -> bool {
        (self.log.is_empty() || now.saturating_sub(self.newest) >= window)
            && self.arrival <= now.saturating_mul(1000)
    }
}

/// Milliseconds since a unit, over the wrap of the u32.
fn age(now: u64, at: u32) -> u64 {
    u64::from((now as u32).wrapping_sub(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: u64 = 60_000;

    /// Remembers every unit for ever and counts anew each time.
    #[derive(Default)]
    struct Oracle(Vec<u64>);

    impl Oracle {
        fn take(&mut self, limit: u32, cost: u32, now: u64) -> bool {
            let recent = self.0.iter().rev().take_while(|at| now - **at < WINDOW).count();
            let fits = recent + cost as usize <= limit as usize;
            if fits {
                self.0.extend(std::iter::repeat_n(now, cost as usize));
            }
            fits
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// 500 runs of up to 2000 arrivals: no unit too many, no false refusal, and the time it names
        /// is exact. Starts near the wrap of the u32 clock; the limit changes on the way.
        #[test]
        fn the_log_counts_as_the_oracle_does(
            start in prop_oneof![Just(0u64), Just(u64::from(u32::MAX) - 100_000)],
            limits in prop::collection::vec(0u32..200, 1..4),
            arrivals in prop::collection::vec((prop_oneof![4 => 0u64..300, 1 => 0u64..70_000], 1u32..4), 200..2000),
        ) {
            let (mut meter, mut oracle, mut now) = (Meter::default(), Oracle::default(), start + WINDOW);
            let per_limit = arrivals.len().div_ceil(limits.len());
            for (i, (gap, cost)) in arrivals.into_iter().enumerate() {
                now += gap;
                let limit = limits[i / per_limit];
                match meter.take(Algorithm::Exact, limit, WINDOW, cost, now) {
                    Taken::Yes => prop_assert!(oracle.take(limit, cost, now)),
                    Taken::Later(wait) => {
                        prop_assert!(!oracle.take(limit, cost, now));
                        let mut later = Oracle(oracle.0.clone());
                        prop_assert!(cost > limit || later.take(limit, cost, now + wait));
                        let mut early = Oracle(oracle.0.clone());
                        prop_assert!(wait == 0 || !early.take(limit, cost, now + wait - 1));
                    }
                }
            }
        }

        #[test]
        fn gcra_admits_at_most_limit_plus_burst_in_a_window(
            limit in 1u32..100, burst in 1u32..20, gaps in prop::collection::vec(0u64..2000, 200..1000),
        ) {
            let (mut meter, mut now, mut taken) = (Meter::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                let rule = Algorithm::Smooth { burst };
                match meter.take(rule, limit, WINDOW, 1, now) {
                    Taken::Yes => taken.push(now),
                    Taken::Later(wait) => {
                        let mut copy = Meter { arrival: meter.arrival, ..Default::default() };
                        prop_assert_eq!(copy.take(rule, limit, WINDOW, 1, now + wait), Taken::Yes);
                    }
                }
                let recent = taken.iter().rev().take_while(|at| now - **at < WINDOW).count();
                prop_assert!(recent <= (limit + burst) as usize);
            }
        }
    }

    #[test]
    fn a_log_of_49_days_ago_is_not_mistaken_for_now() {
        let mut meter = Meter::default();
        assert_eq!(meter.take(Algorithm::Exact, 1, WINDOW, 1, 1_000_000), Taken::Yes);
        let wrapped = 1_000_000 + (1u64 << 32) + 5;
        assert_eq!(meter.take(Algorithm::Exact, 1, WINDOW, 1, wrapped), Taken::Yes);
    }
}
