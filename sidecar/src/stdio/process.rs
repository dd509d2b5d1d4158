//! One server process: started under a guard, signalled, stopped and reaped.
//!
//! Problem: a server must end with whoever needed it (dropped handle, stopped sidecar, killed sidecar), and its pid must
//! never be signalled after the kernel has given it to somebody else.
//!
//! Invariants:
//! - The guard is signalled and reaped by one task, its owner, so a signal never meets a reused pid. Handles only leave
//!   orders for that task; a handle that is dropped leaves the order to kill. The task ends when the guard has ended,
//!   which is bounded: a guard that does not obey is killed too.
//! - The kernel ties the parent-death signal to the *thread* that started the child: call [`Process::spawn`] from a
//!   thread that lives as long as the process. In the sidecar that is the main thread, which runs its only runtime.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::exit::Exit;
use super::framing::LineReader;
use super::guard::{KILL_LIMIT, SELF_EXE};
use super::input::ServerInput;
use super::orphans::{self, Registered};
use super::stderr::{self, StderrTail};

/// How long an ordered kill may take before the guard itself is killed: the guard's own limit and some more.
const GUARD_LIMIT: Duration = KILL_LIMIT.saturating_add(Duration::from_secs(2));
/// How long stderr may stay open after the guard's end. Everything that could hold it is dead then, as a rule.
const STDERR_LIMIT: Duration = Duration::from_secs(1);

/// What to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerCommand {
    /// A path, or a name to be found in the server's PATH. A relative path is taken from `cwd`.
    pub program: String,
    pub args: Vec<String>,
    /// Added to the inherited environment, later ones win.
    pub env: Vec<(String, String)>,
    /// The server's working directory; this process's when `None`.
    pub cwd: Option<PathBuf>,
}

/// Bounds of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Longest line on stdout, in bytes.
    pub max_line: usize,
    /// From the end of stdin to SIGTERM.
    pub eof_grace: Duration,
    /// From SIGTERM to SIGKILL.
    pub term_grace: Duration,
}

impl Default for ProcessLimits {
    /// 16 MiB a line, 2 s and 2 s.
    fn default() -> Self {
        Self {
            max_line: 16 * 1024 * 1024,
            eof_grace: Duration::from_secs(2),
            term_grace: Duration::from_secs(2),
        }
    }
}

/// Why not even the guard started. A command that is missing or not executable is [`Exit::NotStarted`] instead.
#[derive(Debug, Error)]
pub enum SpawnError {
    #[error("a server can be started only inside a runtime")]
    NoRuntime,
    #[error("too many processes: raise the limit (ulimit -u, or the container's pids limit): {0}")]
    TooManyProcesses(#[source] io::Error),
    #[error("too many open files: raise the limit (ulimit -n): {0}")]
    TooManyFiles(#[source] io::Error),
    #[error("the command line and environment of {program:?} are too long: {source}")]
    TooLong { program: String, source: io::Error },
    #[error("the command line or environment of {program:?} holds a NUL byte: {source}")]
    Nul { program: String, source: io::Error },
    #[error("cannot start the guard process {}: {source}", guard.display())]
    Guard { guard: PathBuf, source: io::Error },
    #[error("the guard process was started without pipes")]
    NoPipes,
}

static GUARD_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program whose `guard` command is used; by default this process's own. For a program that does not call
/// [`super::guard_main`] itself, such as a test. Only the first call counts.
pub fn use_guard_program(program: impl Into<PathBuf>) {
    // A second value is ignored by contract.
    let _ = GUARD_PROGRAM.set(program.into());
}

fn guard_program() -> &'static Path {
    GUARD_PROGRAM.get().map_or(Path::new(SELF_EXE), PathBuf::as_path)
}

/// A process just started, and both ends of its conversation.
#[derive(Debug)]
pub struct Started {
    pub process: Process,
    pub stdin: ServerInput,
    pub stdout: LineReader,
}

/// A server and everything below it. Dropping this kills them all at once; their owner reaps them.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    limits: ProcessLimits,
    stderr: StderrTail,
    order: watch::Sender<Order>,
    exit: watch::Receiver<Option<Exit>>,
}

/// What the owner of the guard is to do. A dropped sender means [`Order::Kill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    /// SIGTERM to the server's process group.
    Terminate,
    /// SIGKILL to every descendant.
    Kill,
}

impl Process {
    /// Starts the server under a guard. Returns as soon as the guard runs: whether the command itself could be executed
    /// is told by [`Process::exited`]. See the module's invariant for the thread to call it from.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left behind.
    pub fn spawn(command: &ServerCommand, limits: &ProcessLimits) -> Result<Started, SpawnError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| SpawnError::NoRuntime)?;
        let (mut child, registered) = orphans::register(|| {
            let child = guard_command(command).spawn()?;
            let pid = child.id();
            Ok((child, pid))
        })
        .map_err(|source| spawn_error(command, source))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let guard = Guard {
            child,
            _registered: registered,
        };
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(SpawnError::NoPipes);
        };
        let pid = guard.child.id().unwrap_or_default();

        let tail = StderrTail::default();
        let drain = runtime.spawn(stderr::drain(stderr, pid, tail.clone()));
        let (order, orders) = watch::channel(Order::Run);
        let (exited, exit) = watch::channel(None);
        runtime.spawn(own(
            guard,
            orders,
            exited,
            Drain {
                task: drain,
                tail: tail.clone(),
            },
        ));
        Ok(Started {
            process: Self {
                pid,
                limits: *limits,
                stderr: tail,
                order,
                exit,
            },
            stdin: ServerInput::new(stdin),
            stdout: LineReader::new(stdout, limits.max_line),
        })
    }

    /// The guard's process id; the server is its child.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The last lines of stderr, oldest first.
    #[must_use]
    pub fn stderr_tail(&self) -> Vec<String> {
        self.stderr.lines()
    }

    /// A handle to the last lines of stderr that outlives the process.
    #[must_use]
    pub fn stderr(&self) -> StderrTail {
        self.stderr.clone()
    }

    /// Ends when the server and everything below it is gone, its stderr has been read, and it has been reaped. Does not
    /// keep the process alive. What it wrote to stdout before may still have to be read.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + 'static + use<> {
        let mut exit = self.exit.clone();
        async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.clone().unwrap_or(Exit::Unknown),
                Err(_) => Exit::Unknown,
            }
        }
    }

    /// Stops the server in order: waits `eof_grace` for it to follow the end of its stdin (drop the [`ServerInput`]
    /// before), then SIGTERM and `term_grace`, then kills everything. Dropping the future kills at once.
    pub async fn stop(self) -> Exit {
        let exited = self.exited();
        tokio::pin!(exited);
        if let Ok(exit) = timeout(self.limits.eof_grace, &mut exited).await {
            return exit;
        }
        self.order.send_replace(Order::Terminate);
        if let Ok(exit) = timeout(self.limits.term_grace, &mut exited).await {
            return exit;
        }
        self.order.send_replace(Order::Kill);
        exited.await
    }
}

fn guard_command(server: &ServerCommand) -> Command {
    let mut command = Command::new(guard_program());
    command
        .arg0("mcp-guard")
        .arg("guard")
        .arg("--parent")
        .arg(std::process::id().to_string());
    if let Some(dir) = &server.cwd {
        command.arg("--cwd").arg(dir);
    }
    command
        .arg("--")
        .arg(&server.program)
        .args(&server.args)
        .envs(server.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn spawn_error(command: &ServerCommand, source: io::Error) -> SpawnError {
    let program = command.program.clone();
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => SpawnError::TooManyProcesses(source),
        Some(Errno::MFILE | Errno::NFILE) => SpawnError::TooManyFiles(source),
        Some(Errno::TOOBIG) => SpawnError::TooLong { program, source },
        None if source.kind() == io::ErrorKind::InvalidInput => SpawnError::Nul { program, source },
        _ => SpawnError::Guard {
            guard: guard_program().to_owned(),
            source,
        },
    }
}

/// The guard process as long as it has not been reaped.
#[derive(Debug)]
struct Guard {
    child: Child,
    // Fields are dropped in order: unregistered last.
    _registered: Registered,
}

impl Guard {
    fn signal(&self, signal: Signal) {
        // `id` is `None` once the child has been reaped, and only the owner reaps it.
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(?pid, ?signal, %error, "cannot signal a guard process");
        }
    }
}

impl Drop for Guard {
    /// Also when the runtime is shut down with the owner still waiting.
    fn drop(&mut self) {
        self.signal(Signal::USR1);
    }
}

/// The task that reads stderr; ended with its owner.
struct Drain {
    task: JoinHandle<()>,
    tail: StderrTail,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Owns the guard: carries out orders, reaps it, sweeps what it may have left, then publishes how it ended.
async fn own(
    mut guard: Guard,
    orders: watch::Receiver<Order>,
    exited: watch::Sender<Option<Exit>>,
    mut drain: Drain,
) {
    let status = reap(&mut guard, orders).await;
    drop(guard);
    orphans::sweep().await;
    if timeout(STDERR_LIMIT, &mut drain.task).await.is_err() {
        tracing::warn!("a server's stderr is still open after its end");
    }
    let exit = match status {
        Ok(status) => {
            use std::os::unix::process::ExitStatusExt;
            Exit::from_guard(status.code(), status.signal(), &drain.tail.lines())
        }
        Err(error) => {
            tracing::error!(%error, "cannot wait for a guard process");
            Exit::Unknown
        }
    };
    exited.send_replace(Some(exit));
}

async fn reap(guard: &mut Guard, mut orders: watch::Receiver<Order>) -> io::Result<ExitStatus> {
    loop {
        let order = tokio::select! {
            biased;
            status = guard.child.wait() => return status,
            changed = orders.changed() => changed.map_or(Order::Kill, |()| *orders.borrow_and_update()),
        };
        match order {
            Order::Run => {}
            Order::Terminate => guard.signal(Signal::TERM),
            Order::Kill => break,
        }
    }
    guard.signal(Signal::USR1);
    let deadline = Instant::now() + GUARD_LIMIT;
    tokio::select! {
        status = guard.child.wait() => return status,
        () = sleep_until(deadline) => {}
    }
    // Stopped, or waiting for a process the kernel cannot end. Its server dies with it.
    tracing::error!(
        pid = guard.child.id(),
        "a guard process did not obey and is killed"
    );
    guard.signal(Signal::KILL);
    guard.child.wait().await
}
