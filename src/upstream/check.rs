//! The active checks of one endpoint: ask, take in, wait, until the endpoint has left its pool.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::endpoint::{Endpoint, EndpointId};
use super::exchange::exchange;
use super::health::{HealthTiming, Probe, Report};
use super::pool::Pool;

/// Stderr lines kept of a health report, and characters kept of each.
const STDERR_LINES: usize = 20;
const STDERR_CHARS: usize = 512;

/// The parts of a sidecar's health report that the edge reads.
#[derive(Deserialize)]
struct SidecarHealth {
    status: Option<String>,
    endpoint: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    stderr: Vec<String>,
}

/// Checks `endpoint` with `GET path` until it is removed from `pool`.
pub(crate) async fn watch(
    pool: Arc<Pool>,
    mut endpoint: Arc<Endpoint>,
    path: Arc<str>,
    timing: HealthTiming,
) {
    loop {
        let gone = endpoint.gone().clone();
        let Some(report) = gone.run_until_cancelled(probe(&endpoint, &path, &timing)).await else {
            return;
        };
        endpoint = pool.observe(&endpoint, report, &timing);
        let next = endpoint.next_probe(&timing);
        tokio::select! {
            () = endpoint.gone().cancelled() => return,
            () = tokio::time::sleep(next) => {}
            () = endpoint.probe_wanted() => {}
        }
    }
}

async fn probe(endpoint: &Endpoint, path: &str, timing: &HealthTiming) -> Report {
    endpoint.count_probe();
    match exchange(endpoint, Method::GET, path, timing.timeout).await {
        Ok((status, body)) => read(status, &body, path),
        Err(error) => Report::failed(error.to_string()),
    }
}

/// What an answer means. Whatever is no sidecar's report is judged by its status alone.
fn read(status: StatusCode, body: &[u8], path: &str) -> Report {
    let told: Option<SidecarHealth> = serde_json::from_slice(body).ok();
    let word = told.as_ref().and_then(|t| t.status.as_deref());
    let reason = || {
        let reason = told.as_ref().and_then(|t| t.reason.clone());
        reason.unwrap_or_else(|| format!("GET {path} answered {status}"))
    };
    let probe = match word {
        _ if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN => Probe::Failed(format!(
            "GET {path} answered {status}: the service's `token` is not the one that the sidecar expects"
        )),
        Some("starting") => Probe::Starting,
        Some("unhealthy") => Probe::Unhealthy(reason()),
        _ if status.is_success() => Probe::Healthy,
        _ => Probe::Failed(reason()),
    };
    let endpoint = told
        .as_ref()
        .and_then(|t| t.endpoint.as_deref())
        .and_then(EndpointId::parse);
    let stderr = told.map(|t| tail(t.stderr)).unwrap_or_default();
    Report {
        probe,
        endpoint,
        stderr,
    }
}

/// The last lines, each cut to a length that a status page can show.
fn tail(mut lines: Vec<String>) -> Vec<String> {
    lines.drain(..lines.len().saturating_sub(STDERR_LINES));
    for line in &mut lines {
        if let Some((end, _)) = line.char_indices().nth(STDERR_CHARS) {
            line.truncate(end);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe_of(status: u16, body: &str) -> Probe {
        read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "/health").probe
    }

    #[test]
    fn a_report_is_taken_at_its_word() {
        assert_eq!(probe_of(200, r#"{"status":"healthy"}"#), Probe::Healthy);
        assert_eq!(probe_of(503, r#"{"status":"starting"}"#), Probe::Starting);
        let body = r#"{"status":"unhealthy","reason":"`npx` not found"}"#;
        assert_eq!(probe_of(503, body), Probe::Unhealthy("`npx` not found".into()));
    }

    #[test]
    fn an_answer_without_report_counts_by_its_status() {
        assert_eq!(probe_of(200, "ok"), Probe::Healthy);
        assert_eq!(probe_of(204, ""), Probe::Healthy);
        let error = "GET /health answered 500 Internal Server Error";
        assert_eq!(probe_of(500, "oops"), Probe::Failed(error.into()));
        let redirect = "GET /health answered 302 Found";
        assert_eq!(probe_of(302, ""), Probe::Failed(redirect.into()));
    }

    #[test]
    fn a_wrong_token_is_named() {
        let Probe::Failed(reason) = probe_of(401, r#"{"status":"healthy"}"#) else {
            panic!("a refusal is a failure");
        };
        assert!(reason.contains("`token`"), "{reason}");
    }

    #[test]
    fn the_incarnation_and_the_last_lines_are_kept() {
        let lines: Vec<String> = (0..30).map(|n| format!("{n} {}", "é".repeat(600))).collect();
        let body = serde_json::json!({"status": "healthy", "endpoint": "abcd1234", "stderr": lines});
        let report = read(StatusCode::OK, body.to_string().as_bytes(), "/health");
        assert_eq!(report.endpoint, EndpointId::parse("abcd1234"));
        assert_eq!(report.stderr.len(), STDERR_LINES);
        assert!(report.stderr[0].starts_with("10 "));
        assert_eq!(report.stderr[0].chars().count(), STDERR_CHARS);
        let odd = read(StatusCode::OK, br#"{"endpoint":"../../etc"}"#, "/health");
        assert_eq!(odd.endpoint, None);
    }
}
