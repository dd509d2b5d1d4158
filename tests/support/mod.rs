//! A real edge on real sockets: the built binary, started on ports of the system's choice, spoken to in raw HTTP/1.1.
//!
//! Raw, because the tests are about bytes: a client library would hide a wrong status line, a missing end of a chunked
//! body, a stream that came in one piece. Everything that is started is ended by its own process id on drop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    reason = "a test that cannot go on fails, and every test file uses its own part of this"
)]

pub mod http;
pub mod mcp;
pub mod upstream;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far beyond what anything here takes; a test that reaches it has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const SECRET: &str = "a-secret-of-the-tests-32-bytes-long!";

/// The built binary.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_mcp-edge")
}

/// Calls `check` until it gives something; fails the test after [`PATIENCE`].
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running edge.
pub struct Edge {
    pub public: SocketAddr,
    pub health: SocketAddr,
    pub dir: TempDir,
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

/// The usual configuration: anonymous clients on loopback; `services` is the YAML list under `mcp.services`.
pub fn anonymous(services: &str) -> String {
    config("auth: {anonymous: {tier: enterprise}}", services, "")
}

/// A configuration with its own `auth:` line and further top-level lines.
pub fn config(auth: &str, services: &str, more: &str) -> String {
    format!(
        "edge:\n  listen: 127.0.0.1:0\n  health: 127.0.0.1:0\n  state_dir: ./state\n  drain: 5s\n{auth}\n{more}\nmcp:\n  services:\n{services}\n"
    )
}

/// A service that runs the built-in demo server.
pub fn demo(name: &str, more: &str) -> String {
    format!(
        "    - {{name: {name}, command: [\"{}\", demo]{}{more}}}\n",
        binary(),
        if more.is_empty() { "" } else { ", " }
    )
}

/// A service at fixed addresses that a test serves itself.
pub fn fixed(name: &str, upstream: SocketAddr, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("    - {{name: {name}, upstreams: [\"{upstream}\"]{comma}{more}}}\n")
}

impl Edge {
    /// Starts an edge and waits until every service has a verdict.
    pub fn start(yaml: &str) -> Self {
        let edge = Self::launch(yaml, &[]);
        edge.wait_ready();
        edge
    }

    /// Starts an edge and waits only until it listens.
    pub fn launch(yaml: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("edge.yaml"), yaml).unwrap();
        let mut command = Command::new(binary());
        command
            .args(["run", "-c", "edge.yaml"])
            .current_dir(dir.path())
            .env("RUST_LOG", "info")
            .env("MCP_JWT_SECRET", SECRET);
        command.envs(env.iter().copied());
        Self::spawn(command, dir)
    }

    /// Starts whatever `command` is in `dir`.
    pub fn spawn(mut command: Command, dir: TempDir) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let (mut public, mut health) = (None, None);
        eventually("the listening line", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "the edge ended with {status}:\n{}",
                    stderr.lock().unwrap().join("\n")
                );
            }
            for line in stderr.lock().unwrap().iter() {
                let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
                    continue;
                };
                if line["fields"]["message"] == "listening" {
                    public = line["fields"]["public"]
                        .as_str()
                        .and_then(|text| text.parse().ok());
                    health = line["fields"]["health"]
                        .as_str()
                        .and_then(|text| text.parse().ok());
                }
            }
            public.and(health)
        });
        Self {
            public: public.unwrap(),
            health: health.unwrap(),
            dir,
            child,
            stdout,
            stderr,
        }
    }

    pub fn wait_ready(&self) {
        eventually("readiness", || {
            (self.get_health("/ready").status == 200).then_some(())
        });
    }

    pub fn get_health(&self, path: &str) -> http::Response {
        http::Request::new("GET", path).send(self.health)
    }

    /// The JSON of `/health`.
    pub fn health(&self) -> serde_json::Value {
        self.get_health("/health").json()
    }

    pub fn metrics(&self) -> String {
        self.get_health("/metrics").text()
    }

    /// The value of a metric line that starts with `line`.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let text = self.metrics();
        let found = text.lines().find(|l| l.starts_with(line))?;
        found.rsplit(' ').next()?.parse().ok()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    pub fn access_log(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lock()
            .unwrap()
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Asks the edge to stop and returns its exit code.
    pub fn stop(mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        signal(self.pid(), rustix::process::Signal::TERM);
        let status = eventually("the edge's end", || self.child.try_wait().unwrap());
        (status.code(), start.elapsed())
    }

    /// Processes below the edge, at any depth.
    pub fn descendants(&self) -> Vec<u32> {
        descendants(self.pid())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let start = Instant::now();
            signal(self.pid(), rustix::process::Signal::TERM);
            while self.child.try_wait().unwrap().is_none() {
                if start.elapsed() > Duration::from_secs(20) {
                    self.child.kill().ok();
                    self.child.wait().ok();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if std::thread::panicking() {
            eprintln!("--- the edge's log\n{}", self.stderr());
        }
    }
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Process ids below `pid`, nearest first.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut todo = vec![pid];
    while let Some(at) = todo.pop() {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{at}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = children
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            found.extend(&children);
            todo.extend(children);
        }
    }
    found
}

/// True while the process runs (a zombie does not).
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// The command line of a process, arguments joined by blanks.
pub fn command_line(pid: u32) -> String {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

/// Writes an executable script and returns its path.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn collect(from: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            into.lock().unwrap().push(line);
        }
    });
    lines
}
