//! Keeps every replica of every service running, and stops them all.
//!
//! Policy lives here and nowhere else: a few costly starts at a time, because twenty servers that start at once are all
//! too slow for their clients; a dead replica is replaced after a delay that grows until one has stayed up for a while;
//! a service that cannot start is its own problem. Invariant: every task belongs to the [`Supervisor`] and ends with it,
//! and no sidecar is left when [`Supervisor::stop_all`] returns.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use http::Method;
use mcp_sidecar::stdio::Backoff;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;


use super::fixed::FixedRuntime;
use super::process::{ProcessRuntime, SidecarProgram};
use super::{Change, Failure, Replica, Runtime};
use crate::config::{Config, Service, ServiceRuntime};
use crate::upstream::check;
use crate::upstream::exchange::exchange;
use crate::upstream::random;
use crate::upstream::{Endpoint, HealthTiming, Pool, Pools};

/// Time for a sidecar to leave when the supervisor is dropped without [`Supervisor::stop_all`].
const DROP_GRACE: Duration = Duration::from_secs(5);

/// Time beyond the deadline for killed processes to be gone.
const KILL_TIME: Duration = Duration::from_secs(5);

/// Time for a sidecar to take the order to end its streams.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);

/// Knobs that no configuration has; the defaults are right outside tests.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Active checks.
    pub health: HealthTiming,
    /// Sidecars that may start at once.
    pub starts: usize,
    /// How often the names of `upstreams` are resolved.
    pub resolve_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            health: HealthTiming::default(),
            starts: 4,
            resolve_every: Duration::from_secs(5),
        }
    }
}

/// The owner of all sidecars and of everything that watches endpoints.
#[derive(Debug)]
pub struct Supervisor {
    pools: Arc<Pools>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    starts: Arc<Semaphore>,
    tasks: TaskTracker,
    /// The edge is about to end: nothing is started any more, what runs goes on.
    shutdown: CancellationToken,
    /// Everything ends, at the latest at `deadline`.
    stop: CancellationToken,
    deadline: OnceLock<Instant>,
}

impl Supervisor {
    /// Starts every service of `config` and keeps `pools` up to date. Returns at once; call from within a runtime that
    /// lives as long as the supervisor.
    ///
    /// After `shutdown` nothing is started again, but sidecars run on until [`Supervisor::stop_all`].
    pub fn start(
        config: &Config,
        pools: Arc<Pools>,
        program: SidecarProgram,
        options: Options,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            options,
            starts: Arc::new(Semaphore::new(options.starts.max(1))),
            tasks: TaskTracker::new(),
            shutdown,
            stop: CancellationToken::new(),
            deadline: OnceLock::new(),
        });
        let fixed: Arc<dyn Runtime> = Arc::new(FixedRuntime::new(options.resolve_every));
        let process = process_runtime(config, program, &shared);
        for service in config.services.values() {
            let Some(pool) = pools.get(&service.name) else {
                continue;
            };
            let runtime = match &service.runtime {
                ServiceRuntime::Process { .. } => process.clone(),
                ServiceRuntime::Fixed { .. } => Ok(Arc::clone(&fixed)),
            };
            for replica in pool.replicas() {
                match &runtime {
                    Ok(runtime) => {
                        let keeper = Keeper {
                            shared: Arc::clone(&shared),
                            runtime: Arc::clone(runtime),
                            service: Arc::clone(service),
                            pool: Arc::clone(pool),
                            replica,
                        };
                        shared.tasks.spawn(keeper.keep());
                    }
                    Err(reason) => pool.replica_failed(replica, reason.to_string(), Vec::new()),
                }
            }
        }
        Self { pools, shared }
    }

    /// Waits until every service serves or is known not to, and why.
    pub async fn settled(&self) {
        join_all(self.pools.iter().map(|pool| pool.settled())).await;
    }

    /// Asks every sidecar to end its streams as the protocol wants it, so that the edge can become idle.
    pub async fn end_streams(&self) {
        let endpoints: Vec<Arc<Endpoint>> = self
            .pools
            .iter()
            .flat_map(|pool| pool.endpoints().as_ref().clone())
            .collect();
        join_all(endpoints.iter().map(|endpoint| async {
            match exchange(endpoint, Method::POST, "/control/end-streams", CONTROL_TIMEOUT).await {
                Ok((status, _)) if status.is_success() => {}
                Ok((status, _)) => {
                    tracing::warn!(endpoint = %endpoint.id(), %status, "the sidecar did not end its streams");
                }
                Err(error) => {
                    tracing::warn!(endpoint = %endpoint.id(), %error, "the sidecar did not end its streams");
                }
            }
        }))
        .await;
    }

    /// Ends all sidecars and all checks: asks them to leave, and kills after `grace` what has not left.
    pub async fn stop_all(&self, grace: Duration) {
        self.shared.stop_within(grace);
        self.shared.tasks.close();
        if tokio::time::timeout(grace + KILL_TIME, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::error!(
                tasks = self.shared.tasks.len(),
                "some sidecars could not be ended"
            );
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stop_within(DROP_GRACE);
    }
}

impl Shared {
    fn stop_within(&self, grace: Duration) {
        // The first caller's deadline holds.
        self.deadline.get_or_init(|| Instant::now() + grace);
        self.stop.cancel();
    }

    fn grace(&self) -> Duration {
        let deadline = self.deadline.get();
        deadline.map_or(DROP_GRACE, |at| at.saturating_duration_since(Instant::now()))
    }
}

/// The runtime of child processes, if a service needs it; the same reason for all of them when it cannot be had.
fn process_runtime(
    config: &Config,
    program: SidecarProgram,
    shared: &Shared,
) -> Result<Arc<dyn Runtime>, Arc<str>> {
    let wanted = |service: &Arc<Service>| matches!(service.runtime, ServiceRuntime::Process { .. });
    if !config.services.values().any(wanted) {
        return Err("no service is a child process".into());
    }
    match ProcessRuntime::new(program, &config.edge.state_dir) {
        Ok(runtime) => {
            let run_dir = runtime.run_dir().clone();
            let stop = shared.stop.clone();
            shared.tasks.spawn(async move {
                stop.run_until_cancelled(run_dir.sweep()).await;
            });
            Ok(Arc::new(runtime))
        }
        Err(error) => {
            tracing::error!(%error, "no sidecar can be started");
            Err(error.to_string().into())
        }
    }
}

/// Keeps one replica.
struct Keeper {
    shared: Arc<Shared>,
    runtime: Arc<dyn Runtime>,
    service: Arc<Service>,
    pool: Arc<Pool>,
    replica: u32,
}

impl Keeper {
    async fn keep(self) {
        let mut backoff = Backoff::new(random::u64());
        while let Some(permit) = self.wait_for_turn().await {
            let began = Instant::now();
            let Some(failure) = self.run_once(permit).await else {
                return;
            };
            let restart = backoff.on_exit(began.elapsed(), std::time::Instant::now());
            let Failure { mut reason, stderr } = failure;
            if let Some(verdict) = restart.crash_loop {
                reason = format!("{reason} ({verdict})");
            }
            tracing::warn!(
                service = %self.service.name, replica = self.replica, reason, again_in = ?restart.delay,
                "replica failed"
            );
            self.pool.replica_failed(self.replica, reason, stderr);
            let pause = tokio::time::sleep(restart.delay);
            if self.unless_ending(pause).await.is_none() {
                return;
            }
        }
    }

    /// `None` when the edge ends first.
    async fn unless_ending<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => None,
            () = self.shared.shutdown.cancelled() => None,
            value = wait => Some(value),
        }
    }

    /// `Some` when the replica may start, with the right to load the machine if it needs that.
    async fn wait_for_turn(&self) -> Option<Option<OwnedSemaphorePermit>> {
        if !self.runtime.start_is_costly() {
            return self.unless_ending(std::future::ready(None)).await;
        }
        let turn = Arc::clone(&self.shared.starts).acquire_owned();
        // The semaphore is never closed.
        self.unless_ending(turn).await.map(Result::ok)
    }

    /// One life of the replica; `None` if it was told to end.
    async fn run_once(&self, permit: Option<OwnedSemaphorePermit>) -> Option<Failure> {
        let start = self.runtime.start(&self.service, self.replica);
        match self.shared.stop.run_until_cancelled(start).await? {
            Ok(replica) => self.attend(replica, permit).await,
            Err(error) => Some(Failure {
                reason: error.to_string(),
                stderr: Vec::new(),
            }),
        }
    }

    /// Follows a started replica to its end. `permit` is given back with the first verdict on it.
    async fn attend(
        &self,
        mut replica: Box<dyn Replica>,
        mut permit: Option<OwnedSemaphorePermit>,
    ) -> Option<Failure> {
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
                    return None;
                }
                change = replica.change() => change,
                () = verdict => {
                    on_trial = None;
                    permit = None;
                    continue;
                }
            };
            match change {
                Change::Up(spec) => {
                    let endpoint = self.pool.join(self.replica, spec);
                    let path = self.service.health_check_path.as_str().into();
                    let pool = Arc::clone(&self.pool);
                    let checks = check::watch(pool, Arc::clone(&endpoint), path, self.shared.options.health);
                    self.shared.tasks.spawn(checks);
                    if permit.is_some() {
                        on_trial = Some(endpoint);
                    }
                }
                Change::Down(addr) => self.pool.leave(self.replica, &addr),
                Change::Failed(reason) => {
                    tracing::warn!(service = %self.service.name, replica = self.replica, reason, "replica failed");
                    self.pool.replica_unavailable(self.replica, reason);
                }
                Change::Ended(failure) => return Some(failure),
            }
        }
    }
}
