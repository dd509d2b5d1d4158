//! In what order requests get the slots of a service: fair between tiers by weight and between the
//! clients of a tier, in slot-time, so that slow calls cost what they take.
//!
//! Invariant: a request behind this filter holds a slot of its service until it ends; none is let on
//! after its deadline, after its client left, or while the breaker is open.
//!
//! [`core`] decides who is next · [`service`] lets the others sleep.

mod core;
mod service;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::chain::Filter;
use crate::circuit_breaker::{BreakerPermit, circuit_open};
use crate::ids::ServiceName;
use crate::lane::{Lane, remaining_wait};
use crate::reason::Reason;
use crate::request::Request;
use crate::verdict::{Reply, Verdict};

use self::core::Bounds;
pub use self::core::{QueueTier, TierDepth};
pub use self::service::SlotPermit;
use self::service::{Arrival, ServiceQueue};

/// Slots and tiers.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Slots by service; services that are not named have no queue.
    pub services: HashMap<ServiceName, usize>,
    /// The tiers.
    pub tiers: Vec<QueueTier>,
    /// Most requests that wait for one service.
    pub max_waiting: usize,
    /// Most requests of one client that wait for one service.
    pub max_waiting_per_client: usize,
    /// Whether an overloaded client's newest request goes first, and its new ones wait 100 ms only.
    pub newest_first_on_overload: bool,
}

/// A service's queue at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// The service.
    pub service: ServiceName,
    /// Its slots.
    pub slots: usize,
    /// Slots that are held.
    pub in_use: usize,
    /// By tier.
    pub tiers: Vec<TierDepth>,
}

/// The queues of all services. One per edge; survives reloads.
#[derive(Default)]
pub struct QueueStore {
    queues: RwLock<HashMap<ServiceName, Arc<ServiceQueue>>>,
}

impl QueueStore {
    /// Changes the slots of a service, as replicas come and go; `false` if it has no queue.
    pub fn set_slots(&self, service: &ServiceName, slots: usize) -> bool {
        self.get(service).map(|queue| queue.set_slots(slots)).is_some()
    }

    /// Every queue, by service name.
    pub fn snapshot(&self) -> Vec<QueueSnapshot> {
        let queues = self.queues.read();
        let mut all: Vec<_> = queues
            .iter()
            .map(|(service, queue)| {
                let (slots, in_use, tiers) = queue.depths();
                QueueSnapshot {
                    service: service.clone(),
                    slots,
                    in_use,
                    tiers,
                }
            })
            .collect();
        all.sort_by(|a, b| a.service.cmp(&b.service));
        all
    }

    fn get(&self, service: &ServiceName) -> Option<Arc<ServiceQueue>> {
        self.queues.read().get(service).cloned()
    }

    /// Makes the store hold exactly these services. Requests of one that is gone keep their slots and
    /// places in its queue, which lives as long as they do.
    fn configure(&self, config: &QueueConfig) {
        let bounds = Bounds {
            waiting: config.max_waiting,
            waiting_per_client: config.max_waiting_per_client,
            newest_first_on_overload: config.newest_first_on_overload,
        };
        let mut queues = self.queues.write();
        queues.retain(|name, _| config.services.contains_key(name));
        for (name, slots) in &config.services {
            match queues.get(name) {
                Some(queue) => {
                    queue.configure(&config.tiers);
                    queue.set_slots(*slots);
                }
                None => {
                    queues.insert(name.clone(), ServiceQueue::new(*slots, &config.tiers, bounds));
                }
            }
        }
    }
}

/// The filter.
pub struct PriorityQueue {
    store: Arc<QueueStore>,
}

impl PriorityQueue {
    /// A filter with this config on those queues.
    pub fn new(config: &QueueConfig, store: Arc<QueueStore>) -> Self {
        store.configure(config);
        Self { store }
    }

    async fn enter(&self, req: &mut Request, lane: Lane) -> Result<(), Reply> {
        let (Some(who), Some(queue)) = (req.identity.clone(), self.store.get(&req.service)) else {
            return Ok(());
        };
        let started = Instant::now();
        let entered = {
            let wait = |max: Duration| remaining_wait(req, max);
            let arrival = Arrival {
                client: &who.principal,
                tier: &who.tier,
                method: req.call.label(),
                offset_millis: lane.offset_millis(),
                wait: &wait,
            };
            queue.enter(arrival).await
        };
        req.waited += started.elapsed();
        let permit = entered.map_err(refusal)?;
        // The service may have failed while the request waited.
        if req
            .permits
            .get::<BreakerPermit>()
            .is_some_and(|breaker| !breaker.still_passes())
        {
            return Err(circuit_open(Duration::from_secs(1)));
        }
        req.permits.hold(permit);
        Ok(())
    }
}

fn refusal(reason: Reason) -> Reply {
    let message = match reason {
        Reason::QueueFull => "too many requests wait for this service already",
        _ => "no slot of the service became free in time",
    };
    Reply::new(reason, message)
}

#[async_trait]
impl Filter for PriorityQueue {
    fn name(&self) -> &'static str {
        "priority_queue"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        let lane = Lane::of(req);
        if matches!(lane, Lane::Bypass | Lane::Stream) {
            return Verdict::Continue;
        }
        match self.enter(req, lane).await {
            Ok(()) => Verdict::Continue,
            Err(reply) => reply.into(),
        }
    }
}

#[cfg(test)]
mod tests;
