//! Sidecars as child processes of the edge: `{edge} sidecar … -- COMMAND`.
//!
//! Invariants: a sidecar is asked to leave when its replica is stopped and killed when the replica is dropped; its stdin
//! is held open as long as it is wanted, because the end of stdin tells it that the edge is gone; secrets reach it
//! through that stdin alone.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::control::Token;
use super::output::{Tail, await_listening, forward};
use super::rundir::{RunDir, SocketFile};
use super::spawner::Spawner;
use super::{Change, Failure, Replica, Runtime, StartError, environment};
use crate::config::{Service, ServiceRuntime};
use crate::upstream::{EndpointAddr, EndpointId, EndpointSpec};

/// How the sidecar program is called.
#[derive(Debug, Clone)]
pub struct SidecarProgram {
    /// The program.
    pub exe: PathBuf,
    /// What stands before the options.
    pub prefix: Vec<OsString>,
}

impl SidecarProgram {
    /// The running program itself, with the command `sidecar`.
    ///
    /// # Errors
    /// The path of the running program is not known.
    pub fn own() -> io::Result<Self> {
        Ok(Self {
            exe: std::env::current_exe()?,
            prefix: vec!["sidecar".into()],
        })
    }
}

/// Starts sidecars as child processes.
pub(super) struct ProcessRuntime {
    program: SidecarProgram,
    spawner: Spawner,
    run_dir: RunDir,
}

impl ProcessRuntime {
    pub(super) fn new(program: SidecarProgram, state_dir: &Path) -> Result<Self, StartError> {
        let spawner = Spawner::new().map_err(|source| StartError::Spawn {
            program: program.exe.clone(),
            source,
        })?;
        let run_dir = RunDir::prepare(state_dir)?;
        Ok(Self {
            program,
            spawner,
            run_dir,
        })
    }

    pub(super) fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn start_is_costly(&self) -> bool {
        true
    }

    async fn start(&self, service: &Arc<Service>, replica: u32) -> Result<Box<dyn Replica>, StartError> {
        let ServiceRuntime::Process {
            command,
            env,
            cwd,
            port,
        } = &service.runtime
        else {
            return Err(StartError::WrongRuntime);
        };
        let id = EndpointId::random();
        let token = Token::random()?;
        // A port is one address: further replicas cannot share it.
        let place = match port.filter(|_| replica == 0) {
            Some(port) => Place::Tcp(free_port(port)?),
            None => Place::Unix(self.run_dir.socket(&service.name, replica, &id)),
        };
        let mut call = Command::new(&self.program.exe);
        call.args(&self.program.prefix)
            .args(options(service, &place, &id, cwd.as_deref()))
            .arg("--")
            .args(command)
            .env_clear()
            .envs(environment::inherited())
            // Its own group: Ctrl-C in a terminal is for the edge, which first lets its requests finish.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = self.spawner.spawn(call).await?;
        let (tell, listening) = oneshot::channel();
        let mut output = JoinSet::new();
        let tail = Tail::default();
        if let Some(stdout) = child.stdout.take() {
            output.spawn(await_listening(stdout, tell));
        }
        if let Some(stderr) = child.stderr.take() {
            output.spawn(forward(stderr, service.name.clone(), id.clone(), tail.clone()));
        }
        let mut lifeline = child.stdin.take();
        if let Some(stdin) = &mut lifeline {
            let line = token.control_line(env);
            let write = stdin.write_all(line.expose_secret().as_bytes());
            // A sidecar that does not read has ended or hangs; either shows in what it does next.
            let _ = tokio::time::timeout(service.timeouts.start, write).await;
        }
        Ok(Box::new(ProcessReplica {
            stage: Stage::Launching {
                listening: Some(listening),
                deadline: Instant::now() + service.timeouts.start,
                limit: service.timeouts.start,
            },
            id,
            authorization: token.authorization(),
            seed: xxh3_64(&replica.to_le_bytes()),
            child,
            lifeline,
            place,
            output,
            tail,
            _spawner: self.spawner.clone(),
        }))
    }
}

/// Where a sidecar is told to listen.
enum Place {
    Tcp(SocketAddr),
    Unix(SocketFile),
}

/// Binds the port for a moment: the sidecar would fail too, but could not say whose mistake it is.
fn free_port(port: u16) -> Result<SocketAddr, StartError> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(addr)
        .map(|_| addr)
        .map_err(|source| StartError::PortBusy { port, source })
}

fn options(service: &Service, place: &Place, id: &EndpointId, cwd: Option<&Path>) -> Vec<OsString> {
    let mut options: Vec<OsString> = match place {
        Place::Tcp(addr) => vec!["--listen".into(), addr.to_string().into()],
        Place::Unix(file) => vec!["--uds".into(), file.path().into()],
    };
    let mut option = |name: &str, value: String| options.extend([OsString::from(name), value.into()]);
    option("--service", service.name.to_string());
    option("--endpoint", id.to_string());
    option("--isolation", service.isolation.as_str().to_owned());
    option("--max-processes", service.processes.max.to_string());
    option("--start-timeout", duration(service.timeouts.start));
    option(
        "--idle-stop",
        service
            .processes
            .idle_stop
            .map_or_else(|| "never".to_owned(), duration),
    );
    options.push("--control-stdin".into());
    if let Some(cwd) = cwd {
        options.extend(["--cwd".into(), cwd.into()]);
    }
    options
}

/// A duration as command lines and configurations write it.
fn duration(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{}s", time.as_secs())
    } else {
        format!("{}ms", time.as_millis())
    }
}

struct ProcessReplica {
    stage: Stage,
    id: EndpointId,
    authorization: Option<HeaderValue>,
    seed: u64,
    child: Child,
    /// Its end tells the sidecar to leave.
    lifeline: Option<ChildStdin>,
    place: Place,
    output: JoinSet<()>,
    tail: Tail,
    /// Keeps the thread that forked the sidecar, whose end the kernel would take for the edge's.
    _spawner: Spawner,
}

enum Stage {
    Launching {
        /// `None` once stdout has ended without the line.
        listening: Option<oneshot::Receiver<String>>,
        deadline: Instant,
        limit: Duration,
    },
    Running,
    Over(String),
}

#[async_trait]
impl Replica for ProcessReplica {
    async fn change(&mut self) -> Change {
        loop {
            match &mut self.stage {
                Stage::Launching {
                    listening,
                    deadline,
                    limit,
                } => {
                    tokio::select! {
                        // The process may have printed its line and ended; then only the end counts.
                        biased;
                        status = self.child.wait() => {
                            self.stage = Stage::Over(format!("the sidecar ended before it listened: {}", words(status)));
                        }
                        said = line(listening) => match said {
                            // It has closed its stdout: it is about to end, or the deadline ends it.
                            None => *listening = None,
                            Some(text) => match self.place.confirm(&text) {
                                Some(addr) => {
                                    self.stage = Stage::Running;
                                    return Change::Up(EndpointSpec {
                                        id: self.id.clone(),
                                        addr,
                                        authorization: self.authorization.clone(),
                                        seed: self.seed,
                                        learns_id: false,
                                    });
                                }
                                None => {
                                    let reason = format!("the sidecar listens on {text:?}, where it was not told to");
                                    self.stage = Stage::Over(reason);
                                }
                            },
                        },
                        () = tokio::time::sleep_until(*deadline) => {
                            let reason = format!("the sidecar did not listen within {limit:?} (`timeouts.start`)");
                            self.stage = Stage::Over(reason);
                        }
                    }
                }
                Stage::Running => {
                    let status = self.child.wait().await;
                    self.stage = Stage::Over(format!("the sidecar ended: {}", words(status)));
                }
                Stage::Over(reason) => {
                    // Without effect on one that has ended. Errors mean just that.
                    let _ = self.child.start_kill();
                    let _ = self.child.wait().await;
                    // The last words are in the pipe; a grandchild may hold it open for ever.
                    let read_out = async { while self.output.join_next().await.is_some() {} };
                    let _ = tokio::time::timeout(Duration::from_millis(200), read_out).await;
                    return Change::Ended(Failure {
                        reason: reason.clone(),
                        stderr: self.tail.lines(),
                    });
                }
            }
        }
    }

    async fn stop(mut self: Box<Self>, grace: Duration) {
        self.lifeline = None;
        // `id` is `None` once the process has been reaped, so the signal can reach nobody else.
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            tracing::warn!(endpoint = %self.id, ?grace, "the sidecar did not leave in time and is killed");
            let _ = self.child.kill().await;
        }
    }
}

/// The line that says where the sidecar listens; `None` if there will be none. Never ready after that.
async fn line(listening: &mut Option<oneshot::Receiver<String>>) -> Option<String> {
    match listening {
        Some(listening) => listening.await.ok(),
        None => std::future::pending().await,
    }
}

impl Place {
    /// The address that the sidecar says it listens on, if that is where it was told to.
    fn confirm(&self, said: &str) -> Option<EndpointAddr> {
        match self {
            Self::Tcp(addr) => (said.parse() == Ok(*addr)).then_some(EndpointAddr::Tcp(*addr)),
            Self::Unix(file) => {
                (Path::new(said) == file.path()).then(|| EndpointAddr::Unix(file.path().into()))
            }
        }
    }
}

fn words(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_sidecar_reads_them() {
        assert_eq!(duration(Duration::from_secs(600)), "600s");
        assert_eq!(duration(Duration::from_millis(1500)), "1500ms");
    }

    #[test]
    fn a_busy_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = free_port(port).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} on 127.0.0.1")), "{error}");
    }
}
