//! What active checks say of one endpoint, as a state machine without clock or socket.
//!
//! A single answer proves little, so a healthy endpoint falls after three failures in a row and rises after two
//! successes. `starting` is kept apart from `unhealthy`: it has no verdict yet, the first success ends it at once, and it
//! ends for certain, because a start has a time limit.

use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::EndpointId;
use super::random::jittered;

/// When an endpoint is checked, and how many answers make a verdict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthTiming {
    /// Between two checks of an endpoint that is healthy.
    pub interval: Duration,
    /// Between two checks while something is wrong: some failures, or unhealthy.
    pub changing: Duration,
    /// Between two checks before the first verdict.
    pub starting: Duration,
    /// Longest time for one check.
    pub timeout: Duration,
    /// Failures in a row that make a healthy endpoint unhealthy.
    pub fall: u32,
    /// Successes in a row that make an unhealthy endpoint healthy.
    pub rise: u32,
    /// Part of an interval by which it varies, so that checks of many endpoints spread out.
    pub jitter: f64,
}

impl Default for HealthTiming {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            changing: Duration::from_secs(2),
            starting: Duration::from_millis(200),
            timeout: Duration::from_secs(2),
            fall: 3,
            rise: 2,
            jitter: 0.1,
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It serves.
    Healthy,
    /// It answered that its MCP server has not been started once yet.
    Starting,
    /// It answered that it cannot serve, and why.
    Unhealthy(String),
    /// It did not answer as it should, and how.
    Failed(String),
}

impl Probe {
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }
}

/// One check's result with what else the endpoint told.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) probe: Probe,
    /// The incarnation that answered.
    pub(crate) endpoint: Option<EndpointId>,
    /// Last stderr lines of the MCP server.
    pub(crate) stderr: Vec<String>,
}

impl Report {
    /// A check that got no usable answer.
    pub(crate) fn failed(reason: String) -> Self {
        Self {
            probe: Probe::Failed(reason),
            endpoint: None,
            stderr: Vec::new(),
        }
    }
}

/// What the active checks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthState {
    /// No verdict yet.
    Starting,
    /// Requests may go there.
    Healthy,
    /// Requests may not go there.
    Unhealthy {
        /// What the last failed check found.
        reason: String,
    },
}

impl HealthState {
    /// `starting`, `healthy` or `unhealthy`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy { .. } => "unhealthy",
        }
    }
}

/// The checks of one endpoint so far.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    state: HealthState,
    since: Instant,
    /// Answers in a row that speak against `state`.
    against: u32,
    start_limit: Duration,
}

impl Health {
    pub(crate) fn new(now: Instant, start_limit: Duration) -> Self {
        Self {
            state: HealthState::Starting,
            since: now,
            against: 0,
            start_limit,
        }
    }

    pub(crate) fn state(&self) -> &HealthState {
        &self.state
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn start_limit(&self) -> Duration {
        self.start_limit
    }

    /// Takes in one answer; true if the state or its reason changed.
    pub(crate) fn observe(&mut self, probe: Probe, now: Instant, timing: &HealthTiming) -> bool {
        match (&mut self.state, probe) {
            (HealthState::Starting, Probe::Healthy) => self.turn(HealthState::Healthy, now),
            (HealthState::Starting, Probe::Starting) => {
                self.against = 0;
                if now.saturating_duration_since(self.since) < self.start_limit {
                    return false;
                }
                let reason = format!("still starting after {:?}", self.start_limit);
                self.turn(HealthState::Unhealthy { reason }, now)
            }
            // The sidecar has tried and says so itself: nothing to wait for.
            (HealthState::Starting, Probe::Unhealthy(reason)) => {
                self.turn(HealthState::Unhealthy { reason }, now)
            }
            (HealthState::Starting | HealthState::Healthy, Probe::Failed(reason))
            | (HealthState::Healthy, Probe::Unhealthy(reason)) => {
                self.against = self.against.saturating_add(1);
                self.against >= timing.fall && self.turn(HealthState::Unhealthy { reason }, now)
            }
            (HealthState::Healthy, Probe::Healthy) => {
                self.against = 0;
                false
            }
            // It replaces its MCP server, and answers requests as soon as that is up.
            (HealthState::Healthy, Probe::Starting) => false,
            (HealthState::Unhealthy { .. }, Probe::Healthy) => {
                self.against = self.against.saturating_add(1);
                self.against >= timing.rise && self.turn(HealthState::Healthy, now)
            }
            (HealthState::Unhealthy { .. }, Probe::Starting) => {
                self.against = 0;
                false
            }
            (HealthState::Unhealthy { reason }, Probe::Unhealthy(news) | Probe::Failed(news)) => {
                self.against = 0;
                let changed = *reason != news;
                *reason = news;
                changed
            }
        }
    }

    /// Time until the next check; `unit` in `[0, 1)` places the jitter.
    pub(crate) fn delay(&self, timing: &HealthTiming, unit: f64) -> Duration {
        let base = match self.state {
            HealthState::Starting => timing.starting,
            HealthState::Healthy if self.against == 0 => timing.interval,
            HealthState::Healthy | HealthState::Unhealthy { .. } => timing.changing,
        };
        jittered(base, timing.jitter, unit)
    }

    fn turn(&mut self, state: HealthState, now: Instant) -> bool {
        self.state = state;
        self.since = now;
        self.against = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Probe {
        Probe::Failed("refused".into())
    }

    fn unhealthy(reason: &str) -> HealthState {
        HealthState::Unhealthy {
            reason: reason.into(),
        }
    }

    fn after(probes: impl IntoIterator<Item = Probe>) -> Health {
        let now = Instant::now();
        let mut health = Health::new(now, Duration::from_secs(30));
        for probe in probes {
            health.observe(probe, now, &HealthTiming::default());
        }
        health
    }

    #[test]
    fn the_first_success_after_the_start_counts_at_once() {
        assert_eq!(after([]).state(), &HealthState::Starting);
        assert_eq!(
            after([Probe::Starting, Probe::Healthy]).state(),
            &HealthState::Healthy
        );
    }

    #[test]
    fn three_failures_in_a_row_take_it_down() {
        assert_eq!(
            after([Probe::Healthy, failed(), failed()]).state(),
            &HealthState::Healthy
        );
        let broken_row = [
            Probe::Healthy,
            failed(),
            failed(),
            Probe::Healthy,
            failed(),
            failed(),
        ];
        assert_eq!(after(broken_row).state(), &HealthState::Healthy);
        let row = [Probe::Healthy, failed(), failed(), failed()];
        assert_eq!(after(row).state(), &unhealthy("refused"));
        let own_word = [
            Probe::Healthy,
            failed(),
            failed(),
            Probe::Unhealthy("crash loop".into()),
        ];
        assert_eq!(after(own_word).state(), &unhealthy("crash loop"));
    }

    #[test]
    fn an_endpoint_that_never_answered_is_unhealthy_after_three() {
        assert_eq!(after([failed(), failed()]).state(), &HealthState::Starting);
        assert_eq!(
            after([failed(), failed(), failed()]).state(),
            &unhealthy("refused")
        );
    }

    #[test]
    fn the_sidecars_own_word_ends_the_start() {
        assert_eq!(
            after([Probe::Unhealthy("no npx".into())]).state(),
            &unhealthy("no npx")
        );
    }

    #[test]
    fn two_successes_in_a_row_bring_it_back() {
        let down = || [failed(), failed(), failed()];
        let once = down()
            .into_iter()
            .chain([Probe::Healthy, failed(), Probe::Healthy]);
        assert_eq!(after(once).state(), &unhealthy("refused"));
        let twice = down().into_iter().chain([Probe::Healthy, Probe::Healthy]);
        assert_eq!(after(twice).state(), &HealthState::Healthy);
    }

    #[test]
    fn the_reason_is_the_latest() {
        let health = after([Probe::Unhealthy("a".into()), Probe::Unhealthy("b".into())]);
        assert_eq!(health.state(), &unhealthy("b"));
    }

    #[test]
    fn a_healthy_endpoint_that_replaces_its_server_stays() {
        let health = after([Probe::Healthy, Probe::Starting, Probe::Starting, Probe::Starting]);
        assert_eq!(health.state(), &HealthState::Healthy);
    }

    #[test]
    fn a_start_ends_in_time() {
        let now = Instant::now();
        let timing = HealthTiming::default();
        let mut health = Health::new(now, Duration::from_secs(30));
        assert!(!health.observe(Probe::Starting, now + Duration::from_secs(29), &timing));
        assert!(health.observe(Probe::Starting, now + Duration::from_secs(30), &timing));
        assert_eq!(health.state(), &unhealthy("still starting after 30s"));
        assert_eq!(health.since(), now + Duration::from_secs(30));
    }

    #[test]
    fn checks_are_frequent_while_something_changes() {
        let timing = HealthTiming::default();
        let millis = |probes: Vec<Probe>| after(probes).delay(&timing, 0.5).as_millis();
        assert_eq!(millis(vec![]), 200);
        assert_eq!(millis(vec![Probe::Healthy]), 10_000);
        assert_eq!(millis(vec![Probe::Healthy, failed()]), 2_000);
        assert_eq!(millis(vec![failed(), failed(), failed()]), 2_000);
        assert_eq!(after([Probe::Healthy]).delay(&timing, 0.0).as_millis(), 9_000);
    }
}
