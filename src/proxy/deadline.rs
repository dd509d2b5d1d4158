//! Time limits that Pingora does not have: a first byte by a deadline and an end by a deadline.
//!
//! Pingora's `read_timeout` is the time between two reads, the first included, so it cannot be both "60 s to the
//! head" and "5 min between events", and it has no total at all. None of its hooks runs while it waits for the
//! upstream. So each dispatched request registers here, and one task ends the upstream connection of those that
//! are past a deadline; Pingora then sees its end and asks the proxy what to tell the client.
//!
//! Invariant: an entry lives exactly as long as its [`Watch`]; the descriptor it holds is our own duplicate, so it
//! can never be one that the kernel gave to somebody else meanwhile.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often deadlines are looked at; the precision of every limit.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Requests spread over this many locks, so that none is shared by all of them.
const SHARDS: u64 = 16;

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    FirstByte,
    Total,
}

#[derive(Debug)]
struct Entry {
    first_byte: Option<Instant>,
    total: Instant,
    connection: OwnedFd,
    passed: Arc<AtomicU8>,
}

impl Entry {
    fn passed(&self, now: Instant) -> Option<Passed> {
        if self.first_byte.is_some_and(|at| now >= at) {
            return Some(Passed::FirstByte);
        }
        (now >= self.total).then_some(Passed::Total)
    }
}

type Shard = Mutex<HashMap<u64, Entry>>;

/// The requests that are waiting for an upstream.
#[derive(Debug)]
pub(crate) struct Deadlines {
    next: AtomicU64,
    shards: Vec<Shard>,
}

/// One request's registration; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    deadlines: Arc<Deadlines>,
    id: u64,
    passed: Arc<AtomicU8>,
}

impl Deadlines {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Arc::new(Self {
            next: AtomicU64::new(0),
            shards,
        })
    }

    /// Watches a connection, a duplicate of the one that Pingora uses, until the watch is dropped.
    pub(crate) fn watch(self: &Arc<Self>, connection: OwnedFd, first_byte: Instant, total: Instant) -> Watch {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let passed = Arc::new(AtomicU8::new(0));
        let entry = Entry {
            first_byte: Some(first_byte),
            total,
            connection,
            passed: passed.clone(),
        };
        self.with_shard(id, |shard| shard.insert(id, entry));
        Watch {
            deadlines: self.clone(),
            id,
            passed,
        }
    }

    fn with_shard<R>(&self, id: u64, f: impl FnOnce(&mut HashMap<u64, Entry>) -> R) -> Option<R> {
        // The remainder is below SHARDS, so there always is one.
        let shard = self.shards.get(usize::try_from(id % SHARDS).unwrap_or(0))?;
        Some(f(&mut shard.lock()))
    }

    /// Ends the connections that are past a deadline.
    fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            for entry in shard.lock().values() {
                let Some(passed) = entry.passed(now) else { continue };
                if entry.passed.swap(passed as u8 + 1, Ordering::AcqRel) == 0 {
                    // An error means that the connection has ended by itself.
                    rustix::net::shutdown(&entry.connection, rustix::net::Shutdown::Both).ok();
                }
            }
        }
    }

    /// Looks after the deadlines for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.sweep(Instant::now());
        }
    }
}

impl Watch {
    /// The response's head is here: only the total counts from now on.
    pub(crate) fn head_arrived(&self) {
        self.deadlines.with_shard(self.id, |shard| {
            if let Some(entry) = shard.get_mut(&self.id) {
                entry.first_byte = None;
            }
        });
    }

    /// The limit that ended this request, if one did.
    pub(crate) fn passed(&self) -> Option<Passed> {
        match self.passed.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Passed::FirstByte),
            _ => Some(Passed::Total),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.deadlines.with_shard(self.id, |shard| shard.remove(&self.id));
    }
}

/// A duplicate of a descriptor that Pingora shows to `connected_to_upstream`. `None` when no descriptor is left: the
/// request then runs with Pingora's own time between reads alone.
///
/// Must be called from within that hook, with the descriptor it was given.
#[allow(unsafe_code)] // docs/decisions/0001 says why.
pub(crate) fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    if fd < 0 {
        return None;
    }
    // SAFETY: Pingora owns the descriptor and holds the connection open across the hook, which is the only caller
    // and does not await; the borrow ends before this function returns.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    borrowed.as_fd().try_clone_to_owned().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn watched(first_byte: u64, total: u64) -> (Arc<Deadlines>, Watch, UnixStream, Instant) {
        let deadlines = Deadlines::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let watch = deadlines.watch(duplicate(ours.as_raw_fd()).unwrap(), at(first_byte), at(total));
        (deadlines, watch, theirs, start)
    }

    #[test]
    fn a_missed_first_byte_ends_the_connection() {
        let (deadlines, watch, mut theirs, start) = watched(5, 60);
        deadlines.sweep(start + Duration::from_secs(4));
        assert_eq!(watch.passed(), None);
        deadlines.sweep(start + Duration::from_secs(5));
        assert_eq!(watch.passed(), Some(Passed::FirstByte));
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn after_the_head_only_the_total_counts() {
        let (deadlines, watch, _theirs, start) = watched(5, 60);
        watch.head_arrived();
        deadlines.sweep(start + Duration::from_secs(59));
        assert_eq!(watch.passed(), None);
        deadlines.sweep(start + Duration::from_secs(60));
        assert_eq!(watch.passed(), Some(Passed::Total));
    }

    #[test]
    fn an_ended_request_leaves_nothing_behind() {
        let (deadlines, watch, _theirs, _) = watched(5, 60);
        drop(watch);
        assert!(deadlines.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
