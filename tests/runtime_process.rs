//! A sidecar that the edge starts: how it is called, what it inherits, and that it goes when the edge goes.

mod runtime_support;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::{Duration, Instant};

use mcp_edge::config::ServiceRuntime;
use mcp_edge::upstream::{EndpointAddr, PickKey, PoolState};
use runtime_support::{Running, given, is_gone, pid_of, played, with_env};

#[tokio::test]
async fn it_is_called_by_the_contract_and_gets_its_secrets_on_stdin_alone() {
    let dir = tempfile::tempdir().unwrap();
    let service = with_env(played("files", "serve"), "FAKE_DIR", dir.path().to_str().unwrap());
    let running = Running::start(vec![with_env(service, "API_KEY", "hush")]);
    running.supervisor.settled().await;
    assert_eq!(
        running.status("files").state,
        PoolState::Healthy,
        "{:?}",
        running.status("files")
    );

    let given = given(dir.path());
    let (endpoint, given) = given.first_key_value().unwrap();
    let socket = running
        .state_dir
        .path()
        .join(format!("run/files-0-{endpoint}.sock"));
    let argv: Vec<_> = given["argv"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    let expected = format!(
        "--uds {} --service files --endpoint {endpoint} --isolation client --max-processes 4 --start-timeout 30s \
         --idle-stop 600s --control-stdin -- serve",
        socket.display()
    );
    assert_eq!(argv.join(" "), expected);
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
    let mode = std::fs::metadata(socket.parent().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);

    assert_eq!(given["control"]["env"]["API_KEY"], "hush");
    let token = given["control"]["token"].as_str().unwrap();
    assert_eq!(token.len(), 43, "32 bytes in base64url");
    let variables = given["variables"].as_array().unwrap();
    assert!(variables.contains(&"PATH".into()));
    // What this test itself was given by its runner is on no list.
    assert!(std::env::vars_os().any(|(name, _)| name == "CARGO_MANIFEST_DIR"));
    assert!(!variables.contains(&"CARGO_MANIFEST_DIR".into()) && !variables.contains(&"API_KEY".into()));
    assert_eq!(
        given["group"], given["pid"],
        "a group of its own, out of reach of Ctrl-C"
    );

    let lease = running
        .pool("files")
        .pick(&PickKey {
            client: "a",
            session: None,
            tried: &[],
        })
        .unwrap();
    let authorization = lease.endpoint().authorization().unwrap();
    assert_eq!(authorization.to_str().unwrap(), format!("Bearer {token}"));
    assert!(
        !format!("{:?}", lease.endpoint()).contains(token),
        "a debug print hides the token"
    );
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_named_port_is_used_by_the_first_replica() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut service = played("files", "serve");
    service.replicas.min = 2;
    if let ServiceRuntime::Process { port: wanted, .. } = &mut service.runtime {
        *wanted = Some(port);
    }
    let running = Running::start(vec![service]);
    let status = running.reaches("files", PoolState::Healthy).await;
    let mut addrs: Vec<_> = status
        .endpoints
        .iter()
        .map(|e| (e.replica, e.addr.clone()))
        .collect();
    addrs.sort();
    assert_eq!(addrs[0], (0, EndpointAddr::Tcp(([127, 0, 0, 1], port).into())));
    assert!(matches!(addrs[1], (1, EndpointAddr::Unix(_))));
    running.supervisor.stop_all(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn stopping_leaves_no_process_and_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let mut service = with_env(played("files", "serve"), "FAKE_DIR", folder);
    service.replicas.min = 3;
    let running = Running::start(vec![
        service,
        with_env(played("deaf", "stubborn"), "FAKE_DIR", folder),
    ]);
    running.reaches("files", PoolState::Healthy).await;
    running.reaches("deaf", PoolState::Healthy).await;
    let pids: Vec<i32> = given(dir.path()).values().map(pid_of).collect();
    assert_eq!((pids.len(), running.sockets().len()), (4, 4));
    let began = Instant::now();
    running.supervisor.stop_all(Duration::from_secs(2)).await;
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "the deaf one was given its time"
    );
    assert!(pids.iter().all(|&pid| is_gone(pid)), "{pids:?}");
    assert_eq!(running.sockets(), Vec::<std::path::PathBuf>::new());
    assert!(running.status("files").endpoints.is_empty());
}

#[tokio::test]
async fn stopping_in_the_middle_of_a_start_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(vec![with_env(
        played("mute", "silent"),
        "FAKE_DIR",
        dir.path().to_str().unwrap(),
    )]);
    let pid = runtime_support::eventually("it runs", || given(dir.path()).values().map(pid_of).next()).await;
    running.supervisor.stop_all(Duration::from_secs(5)).await;
    assert!(is_gone(pid));
}
