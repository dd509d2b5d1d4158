//! The streams of one client that it may come back to, and the bound on what all of them hold.
//!
//! Invariant: bytes and events of all streams of a shelf stay within its limits, except for responses
//! that a reader is waiting for. What goes first is what was already sent: ended streams, oldest first.
//! Locks are taken in one direction only: the shelf's may be held while a stream's is taken, never the
//! other way round (the counters are atomics for that reason).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Stream;

/// Bytes that the streams of one client may hold.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Messages that the streams of one client may hold.
const MAX_EVENTS: usize = 2048;
/// Ended streams that can still be resumed.
const MAX_ENDED: usize = 32;

#[derive(Debug)]
pub(crate) struct Shelf {
    bytes: AtomicUsize,
    events: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last_number: u64,
    streams: BTreeMap<u64, Arc<Stream>>,
}

impl Shelf {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            events: AtomicUsize::new(0),
            kept: Mutex::default(),
        })
    }

    /// The session's standalone stream, number 0: it never ends by itself.
    pub(crate) fn standalone(self: &Arc<Self>) -> Arc<Stream> {
        Stream::standalone(self)
    }

    /// A stream for `calls` requests of one POST.
    pub(crate) fn stream(
        self: &Arc<Self>,
        calls: usize,
        resumable: bool,
        responses_only: bool,
    ) -> Arc<Stream> {
        let number = {
            let mut kept = self.kept.lock();
            kept.last_number += 1;
            kept.last_number
        };
        Stream::new(number, self, calls, resumable, responses_only)
    }

    /// Keeps an event stream within reach of a resume, and lets the oldest ended ones go.
    pub(crate) fn keep(&self, stream: &Arc<Stream>) {
        let mut kept = self.kept.lock();
        kept.streams.insert(stream.number(), Arc::clone(stream));
        let ended = kept.streams.values().filter(|stream| stream.ended()).count();
        for _ in MAX_ENDED..ended {
            kept.take_oldest_ended();
        }
    }

    /// The stream of that number, if it is kept.
    pub(crate) fn find(&self, number: u64) -> Option<Arc<Stream>> {
        self.kept.lock().streams.get(&number).cloned()
    }

    /// All kept streams.
    pub(crate) fn all(&self) -> Vec<Arc<Stream>> {
        self.kept.lock().streams.values().cloned().collect()
    }

    /// Lets all streams go, and ends those that are being read.
    pub(crate) fn clear(&self) {
        let streams = std::mem::take(&mut self.kept.lock().streams);
        for stream in streams.values() {
            stream.abandon();
        }
    }

    /// Frees what has only replay value until `len` more bytes fit. False: they do not.
    pub(super) fn make_room(&self, len: usize) -> bool {
        if self.fits(len) {
            return true;
        }
        let mut kept = self.kept.lock();
        while kept.take_oldest_ended() {
            if self.fits(len) {
                return true;
            }
        }
        for stream in kept.streams.values() {
            stream.shed();
        }
        self.fits(len)
    }

    pub(super) fn charge(&self, len: usize) {
        self.bytes.fetch_add(len, Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refund(&self, len: usize) {
        self.bytes.fetch_sub(len, Ordering::Relaxed);
        self.events.fetch_sub(1, Ordering::Relaxed);
    }

    fn fits(&self, len: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        bytes + len <= MAX_BYTES && self.events.load(Ordering::Relaxed) < MAX_EVENTS
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (
            self.bytes.load(Ordering::Relaxed),
            self.events.load(Ordering::Relaxed),
        )
    }
}

impl Kept {
    fn take_oldest_ended(&mut self) -> bool {
        let oldest = self
            .streams
            .iter()
            .find(|(_, stream)| stream.ended() && !stream.attached());
        let Some(number) = oldest.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(stream) = self.streams.remove(&number) {
            // Somebody may still hold it; what it kept is given back now.
            stream.abandon();
        }
        true
    }
}
