//! The hidden `guard` command: a small process between the sidecar and the server that lets nothing escape.
//!
//! Problem: the sidecar may be killed with SIGKILL at any moment, and then nobody kills the server's grandchildren;
//! children that call `setsid` and fork twice leave every process group. A guard that is their subreaper can always
//! find them, and the kernel tells it when the sidecar is gone.
//!
//! Invariant: when the guard exits, no descendant of it is left, alive or as a zombie (but for what the kernel itself
//! cannot end within [`KILL_LIMIT`]).
//!
//! | signal | meaning |
//! |---|---|
//! | SIGTERM, SIGINT, SIGHUP | passed on to the server's process group |
//! | SIGUSR1 | kill every descendant now; also the parent-death signal, so it needs no second path |
//! | SIGCHLD | reap; if it was the server: kill what is left and exit with its status |
//!
//! Signals are awaited with `signal-hook` and a blocking read in the only thread: no runtime, no timer, nothing to do
//! while idle. (A current-thread tokio runtime would do the same with four more descriptors and about 100 KiB more.)

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, setsid, wait,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use thiserror::Error;

use super::exec::{Target, become_server};
use super::exit::{GUARD_FAILED, GUARD_PREFIX, SIGNAL_BASE};
use super::proctree::kill_own_descendants;

/// How long the guard tries to kill its descendants. Only a process inside an uninterruptible system call lasts longer.
pub const KILL_LIMIT: Duration = Duration::from_secs(5);

/// First pause between two passes of killing; doubled up to [`MAX_PAUSE`]. A killed process is gone within microseconds.
const MIN_PAUSE: Duration = Duration::from_micros(200);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// The guard's own program: the kernel's link, which stays right when the file is replaced by an upgrade.
pub(super) const SELF_EXE: &str = "/proc/self/exe";

#[derive(Debug, Error)]
enum GuardError {
    #[error("{0}; usage: guard --parent PID [--cwd DIR] -- COMMAND [ARGS]")]
    Usage(&'static str),
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl GuardError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

#[derive(Debug)]
enum Role {
    /// Start the server and watch over it.
    Watch,
    /// Become the server.
    Exec,
}

#[derive(Debug)]
struct GuardArgs {
    role: Role,
    parent: Pid,
    target: Target,
}

/// The hidden command. `args` are the arguments behind `guard`. Call it before anything else in `main`: no thread may
/// have been started, and no command line parser is needed.
///
/// Exit status: the server's; 128 + signal when a signal ended it; 127 command not found, 126 it cannot be executed,
/// 125 the guard itself failed, each with one line on stderr that starts with [`GUARD_PREFIX`].
pub fn guard_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome = GuardArgs::parse(args).and_then(|args| match args.role {
        Role::Watch => watch(&args),
        Role::Exec => {
            let error = become_server(args.parent, args.target);
            complain(&error);
            Ok(error.code())
        }
    });
    ExitCode::from(outcome.unwrap_or_else(|error| {
        complain(&error);
        GUARD_FAILED
    }))
}

fn complain(error: &dyn std::fmt::Display) {
    use std::io::Write;
    // Nothing is left to tell it to when stderr is closed.
    let _ = writeln!(io::stderr(), "{GUARD_PREFIX}{error}");
}

impl GuardArgs {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, GuardError> {
        let (mut role, mut parent, mut cwd) = (Role::Watch, None, None);
        loop {
            let Some(arg) = args.next() else {
                return Err(GuardError::Usage("no command"));
            };
            match arg.to_str() {
                Some("--exec") => role = Role::Exec,
                Some("--parent") => {
                    parent = args
                        .next()
                        .and_then(|value| value.to_str()?.parse().ok().filter(|raw| *raw > 0))
                        .and_then(Pid::from_raw);
                }
                Some("--cwd") => cwd = args.next().map(PathBuf::from),
                Some("--") => break,
                _ => return Err(GuardError::Usage("unknown argument")),
            }
        }
        let Some(parent) = parent else {
            return Err(GuardError::Usage("no parent pid"));
        };
        let Some(program) = args.next() else {
            return Err(GuardError::Usage("no command"));
        };
        Ok(Self {
            role,
            parent,
            target: Target {
                program,
                args: args.collect(),
                cwd,
            },
        })
    }
}

/// Starts the server and returns its exit status as the guard's, with every descendant gone.
fn watch(args: &GuardArgs) -> Result<u8, GuardError> {
    // Handlers come first: until here each of these signals simply ends the guard, which has no child yet.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD])
        .map_err(GuardError::system("install signal handlers"))?;
    // For `ps`; exec by way of /proc would leave the name "exe".
    let _ = rustix::thread::set_name(c"mcp-guard");
    // Own session: a terminal's Ctrl-C or hang-up is for the sidecar to answer, and a server that would ask for a
    // password on /dev/tty fails at once instead of waiting for ever. It fails only for a group leader, which has what
    // is needed already.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))
        .map_err(|error| GuardError::system("become subreaper")(error.into()))?;
    let kill_now = Signal::USR1;
    set_parent_process_death_signal(Some(kill_now))
        .map_err(|error| GuardError::system("set the parent-death signal")(error.into()))?;
    // A parent that died before the line above sent no signal.
    if getppid() != Some(args.parent) {
        return Ok(GUARD_FAILED);
    }
    let server = start_server(&args.target)?;
    if let Err(error) = let_go_of_pipes() {
        kill_all(server, None);
        return Err(error);
    }
    for signal in signals.forever() {
        match signal {
            SIGCHLD => {
                if let Reaped {
                    server: Some(status), ..
                } = reap(server)
                {
                    return Ok(exit_code(kill_all(server, Some(status))));
                }
            }
            SIGUSR1 => return Ok(exit_code(kill_all(server, None))),
            other => {
                if let Some(signal) = Signal::from_named_raw(other) {
                    // The server has not been reaped, so its pid, which is the group's id, is still its own.
                    let _ = kill_process_group(server, signal);
                }
            }
        }
    }
    Err(GuardError::Usage("the signal stream ended"))
}

fn start_server(target: &Target) -> Result<Pid, GuardError> {
    let mut command = Command::new(SELF_EXE);
    command
        .arg0("mcp-guard")
        .args(["guard", "--exec", "--parent"])
        .arg(getpid().to_string());
    if let Some(dir) = &target.cwd {
        command.arg("--cwd").arg(dir);
    }
    command
        .arg("--")
        .arg(&target.program)
        .args(&target.args)
        .process_group(0);
    let child = command
        .spawn()
        .map_err(GuardError::system("start the server process"))?;
    // `Child` neither kills nor waits when dropped: `reap` does both for it and for everything else.
    Ok(Pid::from_child(&child))
}

/// Gives up the guard's copies of the server's stdin and stdout, so that the server sees end of file when the sidecar
/// closes its end, and the sidecar when the server does.
fn let_go_of_pipes() -> Result<(), GuardError> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(GuardError::system("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .map_err(|error| GuardError::system("let go of the server's pipes")(error.into()))
}

/// What one round of reaping found.
struct Reaped {
    /// The server's status, if it was among the dead.
    server: Option<WaitStatus>,
    /// No child is left at all, alive or dead.
    none_left: bool,
}

/// Reaps every dead child there is now, the server and adopted orphans alike.
fn reap(server: Pid) -> Reaped {
    let mut found = Reaped {
        server: None,
        none_left: false,
    };
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == server => found.server = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return found,
            Err(_) => {
                found.none_left = true;
                return found;
            }
        }
    }
}

/// Kills and reaps descendants until none is left, within [`KILL_LIMIT`]. Returns the server's status.
fn kill_all(server: Pid, mut status: Option<WaitStatus>) -> Option<WaitStatus> {
    let deadline = Instant::now() + KILL_LIMIT;
    let mut pause = MIN_PAUSE;
    loop {
        let reaped = reap(server);
        status = status.or(reaped.server);
        if reaped.none_left {
            return status;
        }
        if Instant::now() >= deadline {
            complain(&"some processes of the server could not be killed in time");
            return status;
        }
        // A pass that fails (no memory, no descriptor) is tried again until the deadline.
        let _ = kill_own_descendants();
        std::thread::sleep(pause);
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The shell's convention: a server ended by signal n is 128 + n.
fn exit_code(status: Option<WaitStatus>) -> u8 {
    let code = status.and_then(|status| {
        status
            .exit_status()
            .or_else(|| status.terminating_signal().map(|signal| SIGNAL_BASE + signal))
    });
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(GUARD_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<GuardArgs, String> {
        GuardArgs::parse(args.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_the_command_behind_the_separator() {
        let args = parse(&["--parent", "7", "--cwd", "/tmp", "--", "sh", "-c", "--", "x"]).unwrap();
        assert_eq!(args.parent.as_raw_nonzero().get(), 7);
        assert_eq!(args.target.cwd, Some(PathBuf::from("/tmp")));
        assert_eq!(args.target.program, "sh");
        assert_eq!(args.target.args, ["-c", "--", "x"]);
        assert!(matches!(args.role, Role::Watch));
        assert!(matches!(
            parse(&["--exec", "--parent", "7", "--", "sh"]).unwrap().role,
            Role::Exec
        ));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for wrong in [
            &[][..],
            &["--parent", "7"],
            &["--parent", "7", "--"],
            &["--parent", "x", "--", "sh"],
            &["--parent", "-1", "--", "sh"],
            &["--parent", "0", "--", "sh"],
            &["--", "sh"],
            &["sh"],
        ] {
            assert!(parse(wrong).unwrap_err().contains("usage: guard"), "{wrong:?}");
        }
    }
}
