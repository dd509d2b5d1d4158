//! Only a few sidecars start at once.

mod runtime_support;

use std::time::Duration;

use mcp_edge::upstream::PoolState;
use runtime_support::{Running, given, played, with_env};

#[tokio::test]
async fn at_most_four_starts_are_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let names: Vec<String> = (0..10).map(|n| format!("service-{n}")).collect();
    let services = names
        .iter()
        .map(|name| with_env(played(name, "starting 3"), "FAKE_DIR", folder))
        .collect();
    let running = Running::start(services);
    running.supervisor.settled().await;
    for name in &names {
        running.reaches(name, PoolState::Healthy).await;
    }
    // Each start counted those under way, itself included.
    let counts: Vec<u64> = given(dir.path())
        .values()
        .map(|given| given["under_way"].as_u64().unwrap())
        .collect();
    assert_eq!(counts.len(), 10);
    assert!(counts.iter().all(|&count| count <= 4), "{counts:?}");
    assert!(
        counts.iter().any(|&count| count > 1),
        "one after another would be too slow: {counts:?}"
    );
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}
