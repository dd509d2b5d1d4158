//! A sidecar that dies is out at once and replaced by another incarnation; a restart on request spares the clients.

mod runtime_support;

use std::time::Duration;

use mcp_edge::upstream::{NoEndpoint, PickKey, PoolState};
use runtime_support::{Running, eventually, given, is_gone, kill, name, pid_of, played, with_env};

#[tokio::test]
async fn a_killed_sidecar_is_out_before_any_check_and_then_replaced() {
    let dir = tempfile::tempdir().unwrap();
    // Checks come too rarely to see anything.
    let mut options = runtime_support::quick();
    options.health.interval = Duration::from_secs(3600);
    let service = with_env(played("files", "serve"), "FAKE_DIR", dir.path().to_str().unwrap());
    let running = Running::start_with(vec![service], options);
    let before = running.reaches("files", PoolState::Healthy).await;
    let old = before.endpoints[0].id.clone();
    kill(pid_of(&given(dir.path())[old.as_str()]));
    let down = eventually("it is out", || {
        Some(running.status("files")).filter(|s| s.endpoints.is_empty())
    })
    .await;
    assert_eq!(
        down.reason.as_deref(),
        Some("the sidecar ended: signal: 9 (SIGKILL)")
    );
    let pick = running.pool("files").pick(&PickKey {
        client: "a",
        session: None,
        tried: &[],
    });
    assert_eq!(pick.unwrap_err(), NoEndpoint::Unhealthy);

    let after = running.reaches("files", PoolState::Healthy).await;
    assert_ne!(after.endpoints[0].id, old);
    assert_eq!(after.restarts, 1);
    let session = format!("{old}.abc");
    let lease = running
        .pool("files")
        .pick(&PickKey {
            client: "a",
            session: Some(&session),
            tried: &[],
        })
        .unwrap();
    assert_eq!(
        lease.endpoint().id(),
        &after.endpoints[0].id,
        "to be told that its session is gone"
    );
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_restart_takes_one_replica_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = with_env(played("files", "serve"), "FAKE_DIR", dir.path().to_str().unwrap());
    service.replicas.min = 2;
    let running = Running::start(vec![service]);
    let before = running.reaches("files", PoolState::Healthy).await;
    let old: Vec<i32> = given(dir.path()).values().map(pid_of).collect();
    let pool = running.pool("files");
    let (files, unknown) = (name("files"), name("unknown"));
    let mut restart = std::pin::pin!(running.supervisor.restart(&files));
    let known = loop {
        tokio::select! {
            known = &mut restart => break known,
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                // Some replica serves at any time.
                drop(pool.pick(&PickKey { client: "a", session: None, tried: &[] }).unwrap());
            }
        }
    };
    assert!(known);
    let after = running.reaches("files", PoolState::Healthy).await;
    assert!(
        after
            .endpoints
            .iter()
            .all(|e| before.endpoints.iter().all(|b| b.id != e.id))
    );
    assert!(old.iter().all(|&pid| is_gone(pid)));
    assert_eq!(after.restarts, 0, "nothing failed");
    assert!(!running.supervisor.restart(&unknown).await);
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}
