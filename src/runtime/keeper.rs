//! Keeps one replica of a service: starts it, follows it, starts it again after it failed, ends it when told to.

use std::sync::Arc;
use std::time::Duration;

use mcp_sidecar::stdio::Backoff;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::supervisor::Shared;
use super::{Change, Failure, Replica, Runtime};
use crate::config::Service;
use crate::upstream::{Endpoint, Pool, check, random};

/// Time for a replica's requests to end before it is restarted, if another one serves meanwhile.
const DRAIN: Duration = Duration::from_secs(10);

/// How often a draining replica is asked whether it is idle.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Time for a sidecar that is restarted to leave.
const RESTART_GRACE: Duration = Duration::from_secs(5);

/// How to give orders to the keeper of one replica.
#[derive(Debug, Default)]
pub(super) struct Orders {
    restart: Notify,
    /// Verdicts on the replica so far: one for each of its lives.
    verdicts: watch::Sender<u64>,
}

impl Orders {
    /// Has the replica restarted, and waits for the verdict on its new life.
    pub(super) async fn restart(&self) {
        let mut verdicts = self.verdicts.subscribe();
        let before = *verdicts.borrow_and_update();
        self.restart.notify_one();
        // The sender is `self`, so this ends only with a verdict.
        let _ = verdicts.wait_for(|count| *count > before).await;
    }

    fn judged(&self) {
        self.verdicts.send_modify(|count| *count += 1);
    }
}

/// What keeps one replica.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) service: Arc<Service>,
    pub(super) pool: Arc<Pool>,
    pub(super) replica: u32,
    pub(super) orders: Arc<Orders>,
}

/// How a life of a replica ended.
enum End {
    /// By itself.
    Failed(Failure),
    /// It was told to, to be started again.
    Restart,
    /// It was told to, for good.
    Stopped,
}

impl Keeper {
    /// Runs until all stops.
    pub(super) async fn keep(self) {
        let mut backoff = Backoff::new(random::u64());
        while let Some(permit) = self.wait_for_turn().await {
            let began = Instant::now();
            let Failure { mut reason, stderr } = match self.live(permit).await {
                End::Stopped => return,
                End::Restart => continue,
                End::Failed(failure) => failure,
            };
            let again = backoff.on_exit(began.elapsed(), std::time::Instant::now());
            if let Some(verdict) = again.crash_loop {
                reason = format!("{reason} ({verdict})");
            }
            tracing::warn!(
                service = %self.service.name, replica = self.replica, reason, again_in = ?again.delay,
                "replica failed"
            );
            self.pool.replica_failed(self.replica, reason, stderr);
            self.orders.judged();
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = tokio::time::sleep(again.delay) => {}
                () = self.orders.restart.notified() => {}
            }
        }
    }

    /// `Some` when the replica may start, with the right to load the machine if it needs that.
    async fn wait_for_turn(&self) -> Option<Option<OwnedSemaphorePermit>> {
        if !self.runtime.start_is_costly() {
            return (!self.shared.stop.is_cancelled()).then_some(None);
        }
        let turn = Arc::clone(&self.shared.starts).acquire_owned();
        // The semaphore is never closed.
        self.shared.stop.run_until_cancelled(turn).await.map(Result::ok)
    }

    /// One life of the replica.
    async fn live(&self, permit: Option<OwnedSemaphorePermit>) -> End {
        let start = self.runtime.start(&self.service, self.replica);
        match self.shared.stop.run_until_cancelled(start).await {
            None => End::Stopped,
            Some(Ok(replica)) => self.attend(replica, permit).await,
            Some(Err(error)) => End::Failed(Failure {
                reason: error.to_string(),
                stderr: Vec::new(),
            }),
        }
    }

    /// Follows a started replica to its end. `permit` is given back with the first verdict on it.
    async fn attend(&self, mut replica: Box<dyn Replica>, mut permit: Option<OwnedSemaphorePermit>) -> End {
        let mut on_trial: Option<Arc<Endpoint>> = None;
        loop {
            let verdict = async {
                match &on_trial {
                    Some(endpoint) => endpoint.verdict().await,
                    None => std::future::pending().await,
                }
            };
            let change = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {
                    // Out of the pool first, so that no request runs into it.
                    self.pool.replica_stopped(self.replica);
                    replica.stop(self.shared.grace()).await;
                    return End::Stopped;
                }
                change = replica.change() => change,
                () = verdict => {
                    on_trial = None;
                    drop(permit.take());
                    self.orders.judged();
                    continue;
                }
                () = self.orders.restart.notified() => {
                    self.drain().await;
                    self.pool.replica_stopped(self.replica);
                    replica.stop(RESTART_GRACE.min(self.shared.grace())).await;
                    return End::Restart;
                }
            };
            match change {
                Change::Up(spec) => {
                    let endpoint = self.pool.join(self.replica, spec);
                    let path = self.service.health_check_path.as_str().into();
                    let pool = Arc::clone(&self.pool);
                    let checks = check::watch(pool, Arc::clone(&endpoint), path, self.shared.options.health);
                    self.shared.tasks.spawn(checks);
                    on_trial.get_or_insert(endpoint);
                }
                Change::Down(addr) => self.pool.leave(self.replica, &addr),
                Change::Failed(reason) => {
                    tracing::warn!(service = %self.service.name, replica = self.replica, reason, "replica failed");
                    self.pool.replica_unavailable(self.replica, reason);
                    self.orders.judged();
                }
                Change::Ended(failure) => return End::Failed(failure),
            }
        }
    }

    /// Lets the replica's requests end, as long as another replica takes the new ones.
    async fn drain(&self) {
        let idle = async {
            while self.pool.drain(self.replica) > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        let limited = tokio::time::timeout(DRAIN, idle);
        // Whichever ends the wait, the replica goes.
        let _ = self.shared.stop.run_until_cancelled(limited).await;
    }
}
