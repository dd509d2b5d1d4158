//! Counters and gauges of one sidecar, in the Prometheus text format.
//!
//! Invariant: labels come from small fixed sets, never from a client or a server.

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Methods with a label of their own; the others count as `other`.
const METHODS: [&str; 12] = [
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "subscriptions/listen",
];

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    dropped: IntCounterVec,
    pub(crate) junk_lines: IntCounter,
    pub(crate) restarts: IntCounter,
    pub(crate) evictions: IntCounter,
    pub(crate) processes: IntGauge,
    pub(crate) sessions: IntGauge,
    pub(crate) streams: IntGauge,
}

impl Metrics {
    /// Registers everything; the names are the contract with dashboards.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new(
                "mcp_sidecar_requests_total",
                "Requests of clients by era and method.",
            ),
            &["era", "method"],
        )?;
        let dropped = IntCounterVec::new(
            Opts::new(
                "mcp_sidecar_messages_dropped_total",
                "Messages that reached nobody, by kind.",
            ),
            &["kind"],
        )?;
        let junk_lines = IntCounter::new(
            "mcp_sidecar_junk_lines_total",
            "Lines on the server's stdout that are no message.",
        )?;
        let restarts = IntCounter::new(
            "mcp_sidecar_restarts_total",
            "Server processes that ended without being told to.",
        )?;
        let evictions = IntCounter::new(
            "mcp_sidecar_evictions_total",
            "Idle processes stopped to make room for another.",
        )?;
        let processes = IntGauge::new("mcp_sidecar_processes", "Server processes running now.")?;
        let sessions = IntGauge::new("mcp_sidecar_sessions", "Legacy sessions open now.")?;
        let streams = IntGauge::new("mcp_sidecar_streams", "Event streams open now.")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(junk_lines.clone()))?;
        registry.register(Box::new(restarts.clone()))?;
        registry.register(Box::new(evictions.clone()))?;
        registry.register(Box::new(processes.clone()))?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(streams.clone()))?;
        Ok(Self {
            registry,
            requests,
            dropped,
            junk_lines,
            restarts,
            evictions,
            processes,
            sessions,
            streams,
        })
    }

    /// Counts one request of a client.
    pub(crate) fn request(&self, era: &'static str, method: &str) {
        let method = METHODS.iter().find(|known| **known == method).unwrap_or(&"other");
        self.requests.with_label_values(&[era, method]).inc();
    }

    /// Counts a message that reached nobody. Kinds: `notification`, `response`, `late`, `uncorrelated`, `to_server`.
    pub(crate) fn dropped(&self, kind: &'static str) {
        self.dropped.with_label_values(&[kind]).inc();
    }

    /// The exposition text.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
