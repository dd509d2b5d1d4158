//! Active checks are real: the server counts them, the pool counts the same, and what they find decides.

// The played upstream fails by panicking, and is no test itself, which clippy lets do so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod runtime_support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_edge::upstream::{NoEndpoint, PickKey, PoolState};
use parking_lot::Mutex;
use runtime_support::{Running, eventually, fixed};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A sidecar that somebody else runs, played by this test.
struct Upstream {
    addr: SocketAddr,
    probes: Arc<AtomicU64>,
    answer: Arc<Mutex<(StatusCode, String)>>,
    authorization: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    async fn start(addr: &str, body: &str) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let probes = Arc::new(AtomicU64::new(0));
        let answer = Arc::new(Mutex::new((StatusCode::OK, body.to_owned())));
        let authorization = Arc::new(Mutex::new(None));
        let (counted, answers, seen) = (
            Arc::clone(&probes),
            Arc::clone(&answer),
            Arc::clone(&authorization),
        );
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serve = service_fn(|request: Request<Incoming>| {
                    assert_eq!(
                        (request.method().as_str(), request.uri().path()),
                        ("GET", "/health")
                    );
                    let value = request
                        .headers()
                        .get("authorization")
                        .map(|v| v.to_str().unwrap().to_owned());
                    *seen.lock() = value;
                    counted.fetch_add(1, Ordering::SeqCst);
                    let (status, body) = answers.lock().clone();
                    let response = Response::builder()
                        .status(status)
                        .body(Full::new(Bytes::from(body)));
                    std::future::ready(response)
                });
                // A checker that leaves in the middle is no fault of the server.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), serve)
                    .await;
            }
        });
        Self {
            addr,
            probes,
            answer,
            authorization,
            task,
        }
    }

    fn says(&self, status: u16, body: &str) {
        *self.answer.lock() = (StatusCode::from_u16(status).unwrap(), body.to_owned());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const HEALTHY: &str = r#"{"status":"healthy","endpoint":"abcd1234"}"#;

fn probes(running: &Running) -> u64 {
    running.status("far").endpoints[0].probes
}

#[tokio::test]
async fn the_server_and_the_pool_count_the_same_checks() {
    let upstream = Upstream::start("127.0.0.1:0", HEALTHY).await;
    let running = Running::start(vec![fixed(
        "far",
        &[upstream.addr.to_string()],
        Some("secret-token"),
    )]);
    running.reaches("far", PoolState::Healthy).await;
    eventually("ten checks", || {
        (upstream.probes.load(Ordering::SeqCst) >= 10).then_some(())
    })
    .await;
    assert_eq!(
        upstream.authorization.lock().as_deref(),
        Some("Bearer secret-token")
    );
    running.supervisor.stop_all(Duration::from_secs(1)).await;
    // What is under way when checks stop may or may not have been answered.
    let (asked, answered) = (probes_at_stop(&running), upstream.probes.load(Ordering::SeqCst));
    assert!(asked.is_none(), "the endpoint went with its checks");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        upstream.probes.load(Ordering::SeqCst),
        answered,
        "no check after the stop"
    );
}

fn probes_at_stop(running: &Running) -> Option<u64> {
    running
        .status("far")
        .endpoints
        .first()
        .map(|endpoint| endpoint.probes)
}

#[tokio::test]
async fn the_counter_of_the_pool_is_the_servers() {
    let upstream = Upstream::start("127.0.0.1:0", HEALTHY).await;
    // One check, then none for an hour.
    let mut options = runtime_support::quick();
    options.health.interval = Duration::from_secs(3600);
    let running = Running::start_with(vec![fixed("far", &[upstream.addr.to_string()], None)], options);
    running.reaches("far", PoolState::Healthy).await;
    assert_eq!((probes(&running), upstream.probes.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(
        running.status("far").endpoints[0].id.as_str(),
        "abcd1234",
        "its own name, learnt"
    );
    // A refused connection asks for a check at once.
    let lease = running
        .pool("far")
        .pick(&PickKey {
            client: "a",
            session: None,
            tried: &[],
        })
        .unwrap();
    lease.connect_failed();
    eventually("another check", || (probes(&running) == 2).then_some(())).await;
    eventually("its answer", || {
        (upstream.probes.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    running.supervisor.stop_all(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_a_check_finds_decides() {
    let upstream = Upstream::start("127.0.0.1:0", HEALTHY).await;
    let running = Running::start(vec![fixed("far", &[upstream.addr.to_string()], None)]);
    running.reaches("far", PoolState::Healthy).await;
    upstream.says(
        503,
        r#"{"status":"unhealthy","reason":"crash loop","stderr":["boom"],"endpoint":"abcd1234"}"#,
    );
    let status = running.reaches("far", PoolState::Unhealthy).await;
    assert_eq!(
        (status.reason.as_deref(), status.stderr.as_slice()),
        (Some("crash loop"), &["boom".to_owned()][..])
    );
    let key = PickKey {
        client: "a",
        session: None,
        tried: &[],
    };
    assert_eq!(running.pool("far").pick(&key).unwrap_err(), NoEndpoint::Unhealthy);
    upstream.says(200, HEALTHY);
    running.reaches("far", PoolState::Healthy).await;
    // Restarted by its owner: another incarnation at the same address.
    upstream.says(200, r#"{"status":"healthy","endpoint":"wxyz9876"}"#);
    eventually("its new id", || {
        (running.status("far").endpoints[0].id.as_str() == "wxyz9876").then_some(())
    })
    .await;
    upstream.says(401, "");
    let status = running.reaches("far", PoolState::Unhealthy).await;
    assert!(status.reason.unwrap().contains("`token`"));
    running.supervisor.stop_all(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_upstream_that_is_not_there_yet_is_found_when_it_comes() {
    let addr = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let running = Running::start(vec![
        fixed("far", std::slice::from_ref(&addr), None),
        fixed("lost", &["no-such-host.invalid:80".to_owned()], None),
    ]);
    running.supervisor.settled().await;
    let reason = running.status("far").reason.unwrap();
    assert!(reason.contains(&addr) && reason.contains("refused"), "{reason}");
    let reason = running.status("lost").reason.unwrap();
    assert!(
        reason.starts_with("cannot resolve `no-such-host.invalid`"),
        "{reason}"
    );
    let _upstream = Upstream::start(&addr, HEALTHY).await;
    running.reaches("far", PoolState::Healthy).await;
    running.supervisor.stop_all(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_name_is_every_address_behind_it() {
    let upstream = Upstream::start("127.0.0.1:0", HEALTHY).await;
    let running = Running::start(vec![fixed(
        "far",
        &[format!("localhost:{}", upstream.addr.port())],
        None,
    )]);
    let status = eventually("an endpoint serves", || {
        let status = running.status("far");
        status
            .endpoints
            .iter()
            .any(|e| e.id.as_str() == "abcd1234")
            .then_some(status)
    })
    .await;
    assert!(
        status
            .endpoints
            .iter()
            .any(|e| e.addr.to_string() == upstream.addr.to_string())
    );
    running.supervisor.stop_all(Duration::from_secs(1)).await;
}
