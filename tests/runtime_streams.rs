//! Every sidecar is asked to end its streams.

mod runtime_support;

use std::time::Duration;

use mcp_edge::upstream::PoolState;
use runtime_support::{Running, given, played, with_env};

#[tokio::test]
async fn every_sidecar_is_asked_with_its_own_token() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let mut two = with_env(played("two", "serve"), "FAKE_DIR", folder);
    two.replicas.min = 2;
    let running = Running::start(vec![two, with_env(played("one", "serve"), "FAKE_DIR", folder)]);
    running.reaches("two", PoolState::Healthy).await;
    running.reaches("one", PoolState::Healthy).await;
    running.supervisor.end_streams().await;
    let endpoints: Vec<String> = given(dir.path()).into_keys().collect();
    assert_eq!(endpoints.len(), 3);
    for endpoint in endpoints {
        // Written only for a call with the right token.
        let calls = std::fs::read_to_string(dir.path().join(format!("{endpoint}.calls"))).unwrap();
        assert_eq!(calls, "/control/end-streams\n");
    }
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}
