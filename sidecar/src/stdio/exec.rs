//! The guard's child on its way to become the server.
//!
//! Problem: the parent-death signal, the check that goes with it, and the closing of inherited descriptors must happen
//! inside the new process, between fork and exec. Doing that after an exec of our own program, and then exec'ing the
//! server in place, needs no code in a forked copy of the guard.
//!
//! Invariant: the server starts with SIGKILL as its parent-death signal, descriptors 0, 1 and 2 only, and the pid the
//! guard knows; or it does not start and the reason is one line on stderr with [`GUARD_PREFIX`].

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use thiserror::Error;

use super::exit::{CANNOT_EXECUTE, GUARD_FAILED, NOT_FOUND};

/// What to become.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) cwd: Option<PathBuf>,
}

/// Why the server did not start.
#[derive(Debug, Error)]
pub(super) enum ExecError {
    #[error("command not found: {program:?}{}: {source}", in_dir(.cwd))]
    NotFound {
        program: OsString,
        cwd: Option<PathBuf>,
        source: io::Error,
    },
    #[error(
        "cannot execute {program:?}{}: the file is there, but the interpreter or loader it names is not: {source}",
        in_dir(.cwd)
    )]
    NoInterpreter {
        program: OsString,
        cwd: Option<PathBuf>,
        source: io::Error,
    },
    #[error("cannot execute {program:?}{}: {source}", in_dir(.cwd))]
    CannotExecute {
        program: OsString,
        cwd: Option<PathBuf>,
        source: io::Error,
    },
    #[error("cannot start {program:?}: working directory {cwd:?}: {source}")]
    Cwd {
        program: OsString,
        cwd: PathBuf,
        source: io::Error,
    },
    #[error("cannot set the parent-death signal: {0}")]
    DeathSignal(#[source] io::Error),
    #[error("the guard was gone before the server started")]
    GuardGone,
    #[error("cannot close inherited descriptors: {0}")]
    Descriptors(#[source] io::Error),
}

impl ExecError {
    /// Exit status by the shell's convention (POSIX, XCU 2.8.2): 127 not found, 126 cannot be executed.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => NOT_FOUND,
            Self::NoInterpreter { .. } | Self::CannotExecute { .. } | Self::Cwd { .. } => CANNOT_EXECUTE,
            Self::DeathSignal(_) | Self::GuardGone | Self::Descriptors(_) => GUARD_FAILED,
        }
    }
}

fn in_dir(cwd: &Option<PathBuf>) -> String {
    cwd.as_ref()
        .map(|dir| format!(" (in {dir:?})"))
        .unwrap_or_default()
}

/// Becomes the server; returns only if that failed. A relative program path and PATH are taken as the server would
/// see them: after the change of directory and with the server's environment.
pub(super) fn become_server(guard: Pid, target: Target) -> ExecError {
    // Kept across exec, unlike handlers: prctl(2), PR_SET_PDEATHSIG.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return ExecError::DeathSignal(error.into());
    }
    // A guard that died before the line above sent no signal.
    if getppid() != Some(guard) {
        return ExecError::GuardGone;
    }
    if let Err(error) = close_inherited_on_exec() {
        return ExecError::Descriptors(error);
    }
    let Target { program, args, cwd } = target;
    if let Some(dir) = &cwd
        && let Err(source) = std::env::set_current_dir(dir)
    {
        return ExecError::Cwd {
            program,
            cwd: dir.clone(),
            source,
        };
    }
    let source = Command::new(&program).args(args).exec();
    if source.kind() != io::ErrorKind::NotFound {
        ExecError::CannotExecute { program, cwd, source }
    } else if program.as_encoded_bytes().contains(&b'/') && fs::metadata(&program).is_ok() {
        ExecError::NoInterpreter { program, cwd, source }
    } else {
        ExecError::NotFound { program, cwd, source }
    }
}

/// Marks every descriptor above 2 close-on-exec. Ours all are; what the sidecar's own parent left open (a shell's
/// `3<file`, a supervisor's socket) is not, and the server has no business with it.
fn close_inherited_on_exec() -> io::Result<()> {
    // Collected first: the listing itself holds a descriptor, which is closed again before the loop.
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The workspace's one exception to "no unsafe", for the child's start: no safe call names a descriptor that
        // was inherited as a bare number. SAFETY: this process has one thread, so a descriptor that was listed is
        // still open or (the listing's own) closed with nothing opened since; the borrow ends with the statement, and
        // setting a flag on a wrong or closed number frees and reuses nothing (EBADF).
        #[allow(unsafe_code)]
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        match rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC) {
            Ok(()) | Err(rustix::io::Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
