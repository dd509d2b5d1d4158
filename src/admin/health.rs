//! The health listener: `/health` and `/ready` for machines and people, `/metrics` for Prometheus.
//!
//! It has its own address so that it answers while the public listener drains, and can stay on loopback.
//! Invariant: it says what the pools say at this moment; nothing is remembered, so nothing can be stale.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State as Has;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::metrics::ServiceFigures;
use crate::proxy::Shared;
use crate::shutdown::Stage;
use crate::upstream::{HealthState, PoolState, PoolStatus};

/// The listener's routes.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

/// Serves until the edge stops.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: tokio::net::TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    let shutdown = shared.shutdown.clone();
    let app = router(shared);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move { shutdown.reached(Stage::Stopped).await })
        .await
}

/// 200 while the edge itself works: one bad server must not have the whole edge restarted. The services' states,
/// reasons and last words are in the body.
async fn health(Has(shared): Has<Arc<Shared>>) -> Response {
    let statuses = statuses(&shared);
    let serving = |status: &PoolStatus| matches!(status.state, PoolState::Healthy | PoolState::Degraded);
    let all_well = statuses.iter().all(|status| status.state == PoolState::Healthy);
    let word = match shared.shutdown.stage() {
        Stage::Starting => "starting",
        Stage::Serving if all_well => "healthy",
        Stage::Serving if statuses.iter().any(serving) || statuses.is_empty() => "degraded",
        Stage::Serving => "unhealthy",
        Stage::Draining | Stage::Stopped => "draining",
    };
    let services: Map<String, Value> = statuses
        .iter()
        .map(|status| (status.name.to_string(), service(status)))
        .collect();
    let body = json!({
        "status": word,
        "version": env!("CARGO_PKG_VERSION"),
        "under_way": shared.shutdown.under_way(),
        "healthy": statuses.iter().filter(|status| serving(status)).count(),
        "services": services,
    });
    json_response(StatusCode::OK, &body)
}

/// 200 once the public listener is bound and every service has its first verdict, 503 before and while draining: for load balancers and scripts.
async fn ready(Has(shared): Has<Arc<Shared>>) -> Response {
    let starting: Vec<String> = statuses(&shared)
        .iter()
        .filter(|status| status.state == PoolState::Starting)
        .map(|status| status.name.to_string())
        .collect();
    let stage = shared.shutdown.stage();
    let draining = stage > Stage::Serving;
    let ready = starting.is_empty() && stage == Stage::Serving;
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_response(
        code,
        &json!({"ready": ready, "starting": starting, "draining": draining}),
    )
}

async fn metrics(Has(shared): Has<Arc<Shared>>) -> Response {
    shared
        .metrics
        .set(shared.shutdown.under_way(), shared.access_log.dropped());
    for status in statuses(&shared) {
        let healthy = status
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.health == HealthState::Healthy)
            .count() as u64;
        shared.metrics.set_service(&ServiceFigures {
            service: status.name.as_str(),
            healthy: healthy > 0,
            endpoints_healthy: healthy,
            endpoints: status.endpoints.len() as u64,
            probes: status.endpoints.iter().map(|endpoint| endpoint.probes).sum(),
            restarts: status.restarts,
        });
    }
    match shared.metrics.render() {
        Ok(text) => (
            [(
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; version=0.0.4"),
            )],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn statuses(shared: &Shared) -> Vec<PoolStatus> {
    shared
        .state
        .load()
        .pools
        .iter()
        .map(|pool| pool.status())
        .collect()
}

fn service(status: &PoolStatus) -> Value {
    let endpoints: Vec<Value> = status
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "id": endpoint.id.as_str(),
                "address": endpoint.addr.to_string(),
                "replica": endpoint.replica,
                "state": endpoint.health.as_str(),
                "since": seconds(endpoint.since),
                "in_flight": endpoint.inflight,
                "probes": endpoint.probes,
                "ejected_ms": endpoint.ejected.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            })
        })
        .collect();
    json!({
        "status": status.state.as_str(),
        "since": seconds(status.since),
        "reason": status.reason,
        "replicas": status.replicas,
        "restarts": status.restarts,
        "endpoints": endpoints,
        "stderr": status.stderr,
    })
}

/// Seconds since 1970-01-01 UTC.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn json_response(code: StatusCode, body: &Value) -> Response {
    (
        code,
        [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body.to_string(),
    )
        .into_response()
}
