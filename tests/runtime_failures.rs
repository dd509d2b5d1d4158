//! A service that cannot start is unhealthy with the reason, and the others serve.

mod runtime_support;

use std::time::Duration;

use mcp_edge::config::ServiceRuntime;
use mcp_edge::runtime::{Options, SidecarProgram, Supervisor};
use mcp_edge::upstream::{PoolState, Pools};
use runtime_support::{Running, config, name, played};

#[tokio::test]
async fn each_names_its_reason_and_the_good_one_serves() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = played("busy", "serve");
    if let ServiceRuntime::Process { port, .. } = &mut busy.runtime {
        *port = Some(taken.local_addr().unwrap().port());
    }
    let mut mute = played("mute", "silent");
    mute.timeouts.start = Duration::from_millis(500);
    let mut slow = played("slow", "starting 1000000");
    // Long enough for the played sidecar itself to come up on a busy machine.
    slow.timeouts.start = Duration::from_secs(5);
    let running = Running::start(vec![
        busy,
        played("ends", "exit"),
        played("good", "serve"),
        played("missing", "unhealthy"),
        mute,
        slow,
    ]);
    running.supervisor.settled().await;
    for (service, reason) in [
        (
            "busy",
            format!(
                "port {} on 127.0.0.1 cannot be used",
                taken.local_addr().unwrap().port()
            ),
        ),
        (
            "ends",
            "the sidecar ended before it listened: exit status: 3".to_owned(),
        ),
        ("missing", "`no-such-command` not found".to_owned()),
        ("mute", "the sidecar did not listen within 500ms".to_owned()),
        ("slow", "still starting after 5s".to_owned()),
    ] {
        let status = running.reaches(service, PoolState::Unhealthy).await;
        let found = status.reason.unwrap();
        assert!(found.contains(&reason), "{service}: {found}");
        let last_words = match service {
            "ends" => "fake sidecar: cannot go on",
            "missing" => "sh: no-such-command",
            _ => continue,
        };
        assert_eq!(status.stderr, [last_words], "{service}");
    }
    running.reaches("good", PoolState::Healthy).await;
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_service_that_always_ends_is_called_a_crash_loop() {
    let running = Running::start(vec![played("ends", "exit")]);
    runtime_support::eventually("the verdict", || {
        running
            .status("ends")
            .reason
            .filter(|reason| reason.contains("crash loop: died 3 times"))
    })
    .await;
    assert!(running.status("ends").restarts >= 3);
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_state_dir_that_cannot_be_made_is_the_reason_of_every_service() {
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = config(&file, vec![played("files", "serve")]);
    let pools = std::sync::Arc::new(Pools::new(&config));
    let program = SidecarProgram {
        exe: "/no/such/program".into(),
        prefix: Vec::new(),
    };
    let supervisor = Supervisor::start(
        &config,
        std::sync::Arc::clone(&pools),
        program,
        Options::default(),
    );
    supervisor.settled().await;
    let status = pools.get(&name("files")).unwrap().status();
    assert_eq!(status.state, PoolState::Unhealthy);
    assert!(status.reason.unwrap().contains("check `edge.state_dir`"));
    supervisor.stop_all(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let config = config(home.path(), vec![played("files", "serve")]);
    let pools = std::sync::Arc::new(Pools::new(&config));
    let program = SidecarProgram {
        exe: "/no/such/program".into(),
        prefix: Vec::new(),
    };
    let supervisor = Supervisor::start(
        &config,
        std::sync::Arc::clone(&pools),
        program,
        Options::default(),
    );
    supervisor.settled().await;
    let reason = pools.get(&name("files")).unwrap().status().reason.unwrap();
    assert!(reason.starts_with("cannot start /no/such/program:"), "{reason}");
    supervisor.stop_all(Duration::from_secs(1)).await;
}
