//! One endpoint: the address of one sidecar incarnation, and whether it may be chosen.
//!
//! Invariant: [`Endpoint::open`] is the only gate of selection. Active health and passive ejection are its inputs and
//! never decide on their own, so no second gate can keep a recovered endpoint from being chosen again.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Notify, SetOnce};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::health::{Health, HealthState, HealthTiming, Report};
use super::outlier::{Ejection, OutlierRules};
use super::random;

/// Name of one incarnation of a sidecar: eight of `[a-z0-9]`. A restarted sidecar has another one.
///
/// It is the part before the dot of a legacy `Mcp-Session-Id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(Arc<str>);

impl EndpointId {
    /// Characters of an id.
    pub const LEN: usize = 8;

    /// A fresh one, from the system's random source.
    pub fn random() -> Self {
        Self::from_number(random::u64())
    }

    /// The id as its text; `None` unless it is eight of `[a-z0-9]`.
    pub fn parse(text: &str) -> Option<Self> {
        let valid =
            text.len() == Self::LEN && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        valid.then(|| Self(Arc::from(text)))
    }

    /// A stand-in for an endpoint that has not told its id yet: always the same for the same text.
    pub(crate) fn stand_in(text: &str) -> Self {
        Self::from_number(xxh3_64(text.as_bytes()))
    }

    fn from_number(mut number: u64) -> Self {
        let text: String = (0..Self::LEN)
            .map(|_| {
                let digit = u32::try_from(number % 36).unwrap_or_default();
                number /= 36;
                char::from_digit(digit, 36).unwrap_or('0')
            })
            .collect();
        Self(Arc::from(text))
    }

    /// Its eight characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddr {
    /// An address and a port.
    Tcp(SocketAddr),
    /// Path of a Unix stream socket, at most 107 bytes.
    Unix(Arc<Path>),
}

impl fmt::Display for EndpointAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a runtime says of an endpoint that it brings up.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// The incarnation, or a stand-in when `learns_id`.
    pub id: EndpointId,
    /// Where it listens.
    pub addr: EndpointAddr,
    /// `Bearer …`, marked sensitive.
    pub authorization: Option<HeaderValue>,
    /// What the rendezvous hash knows the endpoint by. Equal for successive incarnations of one replica, so that a
    /// restart does not move clients between replicas.
    pub seed: u64,
    /// Somebody else started it: its id is learnt from its health report.
    pub learns_id: bool,
}

/// One running sidecar as requests see it.
#[derive(Debug)]
pub struct Endpoint {
    spec: EndpointSpec,
    replica: u32,
    health: AtomicU8,
    ejected: AtomicBool,
    draining: AtomicBool,
    inflight: AtomicUsize,
    failures: AtomicU32,
    probes: AtomicU64,
    detail: Mutex<Detail>,
    verdict: SetOnce<()>,
    probe_now: Notify,
    gone: CancellationToken,
}

#[derive(Debug)]
struct Detail {
    health: Health,
    ejection: Ejection,
    stderr: Vec<String>,
}

/// What is known of an endpoint at one moment.
#[derive(Debug, Clone)]
pub struct EndpointStatus {
    /// Its incarnation.
    pub id: EndpointId,
    /// Where it listens.
    pub addr: EndpointAddr,
    /// Number of its replica, from 0.
    pub replica: u32,
    /// What the active checks say.
    pub health: HealthState,
    /// Since when they say so.
    pub since: SystemTime,
    /// Time until an ejected endpoint may return; `None` if it is not ejected.
    pub ejected: Option<Duration>,
    /// It gets no new clients because it is about to stop.
    pub draining: bool,
    /// Requests under way.
    pub inflight: usize,
    /// Active checks made so far.
    pub probes: u64,
    /// Last lines that the MCP server wrote to stderr, as the sidecar reported them.
    pub stderr: Vec<String>,
}

const STARTING: u8 = 0;
const HEALTHY: u8 = 1;
const UNHEALTHY: u8 = 2;

impl Endpoint {
    /// An endpoint that no check has seen yet. `start_limit`: how long it may say that it is starting.
    pub(crate) fn new(spec: EndpointSpec, replica: u32, start_limit: Duration) -> Self {
        Self {
            spec,
            replica,
            health: AtomicU8::new(STARTING),
            ejected: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            inflight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            probes: AtomicU64::new(0),
            detail: Mutex::new(Detail {
                health: Health::new(Instant::now(), start_limit),
                ejection: Ejection::default(),
                stderr: Vec::new(),
            }),
            verdict: SetOnce::new(),
            probe_now: Notify::new(),
            gone: CancellationToken::new(),
        }
    }

    /// The same address under the id that it reported: another incarnation, of which nothing else is known yet.
    pub(crate) fn reborn(&self, id: EndpointId) -> Self {
        let spec = EndpointSpec {
            id,
            ..self.spec.clone()
        };
        let start_limit = self.detail.lock().health.start_limit();
        let reborn = Self::new(spec, self.replica, start_limit);
        reborn.probes.store(self.probes(), Ordering::Relaxed);
        reborn
    }

    /// Its incarnation.
    pub fn id(&self) -> &EndpointId {
        &self.spec.id
    }

    /// Where it listens.
    pub fn addr(&self) -> &EndpointAddr {
        &self.spec.addr
    }

    /// Number of its replica, from 0.
    pub fn replica(&self) -> u32 {
        self.replica
    }

    /// The `Authorization` value that it asks for, marked sensitive.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.spec.authorization.as_ref()
    }

    /// Requests under way.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Active checks made so far.
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.spec.seed
    }

    pub(crate) fn learns_id(&self) -> bool {
        self.spec.learns_id
    }

    // === The gate ===

    /// Whether requests may go here: healthy by active checks and not ejected.
    pub fn open(&self) -> bool {
        self.is_healthy() && !self.is_ejected()
    }

    /// What the active checks say, without passive ejection.
    pub fn is_healthy(&self) -> bool {
        self.health.load(Ordering::Acquire) == HEALTHY
    }

    /// No check has given a verdict yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.health.load(Ordering::Acquire) == STARTING
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on only sessions that are held here come here.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    // === In-flight count, kept by `Lease` ===

    pub(crate) fn enter(&self) {
        self.inflight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.inflight.fetch_sub(1, Ordering::Relaxed);
    }

    // === Passive outcome ===

    pub(crate) fn note_ok(&self) {
        // A plain load first: the usual case writes nothing that other cores share.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure; the number of them in a row.
    pub(crate) fn note_failure(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Takes the endpoint out; the time it stays out at least.
    pub(crate) fn eject(&self, rules: &OutlierRules) -> Duration {
        let out_for = self
            .detail
            .lock()
            .ejection
            .eject(Instant::now(), rules, random::unit());
        self.ejected.store(true, Ordering::Release);
        self.failures.store(0, Ordering::Relaxed);
        self.probe_soon();
        out_for
    }

    // === Active checks ===

    /// Asks for a check at once, so that a refused connection becomes a verdict soon.
    pub(crate) fn probe_soon(&self) {
        self.probe_now.notify_one();
    }

    pub(crate) async fn probe_wanted(&self) {
        self.probe_now.notified().await;
    }

    pub(crate) fn count_probe(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes in what a check found; true if the gate or the reason shown may have changed.
    pub(crate) fn observe(&self, report: Report, timing: &HealthTiming) -> bool {
        let now = Instant::now();
        let succeeded = report.probe.is_healthy();
        let mut detail = self.detail.lock();
        detail.stderr = report.stderr;
        let mut changed = detail.health.observe(report.probe, now, timing);
        if succeeded && detail.ejection.may_return(now) {
            detail.ejection.readmit(now);
            self.ejected.store(false, Ordering::Release);
            changed = true;
        }
        let word = match detail.health.state() {
            HealthState::Starting => STARTING,
            HealthState::Healthy => HEALTHY,
            HealthState::Unhealthy { .. } => UNHEALTHY,
        };
        self.health.store(word, Ordering::Release);
        drop(detail);
        if word != STARTING {
            // A second verdict finds the cell set, which is what it is for.
            let _ = self.verdict.set(());
        }
        changed
    }

    /// Time until the next active check.
    pub(crate) fn next_probe(&self, timing: &HealthTiming) -> Duration {
        let detail = self.detail.lock();
        let delay = detail.health.delay(timing, random::unit());
        // An ejected endpoint is asked again as soon as it may return, not an interval later.
        match detail.ejection.left(Instant::now()) {
            Some(left) if !left.is_zero() => delay.min(left),
            _ => delay,
        }
    }

    /// Waits for the first verdict of the active checks, or for the endpoint's removal.
    pub(crate) async fn verdict(&self) {
        tokio::select! {
            _ = self.verdict.wait() => {}
            () = self.gone.cancelled() => {}
        }
    }

    // === Life ===

    /// The endpoint has left its pool: its checks end.
    pub(crate) fn retire(&self) {
        self.gone.cancel();
    }

    pub(crate) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Everything known, copied.
    pub fn status(&self) -> EndpointStatus {
        let now = Instant::now();
        let detail = self.detail.lock();
        EndpointStatus {
            id: self.spec.id.clone(),
            addr: self.spec.addr.clone(),
            replica: self.replica,
            health: detail.health.state().clone(),
            since: SystemTime::now() - now.saturating_duration_since(detail.health.since()),
            ejected: self
                .is_ejected()
                .then(|| detail.ejection.left(now).unwrap_or_default()),
            draining: self.is_draining(),
            inflight: self.inflight(),
            probes: self.probes(),
            stderr: detail.stderr.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_eight_lower_case_letters_and_digits() {
        for _ in 0..200 {
            let id = EndpointId::random();
            assert_eq!(EndpointId::parse(id.as_str()), Some(id));
        }
        for bad in [
            "",
            "abcdefg",
            "abcdefghi",
            "ABCDEFGH",
            "abc-efgh",
            "abcdefg\u{e9}",
        ] {
            assert_eq!(EndpointId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_differ_and_stand_ins_repeat() {
        assert_ne!(EndpointId::random(), EndpointId::random());
        assert_eq!(
            EndpointId::stand_in("10.0.0.7:80"),
            EndpointId::stand_in("10.0.0.7:80")
        );
        assert_ne!(
            EndpointId::stand_in("10.0.0.7:80"),
            EndpointId::stand_in("10.0.0.7:81")
        );
    }
}
