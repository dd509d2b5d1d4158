//! Permits: what a request holds while it is under way, given back by `Drop` alone.
//!
//! A request leaves the proxy in many ways (answered, refused, client gone, panic, runtime dropped),
//! and only some of them call a hook. So nothing is ever released by a hook: a filter puts a guard
//! into [`Permits`], and the guard's `Drop` gives the resource back on every path.
//!
//! Invariant: [`PermitCounts`] shows exactly the guards that are alive; idle means all zero.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a guard stands for, for the operator's view of permits held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PermitKind {
    /// A unit of a client's concurrency.
    Concurrency,
    /// A unit of a client's pool of long-lived streams.
    Stream,
    /// A request that passed the circuit breaker and has not reported yet.
    Breaker,
    /// A slot of a service.
    Slot,
}

impl PermitKind {
    /// Every kind, in the order of [`PermitCounts::snapshot`].
    pub const ALL: [Self; 4] = [Self::Concurrency, Self::Stream, Self::Breaker, Self::Slot];

    /// The name in the operator's view.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Stream => "stream",
            Self::Breaker => "breaker",
            Self::Slot => "slot",
        }
    }
}

/// A guard that gives something back when it is dropped.
pub trait Permit: Any + Send + Sync {
    /// What it stands for.
    fn kind(&self) -> PermitKind;
}

/// How many guards of each kind are alive, over all requests. One per edge, shared.
#[derive(Debug, Default)]
pub struct PermitCounts([AtomicUsize; 4]);

impl PermitCounts {
    fn of(&self, kind: PermitKind) -> &AtomicUsize {
        let [concurrency, stream, breaker, slot] = &self.0;
        match kind {
            PermitKind::Concurrency => concurrency,
            PermitKind::Stream => stream,
            PermitKind::Breaker => breaker,
            PermitKind::Slot => slot,
        }
    }

    /// Guards alive, by kind.
    pub fn snapshot(&self) -> [(PermitKind, usize); 4] {
        PermitKind::ALL.map(|kind| (kind, self.of(kind).load(Ordering::Relaxed)))
    }
}

/// The guards of one request, dropped with it, last taken first.
#[derive(Default)]
pub struct Permits {
    held: Vec<Box<dyn Permit>>,
    counts: Arc<PermitCounts>,
}

impl Permits {
    /// An empty set that counts into `counts`.
    pub fn new(counts: Arc<PermitCounts>) -> Self {
        Self {
            held: Vec::new(),
            counts,
        }
    }

    /// Holds `permit` until the request ends or it is released.
    pub fn hold(&mut self, permit: impl Permit) {
        self.counts.of(permit.kind()).fetch_add(1, Ordering::Relaxed);
        self.held.push(Box::new(permit));
    }

    /// The guard of type `T`, if the request holds one.
    pub fn get<T: Permit>(&self) -> Option<&T> {
        self.held
            .iter()
            .find_map(|permit| (permit.as_ref() as &dyn Any).downcast_ref())
    }

    /// Gives back every guard of `kind` now, before the request ends.
    pub fn release(&mut self, kind: PermitKind) {
        let counts = &self.counts;
        self.held.retain(|permit| {
            let keep = permit.kind() != kind;
            if !keep {
                counts.of(kind).fetch_sub(1, Ordering::Relaxed);
            }
            keep
        });
    }

    /// Number of guards held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        // What was taken last depends on what was taken before: a slot goes back before the
        // concurrency that allowed to ask for it.
        while let Some(permit) = self.held.pop() {
            self.counts.of(permit.kind()).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    struct Guard(PermitKind, Arc<Mutex<Vec<PermitKind>>>);
    impl Permit for Guard {
        fn kind(&self) -> PermitKind {
            self.0
        }
    }
    impl Drop for Guard {
        fn drop(&mut self) {
            self.1.lock().push(self.0);
        }
    }

    #[test]
    fn guards_are_counted_and_dropped_last_first() {
        let counts = Arc::new(PermitCounts::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut permits = Permits::new(Arc::clone(&counts));
        permits.hold(Guard(PermitKind::Concurrency, Arc::clone(&log)));
        permits.hold(Guard(PermitKind::Slot, Arc::clone(&log)));
        assert_eq!(counts.snapshot()[0], (PermitKind::Concurrency, 1));
        assert!(permits.get::<Guard>().is_some());
        drop(permits);
        assert_eq!(*log.lock(), [PermitKind::Slot, PermitKind::Concurrency]);
        assert!(counts.snapshot().iter().all(|(_, n)| *n == 0));
    }

    #[test]
    fn a_kind_can_be_given_back_early_and_only_once() {
        let counts = Arc::new(PermitCounts::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut permits = Permits::new(Arc::clone(&counts));
        permits.hold(Guard(PermitKind::Slot, Arc::clone(&log)));
        permits.release(PermitKind::Slot);
        permits.release(PermitKind::Slot);
        assert!(permits.is_empty());
        drop(permits);
        assert_eq!(log.lock().len(), 1);
        assert_eq!(counts.snapshot()[3], (PermitKind::Slot, 0));
    }
}
