//! Keeps every replica of every service running, and stops them all.
//!
//! Policy lives here and nowhere else: a few costly starts at a time, because twenty servers that start at once are all
//! too slow for their clients; a dead replica is replaced after a delay that grows until one has stayed up for a while;
//! a service that cannot start is its own problem. Invariant: every task belongs to the [`Supervisor`] and ends with it,
//! and no sidecar is left when [`Supervisor::stop_all`] returns.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use http::Method;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Runtime;
use super::fixed::FixedRuntime;
use super::keeper::{Keeper, Orders};
use super::process::{ProcessRuntime, SidecarProgram};
use crate::config::{Config, Service, ServiceName, ServiceRuntime};
use crate::upstream::exchange::exchange;
use crate::upstream::{Endpoint, HealthTiming, Pools};

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
    /// How to reach the keeper of each replica.
    keepers: BTreeMap<ServiceName, Vec<Arc<Orders>>>,
}

/// What the keepers of all replicas have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    /// One permit for each costly start that may be under way.
    pub(super) starts: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    /// Everything ends, at the latest at `deadline`.
    pub(super) stop: CancellationToken,
    deadline: OnceLock<Instant>,
}

impl Supervisor {
    /// Starts every service of `config` and keeps `pools` up to date until [`Supervisor::stop_all`]. Returns at once;
    /// call from within a runtime that lives as long as the supervisor.
    pub fn start(config: &Config, pools: Arc<Pools>, program: SidecarProgram, options: Options) -> Self {
        let shared = Arc::new(Shared {
            options,
            starts: Arc::new(Semaphore::new(options.starts.max(1))),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            deadline: OnceLock::new(),
        });
        let fixed: Arc<dyn Runtime> = Arc::new(FixedRuntime::new(options.resolve_every));
        let process = process_runtime(config, program, &shared);
        let mut keepers = BTreeMap::new();
        for service in config.services.values() {
            let Some(pool) = pools.get(&service.name) else {
                continue;
            };
            let runtime = match &service.runtime {
                ServiceRuntime::Process { .. } => process.clone(),
                ServiceRuntime::Fixed { .. } => Ok(Arc::clone(&fixed)),
            };
            let mut orders = Vec::new();
            for replica in pool.replicas() {
                match &runtime {
                    Ok(runtime) => {
                        let keeper = Keeper {
                            shared: Arc::clone(&shared),
                            runtime: Arc::clone(runtime),
                            service: Arc::clone(service),
                            pool: Arc::clone(pool),
                            replica,
                            orders: Arc::default(),
                        };
                        orders.push(Arc::clone(&keeper.orders));
                        shared.tasks.spawn(keeper.keep());
                    }
                    Err(reason) => pool.replica_failed(replica, reason.to_string(), Vec::new()),
                }
            }
            keepers.insert(service.name.clone(), orders);
        }
        Self {
            pools,
            shared,
            keepers,
        }
    }

    /// Waits until every service serves or is known not to, and why.
    pub async fn settled(&self) {
        join_all(self.pools.iter().map(|pool| pool.settled())).await;
    }

    /// Restarts the replicas of a service one after another, so that the others serve meanwhile. Returns when the last
    /// one has a verdict; false if there is no such service.
    pub async fn restart(&self, service: &ServiceName) -> bool {
        let Some(keepers) = self.keepers.get(service) else {
            return false;
        };
        for orders in keepers {
            let restarted = orders.restart();
            if self.shared.stop.run_until_cancelled(restarted).await.is_none() {
                break;
            }
        }
        true
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

    /// Time left for what has to end.
    pub(super) fn grace(&self) -> Duration {
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
