//! What the tests of runtimes and pools share: configurations made by hand, a played sidecar, and waiting with a limit.

// Every test file uses its own part of this, and none of it leaves the file.
#![allow(dead_code, unreachable_pub)]
// Helpers of tests fail by panicking, and are no tests themselves, which clippy lets do so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcp_edge::config::{
    Auth, Config, Edge, Isolation, Processes, Replicas, Service, ServiceName, ServiceRuntime, Source,
    Timeouts,
};
use mcp_edge::runtime::{Options, SidecarProgram, Supervisor};
use mcp_edge::upstream::{HealthTiming, Pool, PoolState, PoolStatus, Pools};

pub fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

/// A service whose played sidecar behaves as `behaviour` says; see `fake_sidecar.py`.
pub fn played(service: &str, behaviour: &str) -> Service {
    let minute = Duration::from_secs(60);
    Service {
        name: name(service),
        runtime: ServiceRuntime::Process {
            command: behaviour.split(' ').map(str::to_owned).collect(),
            env: BTreeMap::new(),
            cwd: None,
            port: None,
        },
        health_check_path: "/health".into(),
        isolation: Isolation::Client,
        stateless: false,
        processes: Processes {
            max: 4,
            idle_stop: Some(Duration::from_secs(600)),
            warm: 0,
        },
        replicas: Replicas {
            min: 1,
            max: 1,
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

/// A service whose sidecars somebody else runs.
pub fn fixed(service: &str, upstreams: &[String], token: Option<&str>) -> Service {
    Service {
        runtime: ServiceRuntime::Fixed {
            upstreams: upstreams.iter().map(|text| text.parse().unwrap()).collect(),
            token: token.map(|token| token.to_owned().into()),
        },
        ..played(service, "serve")
    }
}

/// Sets a variable of a played sidecar's server.
pub fn with_env(mut service: Service, key: &str, value: &str) -> Service {
    if let ServiceRuntime::Process { env, .. } = &mut service.runtime {
        env.insert(key.to_owned(), value.to_owned().into());
    }
    service
}

pub fn config(state_dir: &Path, services: Vec<Service>) -> Config {
    let loopback = "127.0.0.1:0".parse().unwrap();
    Config {
        edge: Edge {
            listen: loopback,
            tls: None,
            admin: loopback,
            health: loopback,
            state_dir: state_dir.to_owned(),
            public_url: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            drain: Duration::from_secs(1),
            max_body: 1 << 20,
        },
        services: services
            .into_iter()
            .map(|s| (s.name.clone(), Arc::new(s)))
            .collect(),
        tiers: BTreeMap::new(),
        clients: BTreeMap::new(),
        auth: Auth {
            issuers: Vec::new(),
            anonymous: None,
        },
        routes: Vec::new(),
        warnings: Vec::new(),
        source: Source::Demo,
    }
}

pub fn fake() -> SidecarProgram {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime_support/fake_sidecar.py");
    SidecarProgram {
        exe: "python3".into(),
        prefix: vec![script.into()],
    }
}

/// The defaults with checks a hundred times as frequent.
pub fn quick() -> Options {
    Options {
        health: HealthTiming {
            interval: Duration::from_millis(100),
            changing: Duration::from_millis(20),
            starting: Duration::from_millis(10),
            ..HealthTiming::default()
        },
        ..Options::default()
    }
}

/// A supervisor with its pools and a directory for its sockets.
pub struct Running {
    pub supervisor: Supervisor,
    pub pools: Arc<Pools>,
    pub state_dir: tempfile::TempDir,
}

impl Running {
    pub fn start(services: Vec<Service>) -> Self {
        Self::start_with(services, quick())
    }

    pub fn start_with(services: Vec<Service>, options: Options) -> Self {
        // Not below a long path: sockets have short ones.
        let state_dir = tempfile::tempdir_in("/tmp").unwrap();
        let config = config(state_dir.path(), services);
        let pools = Arc::new(Pools::new(&config));
        let supervisor = Supervisor::start(&config, Arc::clone(&pools), fake(), options);
        Self {
            supervisor,
            pools,
            state_dir,
        }
    }

    pub fn pool(&self, service: &str) -> Arc<Pool> {
        Arc::clone(self.pools.get(&name(service)).unwrap())
    }

    pub fn status(&self, service: &str) -> PoolStatus {
        self.pool(service).status()
    }

    /// Waits until the service is in this state.
    pub async fn reaches(&self, service: &str, state: PoolState) -> PoolStatus {
        let what = format!("{service} is {}", state.as_str());
        eventually(&what, || {
            Some(self.status(service)).filter(|status| status.state == state)
        })
        .await
    }

    /// Files below the directory for sockets.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let run = self.state_dir.path().join("run");
        std::fs::read_dir(run)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// Waits until `probe` gives a value.
pub async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(value) = probe() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 20 s: {what}");
}

/// What the played sidecars of a directory were given, by endpoint.
pub fn given(dir: &Path) -> BTreeMap<String, serde_json::Value> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .map(|path| {
            let endpoint = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (
                endpoint,
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap(),
            )
        })
        .collect()
}

pub fn pid_of(given: &serde_json::Value) -> i32 {
    i32::try_from(given["pid"].as_i64().unwrap()).unwrap()
}

/// Neither running nor a zombie.
pub fn is_gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
