//! How the edge leaves. Pingora's own graceful stop sleeps its whole grace period even when nothing is under way,
//! and cuts what still runs at its end; so the edge drains by itself and only then tells Pingora to stop.
//!
//! Stages: `Starting` (the public listener is not bound yet) → `Serving` → `Draining` (readiness fails, new requests get 503 `draining`, requests under way finish,
//! streams are ended through their sidecars) → `Stopped`, as soon as nothing is under way, at most `edge.drain` later.
//! Invariant: the stage only moves forward, and a request counts as under way from its first hook to the drop of
//! its context, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Where the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Starting,
    Serving,
    Draining,
    Stopped,
}

#[derive(Debug)]
struct Inner {
    stage: watch::Sender<Stage>,
    under_way: AtomicUsize,
    idle: Notify,
}

/// Shared by the proxy (which counts), the signal task (which drains) and the health listener (which tells).
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Inner>);

/// One request under way; dropping it is its end.
#[derive(Debug)]
pub struct UnderWay(Arc<Inner>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        let (stage, _) = watch::channel(Stage::Starting);
        Self(Arc::new(Inner {
            stage,
            under_way: AtomicUsize::new(0),
            idle: Notify::new(),
        }))
    }
}

impl Shutdown {
    /// Counts a request until the guard is dropped.
    #[must_use]
    pub fn begin(&self) -> UnderWay {
        self.0.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay(self.0.clone())
    }

    #[must_use]
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.0.stage.borrow()
    }

    /// Returns once the stage is `stage` or later.
    pub async fn reached(&self, stage: Stage) {
        let mut seen = self.0.stage.subscribe();
        // The sender lives in `self`, so this cannot fail while we wait.
        seen.wait_for(|now| *now >= stage).await.ok();
    }

    /// The public listener takes connections.
    pub fn serving(&self) {
        self.advance(Stage::Serving);
    }

    /// Refuses new requests from now on.
    pub fn drain(&self) {
        self.advance(Stage::Draining);
    }

    /// Waits until nothing is under way, at most `limit`; returns how many requests were cut.
    pub async fn drained(&self, limit: Duration) -> usize {
        let idle = async {
            loop {
                let notified = self.0.idle.notified();
                if self.under_way() == 0 {
                    return;
                }
                notified.await;
            }
        };
        // The count is read again: the last request may end just as the limit passes.
        tokio::time::timeout(limit, idle)
            .await
            .map_or_else(|_| self.under_way(), |()| 0)
    }

    /// Lets Pingora stop.
    pub fn stop(&self) {
        self.advance(Stage::Stopped);
    }

    fn advance(&self, to: Stage) {
        self.0.stage.send_if_modified(|now| {
            let forward = *now < to;
            if forward {
                *now = to;
            }
            forward
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leaves_as_soon_as_the_last_request_ends() {
        let shutdown = Shutdown::default();
        let request = shutdown.begin();
        let start = tokio::time::Instant::now();
        let ends = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(request);
        };
        let (cut, ()) = tokio::join!(shutdown.drained(Duration::from_secs(30)), ends);
        assert_eq!((cut, start.elapsed()), (0, Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_no_longer_than_the_limit_and_says_what_it_cut() {
        let shutdown = Shutdown::default();
        let _stream = shutdown.begin();
        assert_eq!(shutdown.drained(Duration::from_secs(5)).await, 1);
    }

    #[tokio::test]
    async fn stages_only_move_forward() {
        let shutdown = Shutdown::default();
        shutdown.stop();
        shutdown.drain();
        assert_eq!(shutdown.stage(), Stage::Stopped);
        shutdown.reached(Stage::Draining).await;
    }
}
