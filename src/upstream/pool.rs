//! The endpoints of one service, and the choice of one for a request.
//!
//! The list of endpoints is replaced as a whole, so a choice reads it without a lock. Everything that changes the list or
//! an endpoint's state ends in [`Pool::refresh`], which keeps the pool's own verdict and tells who waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::affinity::endpoint_of;
use super::balance::{rendezvous, two_choices};
use super::endpoint::{Endpoint, EndpointAddr, EndpointId, EndpointSpec};
use super::health::{HealthTiming, Report};
use super::lease::Lease;
use super::outlier::{OutlierRules, allowed};
use super::status::{PoolState, PoolStatus, Slot, judge};
use crate::config::{Service, ServiceName, ServiceRuntime};

/// What a choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct PickKey<'a> {
    /// The client, as the sidecar is told it.
    pub client: &'a str,
    /// The request's `Mcp-Session-Id` as it was sent.
    pub session: Option<&'a str>,
    /// Endpoints that this request has been to already.
    pub tried: &'a [EndpointId],
}

/// Why there is no endpoint for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// No replica has been seen to serve or to fail yet.
    #[error("the service is starting")]
    Starting,
    /// No replica is healthy; [`Pool::status`] has the reason.
    #[error("no replica of the service is healthy")]
    Unhealthy,
    /// The replica that holds the MCP session is there but does not serve; another one could not know the session.
    #[error("the replica that holds this MCP session is not healthy")]
    SessionUnavailable,
    /// Every replica that serves has been tried.
    #[error("no replica is left to try")]
    Exhausted,
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct Pool {
    name: ServiceName,
    stateless: bool,
    start_limit: Duration,
    rules: OutlierRules,
    members: ArcSwap<Vec<Arc<Endpoint>>>,
    draw: AtomicU64,
    /// Replicas by number, with what is known of each besides its endpoint. Locked for every change of `members`.
    slots: Mutex<BTreeMap<u32, Slot>>,
    /// Taken for an ejection, so that two cannot each leave the other as the last.
    ejecting: Mutex<()>,
    verdict: Mutex<Verdict>,
    state: watch::Sender<PoolState>,
}

#[derive(Debug)]
struct Verdict {
    state: PoolState,
    since: Instant,
    reason: Option<String>,
}

impl Pool {
    pub(crate) fn new(service: &Service) -> Self {
        let replicas = match &service.runtime {
            ServiceRuntime::Process { .. } => service.replicas.min.max(1),
            ServiceRuntime::Fixed { upstreams, .. } => u32::try_from(upstreams.len()).unwrap_or(u32::MAX),
        };
        Self {
            name: service.name.clone(),
            stateless: service.stateless,
            start_limit: service.timeouts.start,
            rules: OutlierRules::default(),
            members: ArcSwap::default(),
            draw: AtomicU64::new(0),
            slots: Mutex::new((0..replicas).map(|n| (n, Slot::default())).collect()),
            ejecting: Mutex::new(()),
            verdict: Mutex::new(Verdict {
                state: PoolState::Starting,
                since: Instant::now(),
                reason: None,
            }),
            state: watch::Sender::new(PoolState::Starting),
        }
    }

    /// The service.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// The endpoints at this moment, in no order.
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.members.load_full()
    }

    /// Replicas that the service should have.
    pub(crate) fn replicas(&self) -> Vec<u32> {
        self.slots.lock().keys().copied().collect()
    }

    // === The choice ===

    /// Chooses the endpoint of a request.
    ///
    /// A legacy session goes to the replica that holds it or nowhere; only if that replica is gone for good it goes
    /// anywhere, where it is told that it does not exist. Otherwise any replica may serve a `stateless` service, the
    /// less busy one of two; the others keep each client at one replica as long as that serves.
    pub fn pick(self: &Arc<Self>, key: &PickKey<'_>) -> Result<Lease, NoEndpoint> {
        let members = self.members.load();
        let untried = |endpoint: &Endpoint| !key.tried.contains(endpoint.id());
        if let Some(holder) = key.session.and_then(endpoint_of) {
            if let Some(endpoint) = members.iter().find(|e| e.id().as_str() == holder) {
                return if endpoint.open() && untried(endpoint) {
                    Ok(Lease::new(self, endpoint))
                } else {
                    Err(NoEndpoint::SessionUnavailable)
                };
            }
            // It may be the one that has not told its id yet.
            if members.iter().any(|e| e.learns_id() && e.is_starting()) {
                return Err(NoEndpoint::Starting);
            }
        }
        let welcomes = |endpoint: &Endpoint| endpoint.open() && !endpoint.is_draining();
        let chosen = self.choose(&members, key.client, |e| welcomes(e) && untried(e));
        if let Some(endpoint) = chosen {
            return Ok(Lease::new(self, endpoint));
        }
        if members.iter().any(|e| welcomes(e)) {
            return Err(NoEndpoint::Exhausted);
        }
        // Nobody passes the gate. An endpoint that only requests speak against is better than none: since it was
        // ejected another one must have fallen, or the ejection would not have been allowed.
        match self.choose(&members, key.client, |e| e.is_healthy() && untried(e)) {
            Some(endpoint) => Ok(Lease::new(self, endpoint)),
            None if members.iter().any(|e| e.is_healthy()) => Err(NoEndpoint::Exhausted),
            None if *self.state.borrow() == PoolState::Starting => Err(NoEndpoint::Starting),
            None => Err(NoEndpoint::Unhealthy),
        }
    }

    fn choose<'e>(
        &self,
        members: &'e [Arc<Endpoint>],
        client: &str,
        admits: impl Fn(&Endpoint) -> bool,
    ) -> Option<&'e Arc<Endpoint>> {
        if self.stateless {
            two_choices(members, self.draw.fetch_add(1, Ordering::Relaxed), admits)
        } else {
            rendezvous(members, client, admits)
        }
    }

    // === What requests meet ===

    pub(crate) fn refused(&self, endpoint: &Endpoint) {
        self.eject(endpoint, "it refused a connection");
        endpoint.probe_soon();
    }

    pub(crate) fn failed(&self, endpoint: &Endpoint) {
        if endpoint.note_failure() >= self.rules.consecutive {
            self.eject(endpoint, "requests failed in a row");
        }
    }

    fn eject(&self, endpoint: &Endpoint, reason: &'static str) {
        {
            let _one_at_a_time = self.ejecting.lock();
            let members = self.members.load();
            let ejected = members.iter().filter(|e| e.is_ejected()).count();
            let others = members
                .iter()
                .filter(|e| e.id() != endpoint.id() && e.open() && !e.is_draining());
            if endpoint.is_ejected() || !allowed(members.len(), ejected, others.count()) {
                return;
            }
            let out_for = endpoint.eject(&self.rules);
            tracing::warn!(service = %self.name, endpoint = %endpoint.id(), ?out_for, reason, "endpoint ejected");
        }
        self.refresh();
    }

    // === What checks and runtimes find ===

    /// Takes in what a check of `endpoint` found. An endpoint that told another id than it had is another incarnation
    /// and takes the place of the former; the one to go on checking is returned.
    pub(crate) fn observe(
        &self,
        endpoint: &Arc<Endpoint>,
        report: Report,
        timing: &HealthTiming,
    ) -> Arc<Endpoint> {
        let told = report
            .endpoint
            .clone()
            .filter(|id| endpoint.learns_id() && id != endpoint.id());
        let Some(id) = told else {
            let before = endpoint.is_healthy();
            if endpoint.observe(report, timing) {
                self.log_turn(endpoint, before);
                self.refresh();
            }
            return Arc::clone(endpoint);
        };
        let reborn = Arc::new(endpoint.reborn(id));
        reborn.observe(report, timing);
        self.change(
            |members| match members.iter_mut().find(|e| Arc::ptr_eq(e, endpoint)) {
                Some(place) => *place = Arc::clone(&reborn),
                // It was removed meanwhile, and so is what it turned into.
                None => reborn.retire(),
            },
        );
        endpoint.retire();
        reborn
    }

    /// A replica listens: its endpoint joins the pool, without a verdict yet.
    pub(crate) fn join(&self, replica: u32, spec: EndpointSpec) -> Arc<Endpoint> {
        let endpoint = Arc::new(Endpoint::new(spec, replica, self.start_limit));
        if let Some(slot) = self.slots.lock().get_mut(&replica) {
            slot.offer_endpoint();
        }
        self.change(|members| members.push(Arc::clone(&endpoint)));
        endpoint
    }

    /// The endpoint of `replica` at `addr` is gone for good.
    pub(crate) fn leave(&self, replica: u32, addr: &EndpointAddr) {
        self.change(|members| retire(members, |e| e.replica() == replica && e.addr() == addr));
    }

    /// Sends no new clients to `replica`; its requests under way. Zero, and no change, if no other replica would take
    /// the new ones: then waiting helps nobody.
    pub(crate) fn drain(&self, replica: u32) -> usize {
        let members = self.members.load();
        let (leaving, others): (Vec<_>, Vec<_>) = members.iter().partition(|e| e.replica() == replica);
        if !others.iter().any(|e| e.open() && !e.is_draining()) {
            return 0;
        }
        leaving.iter().for_each(|e| e.drain());
        leaving.iter().map(|e| e.inflight()).sum()
    }

    /// `replica` has stopped as it was told to.
    pub(crate) fn replica_stopped(&self, replica: u32) {
        self.change(|members| retire(members, |e| e.replica() == replica));
    }

    /// `replica` has nothing to offer yet, and why.
    pub(crate) fn replica_unavailable(&self, replica: u32, reason: String) {
        if let Some(slot) = self.slots.lock().get_mut(&replica) {
            slot.miss(reason);
        }
        self.refresh();
    }

    /// `replica` could not start or has ended, and why. Its endpoints are out at once.
    pub(crate) fn replica_failed(&self, replica: u32, reason: String, stderr: Vec<String>) {
        if let Some(slot) = self.slots.lock().get_mut(&replica) {
            slot.fail(reason, stderr);
        }
        self.change(|members| retire(members, |e| e.replica() == replica));
    }

    /// Replaces the list by an edited copy.
    fn change(&self, edit: impl FnOnce(&mut Vec<Arc<Endpoint>>)) {
        {
            // Writers take turns; readers never wait.
            let _slots = self.slots.lock();
            let mut members = self.members.load_full().as_ref().clone();
            edit(&mut members);
            self.members.store(Arc::new(members));
        }
        self.refresh();
    }

    fn log_turn(&self, endpoint: &Endpoint, was_healthy: bool) {
        let status = endpoint.status();
        match status.health {
            super::HealthState::Healthy if !was_healthy => {
                tracing::info!(service = %self.name, endpoint = %status.id, replica = status.replica, "endpoint healthy");
            }
            super::HealthState::Unhealthy { reason } => {
                tracing::warn!(service = %self.name, endpoint = %status.id, replica = status.replica, reason, "endpoint unhealthy");
            }
            _ => {}
        }
    }

    /// Brings the pool's own verdict up to date.
    fn refresh(&self) {
        let mut verdict = self.verdict.lock();
        let (state, reason) = judge(&self.slots.lock(), &self.members.load());
        if state != verdict.state {
            verdict.state = state;
            verdict.since = Instant::now();
            tracing::info!(service = %self.name, state = state.as_str(), reason, "service state");
        }
        verdict.reason = reason;
        // Told while the verdict is locked: watchers see states in the order in which they were reached.
        self.state.send_replace(state);
    }

    /// Waits until the pool has a verdict: some replica serves, or it is known why none does.
    pub async fn settled(&self) {
        // The sender lives as long as `self`, so this ends only with a verdict.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| *state != PoolState::Starting)
            .await;
    }

    /// Everything known, copied.
    pub fn status(&self) -> PoolStatus {
        let verdict = self.verdict.lock();
        let endpoints: Vec<_> = self.members.load().iter().map(|e| e.status()).collect();
        let slots = self.slots.lock();
        PoolStatus::new(
            self.name.clone(),
            verdict.state,
            SystemTime::now() - verdict.since.elapsed(),
            verdict.reason.clone(),
            endpoints,
            &slots,
        )
    }
}

/// Removes the endpoints that match, and ends their checks.
fn retire(members: &mut Vec<Arc<Endpoint>>, matches: impl Fn(&Endpoint) -> bool) {
    members.retain(|endpoint| {
        let goes = matches(endpoint);
        if goes {
            endpoint.retire();
        }
        !goes
    });
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
