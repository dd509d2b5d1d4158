//! What a pool says of itself: its state, since when, why, and the last words of what failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::endpoint::{Endpoint, EndpointStatus};
use super::health::HealthState;
use crate::config::ServiceName;

/// The verdict on a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// No replica serves, and at least one may yet.
    Starting,
    /// Every replica serves.
    Healthy,
    /// Some replica serves, another does not.
    Degraded,
    /// No replica serves.
    Unhealthy,
}

impl PoolState {
    /// `starting`, `healthy`, `degraded` or `unhealthy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is known of a pool at one moment.
#[derive(Debug, Clone)]
pub struct PoolStatus {
    /// The service.
    pub name: ServiceName,
    /// The verdict.
    pub state: PoolState,
    /// Since when.
    pub since: SystemTime,
    /// Why it is not healthy; `None` when it is.
    pub reason: Option<String>,
    /// Replicas that the service should have.
    pub replicas: usize,
    /// Ends of replicas and failed starts so far.
    pub restarts: u64,
    /// Its endpoints, in no order.
    pub endpoints: Vec<EndpointStatus>,
    /// Last stderr lines of what failed last; empty when nothing is wrong.
    pub stderr: Vec<String>,
}

impl PoolStatus {
    pub(crate) fn new(
        name: ServiceName,
        state: PoolState,
        since: SystemTime,
        reason: Option<String>,
        endpoints: Vec<EndpointStatus>,
        slots: &BTreeMap<u32, Slot>,
    ) -> Self {
        let of_endpoint = endpoints
            .iter()
            .find(|e| e.health != HealthState::Healthy && !e.stderr.is_empty());
        let of_replica = || {
            slots
                .values()
                .find(|s| s.phase == Phase::Absent && !s.stderr.is_empty())
        };
        let stderr = match (state, of_endpoint) {
            (PoolState::Healthy, _) => Vec::new(),
            (_, Some(endpoint)) => endpoint.stderr.clone(),
            (_, None) => of_replica().map(|s| s.stderr.clone()).unwrap_or_default(),
        };
        Self {
            name,
            state,
            since,
            reason,
            replicas: slots.len(),
            restarts: slots.values().map(|s| s.failures).sum(),
            endpoints,
            stderr,
        }
    }
}

/// One replica, besides its endpoints.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    phase: Phase,
    failures: u64,
    reason: Option<String>,
    stderr: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It has not been there yet.
    #[default]
    Awaited,
    /// It has offered an endpoint, whose checks now speak for it.
    Present,
    /// It failed, and is started again after a while.
    Absent,
}

impl Slot {
    pub(crate) fn offer_endpoint(&mut self) {
        self.phase = Phase::Present;
    }

    pub(crate) fn miss(&mut self, reason: String) {
        self.phase = Phase::Absent;
        self.reason = Some(reason);
    }

    pub(crate) fn fail(&mut self, reason: String, stderr: Vec<String>) {
        self.miss(reason);
        self.failures += 1;
        self.stderr = stderr;
    }
}

/// The verdict on a pool, with the reason when it is not healthy.
pub(crate) fn judge(slots: &BTreeMap<u32, Slot>, members: &[Arc<Endpoint>]) -> (PoolState, Option<String>) {
    let serving = members.iter().filter(|e| e.is_healthy()).count();
    let everyone = serving == members.len() && slots.values().all(|s| s.phase == Phase::Present);
    let ejected = || members.iter().any(|e| e.is_ejected());
    if serving > 0 && everyone && !ejected() {
        return (PoolState::Healthy, None);
    }
    let awaited =
        members.iter().any(|e| e.is_starting()) || slots.values().any(|s| s.phase == Phase::Awaited);
    let state = match (serving, awaited) {
        (0, true) => PoolState::Starting,
        (0, false) => PoolState::Unhealthy,
        _ => PoolState::Degraded,
    };
    let of_endpoint = members.iter().find_map(|e| match e.status().health {
        HealthState::Unhealthy { reason } => Some(reason),
        _ => None,
    });
    let of_replica = || {
        let failed = slots.values().find(|s| s.phase == Phase::Absent);
        failed
            .or_else(|| slots.values().next())
            .and_then(|s| s.reason.clone())
    };
    let reason = of_endpoint.or_else(of_replica).or_else(|| {
        let words = match state {
            _ if ejected() => "an endpoint is ejected after failed requests",
            PoolState::Unhealthy => "no endpoint",
            _ => "starting",
        };
        Some(words.to_owned())
    });
    (state, reason)
}
