//! The choice of an endpoint, and the verdict on a pool, with plain values.

use std::path::Path;

use super::super::health::Probe;
use super::*;
use crate::config::{Isolation, Processes, Replicas, Timeouts};
use crate::upstream::HealthState;

fn service(replicas: u32, stateless: bool) -> Service {
    let minute = Duration::from_secs(60);
    Service {
        name: "files".parse().unwrap(),
        runtime: ServiceRuntime::Process {
            command: vec!["true".into()],
            env: BTreeMap::new(),
            cwd: None,
            port: None,
        },
        health_check_path: "/health".into(),
        isolation: Isolation::Client,
        stateless,
        processes: Processes {
            max: 1,
            idle_stop: None,
            warm: 0,
        },
        replicas: Replicas {
            min: replicas,
            max: replicas,
            idle_stop: None,
        },
        max_concurrent: 16,
        timeouts: Timeouts {
            first_byte: minute,
            idle: minute,
            total: minute,
            start: Duration::from_secs(30),
        },
        tags: Default::default(),
        backup: None,
    }
}

fn spec(id: &str, seed: u64) -> EndpointSpec {
    EndpointSpec {
        id: EndpointId::parse(id).unwrap(),
        addr: EndpointAddr::Unix(Path::new(&format!("/nowhere/{seed}")).into()),
        authorization: None,
        seed,
        learns_id: false,
    }
}

const IDS: [&str; 4] = ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"];

/// A pool whose endpoints `aaaaaaaa`, `bbbbbbbb`… are all healthy.
fn pool_of(n: usize, stateless: bool) -> (Arc<Pool>, Vec<Arc<Endpoint>>) {
    let pool = Arc::new(Pool::new(&service(u32::try_from(n).unwrap(), stateless)));
    let endpoints: Vec<_> = (0..n)
        .map(|k| pool.join(u32::try_from(k).unwrap(), spec(IDS[k], k as u64)))
        .collect();
    endpoints.iter().for_each(|e| tell(&pool, e, Probe::Healthy));
    (pool, endpoints)
}

fn tell(pool: &Pool, endpoint: &Arc<Endpoint>, probe: Probe) {
    let report = Report {
        probe,
        endpoint: None,
        stderr: Vec::new(),
    };
    pool.observe(endpoint, report, &HealthTiming::default());
}

/// Three failed checks in a row.
fn fell(pool: &Pool, endpoint: &Arc<Endpoint>) {
    for _ in 0..3 {
        tell(pool, endpoint, Probe::Failed("refused".into()));
    }
}

fn key<'a>(client: &'a str, session: Option<&'a str>, tried: &'a [EndpointId]) -> PickKey<'a> {
    PickKey {
        client,
        session,
        tried,
    }
}

fn picked(pool: &Arc<Pool>, client: &str, session: Option<&str>) -> Result<String, NoEndpoint> {
    pool.pick(&key(client, session, &[]))
        .map(|lease| lease.endpoint().id().to_string())
}

/// A client whose home is this endpoint.
fn client_of(pool: &Arc<Pool>, id: &str) -> String {
    (0..1000)
        .map(|n| format!("client-{n}"))
        .find(|client| picked(pool, client, None).unwrap() == id)
        .unwrap()
}

#[test]
fn a_session_goes_to_its_holder_whatever_the_client_hash_says() {
    let (pool, _) = pool_of(3, false);
    for id in IDS.iter().take(3) {
        for client in ["a", "b", "c", "d"] {
            assert_eq!(picked(&pool, client, Some(&format!("{id}.xyz"))).unwrap(), *id);
        }
    }
}

#[test]
fn a_session_whose_holder_is_down_waits_for_it() {
    let (pool, endpoints) = pool_of(2, true);
    fell(&pool, &endpoints[0]);
    assert_eq!(
        picked(&pool, "a", Some("aaaaaaaa.x")),
        Err(NoEndpoint::SessionUnavailable)
    );
    tell(&pool, &endpoints[0], Probe::Healthy);
    tell(&pool, &endpoints[0], Probe::Healthy);
    assert_eq!(picked(&pool, "a", Some("aaaaaaaa.x")).unwrap(), "aaaaaaaa");
    pool.refused(&endpoints[0]);
    assert_eq!(
        picked(&pool, "a", Some("aaaaaaaa.x")),
        Err(NoEndpoint::SessionUnavailable)
    );
}

#[test]
fn a_session_whose_holder_is_gone_goes_anywhere() {
    let (pool, _) = pool_of(2, false);
    pool.replica_failed(0, "killed".into(), Vec::new());
    assert_eq!(picked(&pool, "a", Some("aaaaaaaa.x")).unwrap(), "bbbbbbbb");
    assert_eq!(picked(&pool, "a", Some("not one of ours")).unwrap(), "bbbbbbbb");
}

#[test]
fn a_client_moves_only_while_its_home_is_down() {
    let (pool, endpoints) = pool_of(3, false);
    let client = client_of(&pool, "bbbbbbbb");
    fell(&pool, &endpoints[1]);
    assert_ne!(picked(&pool, &client, None).unwrap(), "bbbbbbbb");
    tell(&pool, &endpoints[1], Probe::Healthy);
    tell(&pool, &endpoints[1], Probe::Healthy);
    assert_eq!(picked(&pool, &client, None).unwrap(), "bbbbbbbb");
}

#[test]
fn a_second_attempt_goes_elsewhere_until_nobody_is_left() {
    let (pool, _) = pool_of(2, false);
    let first = pool.pick(&key("a", None, &[])).unwrap().endpoint().id().clone();
    let second = pool
        .pick(&key("a", None, std::slice::from_ref(&first)))
        .unwrap()
        .endpoint()
        .id()
        .clone();
    assert_ne!(first, second);
    assert_eq!(
        pool.pick(&key("a", None, &[first, second])).unwrap_err(),
        NoEndpoint::Exhausted
    );
}

#[test]
fn a_stateless_service_takes_the_less_busy() {
    let (pool, endpoints) = pool_of(2, true);
    let held: Vec<_> = (0..10)
        .map(|_| pool.pick(&key("a", None, &[])).unwrap())
        .collect();
    assert_eq!((endpoints[0].inflight(), endpoints[1].inflight()), (5, 5));
    drop(held);
    assert_eq!((endpoints[0].inflight(), endpoints[1].inflight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_ejects_until_a_later_check_succeeds() {
    let (pool, endpoints) = pool_of(2, false);
    let client = client_of(&pool, "aaaaaaaa");
    pool.pick(&key(&client, None, &[])).unwrap().connect_failed();
    assert_eq!(picked(&pool, &client, None).unwrap(), "bbbbbbbb");
    assert_eq!(pool.status().state, PoolState::Degraded);
    tell(&pool, &endpoints[0], Probe::Healthy);
    assert_eq!(
        picked(&pool, &client, None).unwrap(),
        "bbbbbbbb",
        "its time is not over"
    );
    tokio::time::advance(Duration::from_secs(37)).await;
    assert_eq!(
        picked(&pool, &client, None).unwrap(),
        "bbbbbbbb",
        "time alone does not readmit"
    );
    tell(&pool, &endpoints[0], Probe::Healthy);
    assert_eq!(picked(&pool, &client, None).unwrap(), "aaaaaaaa");
    assert_eq!(pool.status().state, PoolState::Healthy);
}

#[test]
fn one_always_stays() {
    let (pool, endpoints) = pool_of(2, false);
    pool.refused(&endpoints[0]);
    pool.refused(&endpoints[1]);
    assert!(picked(&pool, "a", None).is_ok());
    let (pool, endpoints) = pool_of(1, false);
    pool.refused(&endpoints[0]);
    assert!(
        picked(&pool, "a", None).is_ok(),
        "a pool of one believes its active checks"
    );
    fell(&pool, &endpoints[0]);
    assert_eq!(picked(&pool, "a", None), Err(NoEndpoint::Unhealthy));
}

#[test]
fn at_most_half_of_a_pool_is_ejected() {
    let (pool, endpoints) = pool_of(4, false);
    endpoints.iter().for_each(|e| pool.refused(e));
    assert_eq!(endpoints.iter().filter(|e| e.open()).count(), 2);
}

#[test]
fn an_ejected_endpoint_is_better_than_none() {
    let (pool, endpoints) = pool_of(2, false);
    pool.refused(&endpoints[0]);
    fell(&pool, &endpoints[1]);
    assert_eq!(picked(&pool, "a", None).unwrap(), "aaaaaaaa");
}

#[test]
fn five_failures_in_a_row_eject_and_a_success_starts_over() {
    let (pool, endpoints) = pool_of(2, false);
    let client = client_of(&pool, "aaaaaaaa");
    for _ in 0..4 {
        pool.pick(&key(&client, None, &[])).unwrap().failed();
    }
    pool.pick(&key(&client, None, &[])).unwrap().ok();
    for _ in 0..4 {
        pool.pick(&key(&client, None, &[])).unwrap().failed();
    }
    assert!(endpoints[0].open());
    pool.pick(&key(&client, None, &[])).unwrap().failed();
    assert!(!endpoints[0].open());
}

#[test]
fn a_draining_replica_keeps_its_sessions_and_gets_no_new_clients() {
    let (pool, _) = pool_of(2, false);
    let client = client_of(&pool, "aaaaaaaa");
    let held = pool.pick(&key(&client, None, &[])).unwrap();
    assert_eq!(pool.drain(0), 1);
    assert_eq!(picked(&pool, &client, None).unwrap(), "bbbbbbbb");
    assert_eq!(picked(&pool, &client, Some("aaaaaaaa.x")).unwrap(), "aaaaaaaa");
    drop(held);
    assert_eq!(pool.drain(0), 0);
    let (pool, _) = pool_of(1, false);
    let _held = pool.pick(&key("a", None, &[])).unwrap();
    assert_eq!(pool.drain(0), 0, "nobody would take its clients");
    assert!(picked(&pool, "a", None).is_ok());
}

#[test]
fn the_verdict_names_what_is_wrong() {
    let pool = Arc::new(Pool::new(&service(2, false)));
    assert_eq!(picked(&pool, "a", None), Err(NoEndpoint::Starting));
    pool.replica_failed(0, "port 1 is busy".into(), vec!["last words".into()]);
    assert_eq!(
        picked(&pool, "a", None),
        Err(NoEndpoint::Starting),
        "the other one may yet serve"
    );
    let other = pool.join(1, spec(IDS[1], 1));
    assert_eq!(pool.status().state, PoolState::Starting);
    tell(&pool, &other, Probe::Unhealthy("no npx".into()));
    let status = pool.status();
    assert_eq!(
        (status.state, status.reason.as_deref()),
        (PoolState::Unhealthy, Some("no npx"))
    );
    assert_eq!(picked(&pool, "a", None), Err(NoEndpoint::Unhealthy));
    tell(&pool, &other, Probe::Healthy);
    tell(&pool, &other, Probe::Healthy);
    let status = pool.status();
    assert_eq!(
        (status.state, status.reason.as_deref()),
        (PoolState::Degraded, Some("port 1 is busy"))
    );
    assert_eq!(
        (status.stderr, status.restarts),
        (vec!["last words".to_owned()], 1)
    );
    let first = pool.join(0, spec(IDS[0], 0));
    tell(&pool, &first, Probe::Healthy);
    let status = pool.status();
    assert_eq!(
        (status.state, status.reason, status.stderr),
        (PoolState::Healthy, None, Vec::new())
    );
}

#[test]
fn an_endpoint_that_tells_its_id_is_known_by_it() {
    let pool = Arc::new(Pool::new(&service(1, false)));
    let spec = EndpointSpec {
        learns_id: true,
        ..spec("00000000", 0)
    };
    let first = pool.join(0, spec);
    assert_eq!(
        picked(&pool, "a", Some("aaaaaaaa.x")),
        Err(NoEndpoint::Starting),
        "it may be the holder"
    );
    let told = |id: &str| Report {
        probe: Probe::Healthy,
        endpoint: EndpointId::parse(id),
        stderr: Vec::new(),
    };
    let timing = HealthTiming::default();
    let second = pool.observe(&first, told("aaaaaaaa"), &timing);
    assert!(first.gone().is_cancelled() && !second.gone().is_cancelled());
    assert_eq!(picked(&pool, "a", Some("aaaaaaaa.x")).unwrap(), "aaaaaaaa");
    assert!(Arc::ptr_eq(
        &second,
        &pool.observe(&second, told("aaaaaaaa"), &timing)
    ));
    // It was restarted: the sessions of the former incarnation are gone.
    pool.observe(&second, told("bbbbbbbb"), &timing);
    assert_eq!(picked(&pool, "a", Some("aaaaaaaa.x")).unwrap(), "bbbbbbbb");
    assert_eq!(pool.endpoints().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_verdict_ends_with_one() {
    let pool = Arc::new(Pool::new(&service(1, false)));
    let early = tokio::time::timeout(Duration::from_secs(3600), pool.settled());
    assert!(early.await.is_err());
    let waiter = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.settled().await }
    });
    tokio::task::yield_now().await;
    pool.replica_failed(0, "no".into(), Vec::new());
    waiter.await.unwrap();
}

#[test]
fn a_removed_endpoint_is_not_brought_back_by_a_late_check() {
    let (pool, endpoints) = pool_of(1, false);
    pool.replica_stopped(0);
    tell(&pool, &endpoints[0], Probe::Healthy);
    assert!(pool.endpoints().is_empty());
    assert!(endpoints[0].gone().is_cancelled());
    assert_eq!(endpoints[0].status().health, HealthState::Healthy);
}
