//! What the sidecar adopts when a guard itself is killed.
//!
//! Problem: SIGKILL to a guard ends its server (by the server's parent-death signal) but not the server's children;
//! they are handed to the next subreaper, or to init if there is none.
//!
//! Invariant: while an [`Adoption`] lives, this process is a subreaper, every child of it that is not a guard is an
//! orphan of a server, and is killed and reaped when a guard's end is noticed. A program that starts children of its
//! own must therefore not adopt.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::proctree::{kill_below, snapshot};

/// Pids of the guards that have not been reaped; as many as there are [`super::Process`]es.
static GUARDS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static ADOPTING: AtomicBool = AtomicBool::new(false);

/// How long one sweep tries; only a process inside an uninterruptible system call lasts longer.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);
const SWEEP_PAUSE: Duration = Duration::from_millis(2);

/// Makes this process the adopter of servers' orphans, as long as it lives.
#[derive(Debug)]
#[must_use = "orphans are adopted only while this is kept"]
pub struct Adoption {
    reaper: JoinHandle<()>,
}

impl Drop for Adoption {
    fn drop(&mut self) {
        ADOPTING.store(false, Ordering::Release);
        self.reaper.abort();
    }
}

/// Becomes subreaper and starts the reaping of adopted zombies. Call once, inside the runtime, from a program whose
/// only children are guards (see the module's invariant): the sidecar does.
///
/// # Errors
/// The operating system refused the subreaper role or the SIGCHLD handler.
pub fn adopt() -> io::Result<Adoption> {
    let mut deaths = signal(SignalKind::child())?;
    set_child_subreaper(Some(getpid()))?;
    ADOPTING.store(true, Ordering::Release);
    let reaper = tokio::spawn(async move {
        // As the first process of a container the sidecar also inherits what others leave behind: reap it, no more.
        while deaths.recv().await.is_some() {
            sweep_once(Living::Spare);
        }
    });
    Ok(Adoption { reaper })
}

/// Runs `start` and keeps the pid it returns from being taken for an orphan's. A sweep on another thread cannot come
/// between the birth of the guard and its registration.
pub(super) fn register<T, E>(
    start: impl FnOnce() -> Result<(T, Option<u32>), E>,
) -> Result<(T, Registered), E> {
    let mut guards = GUARDS.lock();
    let (value, pid) = start()?;
    guards.extend(pid);
    Ok((value, Registered { pid }))
}

/// A guard that is known. Drop it after the guard has been reaped.
#[derive(Debug)]
pub(super) struct Registered {
    pid: Option<u32>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        GUARDS.lock().retain(|pid| Some(*pid) != self.pid);
    }
}

/// Kills and reaps adopted processes until none is left; nothing if this process does not adopt.
pub(super) async fn sweep() {
    if !ADOPTING.load(Ordering::Acquire) {
        return;
    }
    let deadline = Instant::now() + SWEEP_LIMIT;
    loop {
        let left = sweep_once(Living::Kill);
        if left == 0 {
            return;
        }
        if Instant::now() >= deadline {
            tracing::warn!(left, "orphans of a server could not be killed");
            return;
        }
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Living {
    Kill,
    Spare,
}

/// One pass over this process's children: reaps adopted zombies, kills adopted living ones and all below them.
/// Returns how many living ones there were.
fn sweep_once(living: Living) -> usize {
    // Held over the scan, never over an await: no guard can be born while the children are looked at.
    let guards = GUARDS.lock();
    let all = match snapshot() {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "cannot read /proc to look for orphans");
            return 0;
        }
    };
    let own = getpid().as_raw_nonzero().get();
    let is_guard = |pid: Pid| {
        guards
            .iter()
            .any(|guard| i64::from(*guard) == i64::from(pid.as_raw_nonzero().get()))
    };
    let mut left = 0;
    for orphan in all
        .iter()
        .filter(|proc| proc.parent == own && !is_guard(proc.pid))
    {
        if orphan.zombie {
            // By pid, never "any child": guards are reaped by their owners.
            let _ = waitpid(Some(orphan.pid), WaitOptions::NOHANG);
        } else if living == Living::Kill {
            left += 1;
            let _ = kill_process(orphan.pid, Signal::KILL);
            kill_below(&all, orphan.pid);
        }
    }
    left
}
