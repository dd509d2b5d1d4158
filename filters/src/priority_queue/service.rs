//! The queue of one service: [`Core`] behind a lock, with waiters that sleep.
//!
//! Invariant: a slot is always either free, held by a [`SlotPermit`] that lives, or inside a waiter's
//! channel as such a permit. A waiter that leaves drops its channel and with it the permit, which
//! passes the slot on: no wake-up is lost, whatever the order of grant and leave.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::core::{Ask, Bounds, Core, Entered, Place, QueueTier, TierDepth};
use crate::ids::{Principal, TierName};
use crate::permit::{Permit, PermitKind};
use crate::reason::Reason;

/// What a method is taken to cost in slot seconds before it was seen.
const FIRST_GUESS: f64 = 0.1;
/// Weight of the newest observation.
const EWMA: f64 = 0.2;
/// Caps of tiers lapse with time and not with an event, so waiters look again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

type Wake = oneshot::Sender<SlotPermit>;

struct State {
    core: Core<Wake>,
    /// Slot seconds by method; the labels are a fixed set.
    costs: HashMap<&'static str, f64>,
}

pub(super) struct ServiceQueue {
    epoch: Instant,
    state: Mutex<State>,
}

/// A slot of a service, given back by Drop.
pub struct SlotPermit {
    queue: Option<Arc<ServiceQueue>>,
    tier: usize,
    client: Principal,
    method: &'static str,
    charged: f64,
    started: Duration,
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            let mut state = queue.state.lock();
            let took = queue.epoch.elapsed().saturating_sub(self.started).as_secs_f64();
            let cost = state.costs.entry(self.method).or_insert(took);
            *cost += EWMA * (took - *cost);
            state.core.finish(self.tier, &self.client, self.charged, took);
            queue.hand_out(state);
        }
    }
}

impl Permit for SlotPermit {
    fn kind(&self) -> PermitKind {
        PermitKind::Slot
    }
}

/// A waiter's place in line, given up when the waiter leaves.
struct Waiting<'a> {
    queue: &'a ServiceQueue,
    tier: usize,
    client: &'a Principal,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue
            .state
            .lock()
            .core
            .leave(self.tier, self.client, self.place);
    }
}

/// One request at the queue.
pub(super) struct Arrival<'a> {
    pub(super) client: &'a Principal,
    pub(super) tier: &'a TierName,
    pub(super) method: &'static str,
    pub(super) offset_millis: i64,
    /// Shortens the tier's longest wait.
    pub(super) wait: &'a (dyn Fn(Duration) -> Duration + Sync),
}

impl ServiceQueue {
    pub(super) fn new(slots: usize, tiers: &[QueueTier], bounds: Bounds) -> Arc<Self> {
        let state = State {
            core: Core::new(slots, tiers, bounds),
            costs: HashMap::new(),
        };
        Arc::new(Self {
            epoch: Instant::now(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn configure(self: &Arc<Self>, tiers: &[QueueTier]) {
        self.state.lock().core.configure(tiers);
    }

    pub(super) fn set_slots(self: &Arc<Self>, slots: usize) {
        let mut state = self.state.lock();
        state.core.set_slots(slots);
        self.hand_out(state);
    }

    pub(super) fn depths(&self) -> (usize, usize, Vec<TierDepth>) {
        let at = self.epoch.elapsed();
        let state = self.state.lock();
        (state.core.slots(), state.core.in_use(), state.core.depths(at))
    }

    /// Gets a slot, at once or after a wait.
    pub(super) async fn enter(self: &Arc<Self>, arrival: Arrival<'_>) -> Result<SlotPermit, Reason> {
        let mut receiver = None;
        let (entered, tier, cost, started) = {
            let mut state = self.state.lock();
            let at = self.epoch.elapsed();
            let tier = state.core.tier(arrival.tier);
            let cost = state.costs.get(arrival.method).copied().unwrap_or(FIRST_GUESS);
            let max_wait = (arrival.wait)(state.core.max_wait(tier));
            let ask = Ask {
                tier,
                client: arrival.client,
                cost,
                offset_millis: arrival.offset_millis,
                max_wait,
            };
            let entered = state.core.enter(&ask, at, || {
                // The method travels in the permit, which is made when the slot is granted.
                let (sender, waits) = oneshot::channel();
                receiver = Some(waits);
                sender
            });
            (entered, tier, cost, at)
        };
        let (place, max_wait, mut receiver) = match (entered, receiver) {
            (Entered::Granted, _) => {
                return Ok(self.permit(tier, arrival.client.clone(), arrival.method, cost, started));
            }
            (Entered::Waits { place, max_wait }, Some(receiver)) => (place, max_wait, receiver),
            _ => return Err(Reason::QueueFull),
        };
        let _place = Waiting {
            queue: self,
            tier,
            client: arrival.client,
            place,
        };
        let deadline = Instant::now() + max_wait;
        loop {
            let look_again = (Instant::now() + LOOK_AGAIN).min(deadline);
            match timeout_at(look_again, &mut receiver).await {
                Ok(Ok(mut permit)) => {
                    permit.method = arrival.method;
                    return Ok(permit);
                }
                Ok(Err(_)) => return Err(Reason::QueueTimeout),
                Err(_) if Instant::now() >= deadline => return Err(Reason::QueueTimeout),
                Err(_) => self.hand_out(self.state.lock()),
            }
        }
    }

    fn permit(
        self: &Arc<Self>,
        tier: usize,
        client: Principal,
        method: &'static str,
        charged: f64,
        started: Duration,
    ) -> SlotPermit {
        SlotPermit {
            queue: Some(Arc::clone(self)),
            tier,
            client,
            method,
            charged,
            started,
        }
    }

    /// Gives free slots to those who are next.
    fn hand_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        loop {
            let at = self.epoch.elapsed();
            let Some(next) = state.core.next(at) else { return };
            let permit = self.permit(next.tier, next.client, UNSERVED, next.cost, at);
            // Outside the lock: a permit that nobody takes comes back, and dropping one locks.
            let sent = MutexGuard::unlocked(&mut state, || {
                next.wake.send(permit).map_err(|mut unsent| {
                    unsent.queue = None;
                    (unsent.tier, unsent.client.clone(), unsent.charged)
                })
            });
            if let Err((tier, client, charged)) = sent {
                // It left before it ran: it is charged nothing.
                state.core.finish(tier, &client, charged, 0.0);
            }
        }
    }
}

/// The method of a permit that was granted and not taken: it teaches nothing about any method.
const UNSERVED: &str = "";
