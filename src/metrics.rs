//! What Prometheus may ask. Names that operators already have rules for are kept as they were.
//!
//! Invariant: every label value comes from a bounded set: configured services and tiers, methods of the
//! specification, status classes, the edge's own reasons. Never a client, session, request or URI.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Buckets of a request's duration: OpenTelemetry's for MCP operations (10 ms … 300 s), and finer ones below, where
/// most calls are.
const DURATIONS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Buckets of the edge's own time before the upstream has the request (50 µs … 250 ms).
const OVERHEADS: [f64; 8] = [0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.25];

/// The edge's figures; made once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    errors: IntCounterVec,
    durations: HistogramVec,
    overhead: Histogram,
    retries: IntCounter,
    service_health: IntGaugeVec,
    endpoints: IntGaugeVec,
    probes: IntGaugeVec,
    restarts: IntGaugeVec,
    under_way: IntGauge,
    log_dropped: IntGauge,
}

/// One ended request, as the metrics see it.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    pub service: &'a str,
    pub tier: &'a str,
    pub method: &'static str,
    /// 0 if the client left before a status was sent.
    pub status: u16,
    pub seconds: f64,
    /// The edge's own reason, when it refused or the upstream failed.
    pub reason: Option<&'static str>,
}

/// One service's state at the time of a scrape.
#[derive(Debug, Clone, Copy)]
pub struct ServiceFigures<'a> {
    pub service: &'a str,
    pub healthy: bool,
    pub endpoints_healthy: u64,
    pub endpoints: u64,
    pub probes: u64,
    pub restarts: u64,
}

impl Metrics {
    /// # Errors
    /// A name was registered twice: a defect, found by the first test that starts an edge.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let requests = counters(
            "mcp_requests_total",
            "Requests by service, tier, method and status class",
            &["service", "tier", "method", "code"],
        )?;
        let errors = counters(
            "mcp_request_errors_total",
            "Requests that the edge refused or whose upstream failed, by reason",
            &["service", "reason"],
        )?;
        let opts = HistogramOpts::new(
            "mcp_request_duration_seconds",
            "Time from a request's head to its answer's end",
        );
        let durations = HistogramVec::new(opts.buckets(DURATIONS.to_vec()), &["service"])?;
        registry.register(Box::new(durations.clone()))?;
        let opts = HistogramOpts::new(
            "mcp_edge_overhead_seconds",
            "Time from a request's head to its dispatch upstream",
        );
        let overhead = Histogram::with_opts(opts.buckets(OVERHEADS.to_vec()))?;
        registry.register(Box::new(overhead.clone()))?;
        let retries = IntCounter::new(
            "mcp_edge_retries_total",
            "Attempts to reach an upstream beyond the first",
        )?;
        registry.register(Box::new(retries.clone()))?;
        Ok(Self {
            requests,
            errors,
            durations,
            overhead,
            retries,
            service_health: gauges(
                "mcp_service_health",
                "1 if the service has a healthy endpoint",
                &["service"],
            )?,
            endpoints: gauges(
                "mcp_service_endpoints",
                "Endpoints of a service by state",
                &["service", "state"],
            )?,
            probes: gauges(
                "mcp_service_probes",
                "Health checks sent since the start",
                &["service"],
            )?,
            restarts: gauges(
                "mcp_service_restarts",
                "Sidecars started again after they died",
                &["service"],
            )?,
            under_way: gauge(
                "mcp_edge_requests_under_way",
                "Requests and streams that have not ended",
            )?,
            log_dropped: gauge("mcp_edge_access_log_dropped", "Access log lines that did not fit")?,
            registry,
        })
    }

    /// Counts a request that has ended.
    pub fn ended(&self, request: &Ended<'_>) {
        let class = match request.status {
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500..600 => "5xx",
            _ => "none",
        };
        self.requests
            .with_label_values(&[request.service, request.tier, request.method, class])
            .inc();
        self.durations
            .with_label_values(&[request.service])
            .observe(request.seconds);
        if let Some(reason) = request.reason {
            self.errors.with_label_values(&[request.service, reason]).inc();
        }
    }

    /// Notes how long the edge itself took before it dispatched a request, in seconds.
    pub fn dispatched(&self, seconds: f64) {
        self.overhead.observe(seconds);
    }

    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Takes over what others count.
    pub fn set(&self, under_way: usize, log_dropped: u64) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.under_way.set(signed(under_way as u64));
        self.log_dropped.set(signed(log_dropped));
    }

    /// Takes over a service's state.
    pub fn set_service(&self, figures: &ServiceFigures<'_>) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let service = [figures.service];
        self.service_health
            .with_label_values(&service)
            .set(i64::from(figures.healthy));
        self.probes
            .with_label_values(&service)
            .set(signed(figures.probes));
        self.restarts
            .with_label_values(&service)
            .set(signed(figures.restarts));
        let down = figures.endpoints.saturating_sub(figures.endpoints_healthy);
        self.endpoints
            .with_label_values(&[figures.service, "healthy"])
            .set(signed(figures.endpoints_healthy));
        self.endpoints
            .with_label_values(&[figures.service, "unhealthy"])
            .set(signed(down));
    }

    /// The exposition text.
    ///
    /// # Errors
    /// The encoder refused a family: a defect.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_request_is_counted_by_class_and_reason() {
        let metrics = Metrics::new().unwrap();
        metrics.ended(&Ended {
            service: "git",
            tier: "pro",
            method: "tools/call",
            status: 429,
            seconds: 0.001,
            reason: Some("rate_limited"),
        });
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(
            text.contains(r#"mcp_requests_total{code="4xx",method="tools/call",service="git",tier="pro"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"mcp_request_errors_total{reason="rate_limited",service="git"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"mcp_request_duration_seconds_count{service="git"} 1"#),
            "{text}"
        );
    }
}
