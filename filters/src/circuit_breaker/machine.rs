//! The breaker of one service as a state machine without clock or lock.
//!
//! Closed → open when, of at least `min_calls` calls in the last 10 s, too many failed or were slow.
//! Open → half-open after a time that doubles with every trip. Half-open lets a few probes through:
//! enough successes close it, one failure opens it again.

use std::time::Duration;

/// Number and length of the buckets that calls are counted in.
const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_secs(1);

/// When to trip and how to recover.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// Fewer calls in 10 s than this decide nothing.
    pub min_calls: u32,
    /// Share of failed calls that trips, 0 to 1.
    pub failure_ratio: f64,
    /// Share of slow calls that trips, 0 to 1.
    pub slow_ratio: f64,
    /// A call whose first byte takes longer is slow.
    pub slow_after: Duration,
    /// First time open; doubles with every trip.
    pub open_for: Duration,
    /// Longest time open.
    pub open_max: Duration,
    /// Probes under way at once while half-open, and successes that close.
    pub probes: u32,
    /// A probe that has not come back after this time counts as failed.
    pub probe_timeout: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            min_calls: 20,
            failure_ratio: 0.5,
            slow_ratio: 0.8,
            slow_after: Duration::from_secs(30),
            open_for: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            probes: 5,
            probe_timeout: Duration::from_secs(30),
        }
    }
}

/// The state, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// No call passes.
    Open,
    /// A few probes pass.
    HalfOpen,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Result {
    Success,
    Slow,
    Failure,
}

/// What a call that passed was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// Which stretch of a state it belongs to: results of an earlier one say nothing about now.
    pub(super) term: u64,
    /// The probe's number while half-open.
    probe: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    second: u64,
    calls: u32,
    failed: u32,
    slow: u32,
}

#[derive(Debug)]
enum State {
    Closed,
    Open {
        until: Duration,
    },
    HalfOpen {
        out: Vec<(u64, Duration)>,
        successes: u32,
    },
}

/// Times are since any fixed moment.
#[derive(Debug)]
pub(super) struct Machine {
    config: BreakerConfig,
    state: State,
    buckets: [Bucket; BUCKETS],
    term: u64,
    /// Trips since it was last closed.
    trips: u32,
    next_probe: u64,
}

impl Machine {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed,
            buckets: Default::default(),
            term: 0,
            trips: 0,
            next_probe: 0,
        }
    }

    pub(super) fn configure(&mut self, config: BreakerConfig) {
        self.config = config;
    }

    pub(super) fn config(&self) -> &BreakerConfig {
        &self.config
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Lets a call pass, or says how long to stay away. `jitter` is 0 to 1, used if this trips.
    pub(super) fn ask(&mut self, now: Duration, jitter: f64) -> std::result::Result<Pass, Duration> {
        if let State::Open { until } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.enter(State::HalfOpen {
                out: Vec::new(),
                successes: 0,
            });
        }
        let (timeout, probes) = (self.config.probe_timeout, self.config.probes.max(1));
        match &mut self.state {
            State::HalfOpen { out, .. } => {
                if out.iter().any(|(_, since)| now.saturating_sub(*since) >= timeout) {
                    return Err(self.trip(now, jitter));
                }
                if out.len() >= probes as usize {
                    return Err(Duration::from_secs(1));
                }
                self.next_probe += 1;
                out.push((self.next_probe, now));
                Ok(Pass {
                    term: self.term,
                    probe: Some(self.next_probe),
                })
            }
            _ => Ok(Pass {
                term: self.term,
                probe: None,
            }),
        }
    }

    /// Whether a call that passed some time ago may still go upstream.
    pub(super) fn still_passes(&self, pass: Pass) -> bool {
        matches!(self.state, State::Closed) || pass.term == self.term
    }

    /// A call ended; `None` if that says nothing (the client left, or it never went upstream).
    pub(super) fn report(&mut self, pass: Pass, result: Option<Result>, now: Duration, jitter: f64) {
        if pass.term != self.term {
            return;
        }
        match &mut self.state {
            State::Open { .. } => {}
            State::Closed => {
                if let Some(result) = result
                    && self.count(result, now)
                {
                    self.trip(now, jitter);
                }
            }
            State::HalfOpen { out, successes } => {
                out.retain(|(number, _)| Some(*number) != pass.probe);
                match result {
                    None => {}
                    Some(Result::Success) => {
                        *successes += 1;
                        if *successes >= self.config.probes {
                            self.close();
                        }
                    }
                    Some(Result::Slow | Result::Failure) => {
                        self.trip(now, jitter);
                    }
                }
            }
        }
    }

    /// An operator closes it.
    pub(super) fn close(&mut self) {
        self.trips = 0;
        self.enter(State::Closed);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.term += 1;
        self.buckets = Default::default();
    }

    fn trip(&mut self, now: Duration, jitter: f64) -> Duration {
        let doubled = self
            .config
            .open_for
            .saturating_mul(1u32.checked_shl(self.trips).unwrap_or(u32::MAX));
        self.trips = self.trips.saturating_add(1);
        // Up to 10 % longer, so that the edges of a fleet do not probe in step; never shorter.
        let open = doubled
            .min(self.config.open_max)
            .mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0));
        self.enter(State::Open { until: now + open });
        open
    }

    /// Counts a call; `true` if that is too much.
    fn count(&mut self, result: Result, now: Duration) -> bool {
        let second = now.as_secs() / BUCKET.as_secs();
        if let Some(bucket) = self.buckets.get_mut(second as usize % BUCKETS) {
            if bucket.second != second {
                *bucket = Bucket {
                    second,
                    ..Default::default()
                };
            }
            bucket.calls += 1;
            bucket.failed += u32::from(result == Result::Failure);
            bucket.slow += u32::from(result == Result::Slow);
        }
        let recent = self
            .buckets
            .iter()
            .filter(|b| second - b.second.min(second) < BUCKETS as u64);
        let (calls, failed, slow) =
            recent.fold((0, 0, 0), |(c, f, s), b| (c + b.calls, f + b.failed, s + b.slow));
        let share = |part: u32| f64::from(part) / f64::from(calls.max(1));
        calls >= self.config.min_calls
            && (share(failed) >= self.config.failure_ratio || share(slow) >= self.config.slow_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn call(machine: &mut Machine, result: Result, now: Duration) {
        let pass = machine.ask(now, 0.0).unwrap();
        machine.report(pass, Some(result), now, 0.0);
    }

    #[test]
    fn half_of_twenty_calls_trip_and_nineteen_do_not() {
        let mut machine = Machine::new(BreakerConfig::default());
        for i in 0..19 {
            call(
                &mut machine,
                if i % 2 == 0 {
                    Result::Failure
                } else {
                    Result::Success
                },
                secs(1),
            );
        }
        assert_eq!(machine.state(), BreakerState::Closed);
        call(&mut machine, Result::Success, secs(1));
        assert_eq!(machine.state(), BreakerState::Open);
        assert_eq!(machine.ask(secs(3), 0.0), Err(secs(3)));
    }

    #[test]
    fn slow_calls_trip_at_four_fifths_and_old_ones_are_forgotten() {
        let mut machine = Machine::new(BreakerConfig::default());
        for i in 0..20 {
            call(
                &mut machine,
                if i < 4 { Result::Success } else { Result::Slow },
                secs(1),
            );
        }
        assert_eq!(machine.state(), BreakerState::Open);
        let mut machine = Machine::new(BreakerConfig::default());
        for _ in 0..19 {
            call(&mut machine, Result::Failure, secs(1));
        }
        call(&mut machine, Result::Failure, secs(11));
        assert_eq!(machine.state(), BreakerState::Closed);
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_up_to_a_minute() {
        let mut machine = Machine::new(BreakerConfig {
            min_calls: 1,
            ..Default::default()
        });
        let mut now = secs(0);
        for expected in [5, 10, 20, 40, 60, 60] {
            call(&mut machine, Result::Failure, now);
            assert_eq!(machine.ask(now, 0.0), Err(secs(expected)));
            now += secs(expected);
        }
        for _ in 0..5 {
            call(&mut machine, Result::Success, now);
        }
        assert_eq!(machine.state(), BreakerState::Closed);
        call(&mut machine, Result::Failure, now);
        assert_eq!(machine.ask(now, 0.0), Err(secs(5)), "closing forgets the trips");
    }

    #[test]
    fn probes_are_few_and_one_that_is_lost_opens_again() {
        let mut machine = Machine::new(BreakerConfig {
            min_calls: 1,
            ..Default::default()
        });
        call(&mut machine, Result::Failure, secs(0));
        let passes: Vec<_> = (0..5).map(|_| machine.ask(secs(5), 0.0).unwrap()).collect();
        assert!(machine.ask(secs(5), 0.0).is_err());
        machine.report(passes[0], None, secs(5), 0.0);
        assert!(
            machine.ask(secs(5), 0.0).is_ok(),
            "a probe that said nothing makes room"
        );
        assert!(machine.ask(secs(35), 0.0).is_err());
        assert_eq!(machine.state(), BreakerState::Open);
        machine.report(passes[1], Some(Result::Success), secs(35), 0.0);
        assert_eq!(
            machine.state(),
            BreakerState::Open,
            "a result of an earlier term says nothing"
        );
    }

    proptest! {
        /// Against a plain model: nothing passes while open, never more than the probes while
        /// half-open, and it trips exactly when the last ten whole seconds say so.
        #[test]
        fn it_does_what_the_model_says(steps in prop::collection::vec((0u64..3000, 0u8..4, any::<prop::sample::Index>()), 50..400)) {
            let config = BreakerConfig { min_calls: 5, ..Default::default() };
            let mut machine = Machine::new(config.clone());
            let (mut now, mut out, mut log) = (secs(100), Vec::<Pass>::new(), Vec::<(u64, bool)>::new());
            let mut open_until = None;
            for (gap, what, which) in steps {
                now += Duration::from_millis(gap);
                if what < 2 {
                    let before = machine.state();
                    let answer = machine.ask(now, 0.0);
                    if before == BreakerState::Open {
                        prop_assert_eq!(answer.is_err(), now < open_until.unwrap());
                    }
                    if before == BreakerState::Closed {
                        prop_assert!(answer.is_ok());
                    }
                    if let Ok(pass) = answer {
                        out.push(pass);
                    }
                } else if !out.is_empty() {
                    let pass = out.swap_remove(which.index(out.len()));
                    let failed = what == 3;
                    let (before, current) = (machine.state(), pass.term == machine.term);
                    machine.report(pass, Some(if failed { Result::Failure } else { Result::Success }), now, 0.0);
                    if before == BreakerState::Closed && current {
                        log.push((now.as_secs(), failed));
                        let recent: Vec<_> = log.iter().filter(|(s, _)| now.as_secs() - s < 10).collect();
                        let bad = recent.iter().filter(|(_, f)| *f).count();
                        let trips = recent.len() >= 5 && bad * 2 >= recent.len();
                        prop_assert_eq!(machine.state() == BreakerState::Open, trips);
                    }
                }
                if let State::Open { until } = machine.state {
                    open_until = Some(until);
                    log.clear();
                }
                let probes = out.iter().filter(|p| p.term == machine.term && p.probe.is_some()).count();
                prop_assert!(probes <= config.probes as usize);
            }
        }
    }
}
