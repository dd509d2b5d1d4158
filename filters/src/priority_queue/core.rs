//! Who is next: start-time fair queueing (Goyal, Vin, Cheng 1996) on two levels, tiers by weight and
//! clients of a tier equally, charged in slot-time.
//!
//! Every flow (a tier, a client) has a tag: the virtual time at which its next request starts. The flow
//! with the smallest tag goes first, and pays its expected slot-time divided by its weight; what it
//! really took is corrected at the end. A flow that was idle starts at the virtual time of now: it has
//! no credit from its idleness.
//!
//! Invariant: `in_use` never exceeds `slots`; as long as a slot is free, nobody waits who may run. No
//! clock, lock or task here: time comes with every call, since any fixed moment.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::ids::{Principal, TierName};

/// A cap on a tier holds while a higher tier was seen within this time.
const ACTIVE: Duration = Duration::from_secs(1);
/// A client whose oldest wait was not under `GOOD_WAIT` for `BAD_FOR` is overloaded: its new requests
/// wait at most `BAD_FOR`, and the newest goes first (DAGOR's threshold, CoDel's shape).
const GOOD_WAIT: Duration = Duration::from_millis(20);
const BAD_FOR: Duration = Duration::from_millis(100);
/// Clients without waiters that are remembered for their tags, by tier.
const REMEMBERED: usize = 4096;

/// A tier in the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueTier {
    /// Its name.
    pub name: TierName,
    /// Its share of slot-time when all tiers want more than there is. Above 0.
    pub weight: f64,
    /// The part of the slots it may hold while a tier of more weight is active, 0 to 1; one slot at
    /// least.
    pub max_share: f64,
    /// Longest wait.
    pub max_wait: Duration,
}

/// Limits of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) waiting: usize,
    pub(super) waiting_per_client: usize,
    pub(super) newest_first_on_overload: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Tag(f64);

impl Eq for Tag {}
impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Tag {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Place in a client's line: arrival plus lane offset in microseconds, then order of arrival.
pub(super) type Place = (i64, u64);

struct Waiter<T> {
    arrived: Duration,
    deadline: Duration,
    cost: f64,
    wake: T,
}

struct Client<T> {
    tag: f64,
    line: BTreeMap<Place, Waiter<T>>,
    /// When its oldest wait was last good.
    good_at: Duration,
}

struct Tier<T> {
    rule: QueueTier,
    in_use: usize,
    waiting: usize,
    last_arrival: Option<Duration>,
    tag: f64,
    /// Virtual time among the clients.
    now: f64,
    clients: HashMap<Principal, Client<T>>,
    /// Clients with waiters, by tag.
    ready: BTreeSet<(Tag, Principal)>,
}

/// What a request asks for.
pub(super) struct Ask<'a> {
    pub(super) tier: usize,
    pub(super) client: &'a Principal,
    /// Expected slot-time in seconds.
    pub(super) cost: f64,
    pub(super) offset_millis: i64,
    pub(super) max_wait: Duration,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    Granted,
    Waits { place: Place, max_wait: Duration },
    Full,
}

/// A waiter that is next.
pub(super) struct Next<T> {
    pub(super) tier: usize,
    pub(super) client: Principal,
    pub(super) cost: f64,
    pub(super) wake: T,
}

/// A tier's part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierDepth {
    /// Its name.
    pub name: TierName,
    /// Slots it holds.
    pub in_use: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// How long the oldest has waited.
    pub oldest_wait: Duration,
}

pub(super) struct Core<T> {
    slots: usize,
    in_use: usize,
    waiting: usize,
    bounds: Bounds,
    /// Virtual time among the tiers.
    now: f64,
    tiers: Vec<Tier<T>>,
    arrivals: u64,
}

impl<T> Core<T> {
    pub(super) fn new(slots: usize, tiers: &[QueueTier], bounds: Bounds) -> Self {
        let mut core = Self {
            slots,
            in_use: 0,
            waiting: 0,
            bounds,
            now: 0.0,
            tiers: Vec::new(),
            arrivals: 0,
        };
        core.configure(tiers);
        core
    }

    /// Takes new rules. A tier keeps its number for ever, because permits name it.
    pub(super) fn configure(&mut self, tiers: &[QueueTier]) {
        for rule in tiers {
            match self.tiers.iter_mut().find(|tier| tier.rule.name == rule.name) {
                Some(tier) => tier.rule = rule.clone(),
                None => self.tiers.push(Tier::new(rule.clone(), self.now)),
            }
        }
    }

    pub(super) fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// The number of a tier, or of the one with the least weight if the name is not known.
    pub(super) fn tier(&self, name: &TierName) -> usize {
        let least = || {
            let lighter =
                |a: &(usize, &Tier<T>), b: &(usize, &Tier<T>)| a.1.rule.weight.total_cmp(&b.1.rule.weight);
            self.tiers
                .iter()
                .enumerate()
                .min_by(lighter)
                .map_or(0, |(number, _)| number)
        };
        self.tiers
            .iter()
            .position(|tier| tier.rule.name == *name)
            .unwrap_or_else(least)
    }

    pub(super) fn max_wait(&self, tier: usize) -> Duration {
        self.tiers
            .get(tier)
            .map_or(Duration::ZERO, |tier| tier.rule.max_wait)
    }

    fn may_run(&self, number: usize, at: Duration) -> bool {
        let Some(tier) = self.tiers.get(number) else {
            return false;
        };
        if self.in_use >= self.slots {
            return false;
        }
        let cap = ((self.slots as f64 * tier.rule.max_share) as usize).max(1);
        tier.in_use < cap
            || !self
                .tiers
                .iter()
                .any(|t| t.rule.weight > tier.rule.weight && t.is_active(at))
    }

    /// A request arrives: it gets a slot, or `wake` waits for one.
    pub(super) fn enter(&mut self, ask: &Ask<'_>, at: Duration, wake: impl FnOnce() -> T) -> Entered {
        let may_run = self.may_run(ask.tier, at);
        let Some(tier) = self.tiers.get_mut(ask.tier) else {
            return Entered::Full;
        };
        tier.last_arrival = Some(at);
        if may_run && tier.waiting == 0 {
            self.start(ask.tier, ask.client, ask.cost);
            return Entered::Granted;
        }
        if self.waiting >= self.bounds.waiting {
            return Entered::Full;
        }
        let client = tier.client(ask.client, at);
        if client.line.len() >= self.bounds.waiting_per_client {
            return Entered::Full;
        }
        let overloaded = self.bounds.newest_first_on_overload && client.is_overloaded(at);
        let max_wait = if overloaded {
            ask.max_wait.min(BAD_FOR)
        } else {
            ask.max_wait
        };
        self.arrivals += 1;
        let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
        let place = (
            micros.saturating_add(ask.offset_millis.saturating_mul(1000)),
            self.arrivals,
        );
        let waiter = Waiter {
            arrived: at,
            deadline: at + max_wait,
            cost: ask.cost,
            wake: wake(),
        };
        if client.line.is_empty() {
            client.good_at = at;
            let tag = Tag(client.tag);
            tier.ready.insert((tag, ask.client.clone()));
        }
        if let Some(client) = tier.clients.get_mut(ask.client) {
            client.line.insert(place, waiter);
        }
        tier.waiting += 1;
        self.waiting += 1;
        Entered::Waits { place, max_wait }
    }

    /// Takes a slot for the waiter that is next, if one is free and somebody may have it. Waiters past
    /// their deadline are dropped, never served.
    pub(super) fn next(&mut self, at: Duration) -> Option<Next<T>> {
        loop {
            let number = (0..self.tiers.len())
                .filter(|n| self.tiers.get(*n).is_some_and(|t| t.waiting > 0) && self.may_run(*n, at))
                .min_by(|a, b| self.start_tag(*a).total_cmp(&self.start_tag(*b)))?;
            let newest_first = self.bounds.newest_first_on_overload;
            let tier = self.tiers.get_mut(number)?;
            let client = tier.ready.first()?.1.clone();
            let waiter = tier.take_first(&client, at, newest_first)?;
            self.waiting -= 1;
            if waiter.deadline <= at {
                continue;
            }
            self.start(number, &client, waiter.cost);
            return Some(Next {
                tier: number,
                client,
                cost: waiter.cost,
                wake: waiter.wake,
            });
        }
    }

    fn start_tag(&self, tier: usize) -> f64 {
        self.tiers
            .get(tier)
            .map_or(f64::INFINITY, |tier| tier.tag.max(self.now))
    }

    fn start(&mut self, number: usize, client: &Principal, cost: f64) {
        self.in_use += 1;
        self.now = self.start_tag(number);
        let now = self.now;
        let Some(tier) = self.tiers.get_mut(number) else {
            return;
        };
        tier.in_use += 1;
        tier.tag = now + cost / tier.rule.weight;
        if let Some(tag) = tier.clients.get(client).map(|c| c.tag.max(tier.now)) {
            tier.now = tag;
            tier.retag(client, tag + cost);
        }
    }

    /// A request that was charged `charged` gives its slot back after `took` seconds.
    pub(super) fn finish(&mut self, number: usize, client: &Principal, charged: f64, took: f64) {
        self.in_use = self.in_use.saturating_sub(1);
        let Some(tier) = self.tiers.get_mut(number) else {
            return;
        };
        tier.in_use = tier.in_use.saturating_sub(1);
        tier.tag += (took - charged) / tier.rule.weight;
        if let Some(tag) = tier.clients.get(client).map(|c| c.tag) {
            tier.retag(client, tag + took - charged);
        }
    }

    /// A waiter leaves; `false` if it does not wait any more.
    pub(super) fn leave(&mut self, number: usize, client: &Principal, place: Place) -> bool {
        let Some(tier) = self.tiers.get_mut(number) else {
            return false;
        };
        let left = tier.take(client, |line| line.remove_entry(&place)).is_some();
        self.waiting -= usize::from(left);
        left
    }

    pub(super) fn depths(&self, at: Duration) -> Vec<TierDepth> {
        self.tiers.iter().map(|tier| tier.depth(at)).collect()
    }
}

impl<T> Tier<T> {
    fn new(rule: QueueTier, now: f64) -> Self {
        Self {
            rule,
            in_use: 0,
            waiting: 0,
            last_arrival: None,
            tag: now,
            now: 0.0,
            clients: HashMap::new(),
            ready: BTreeSet::new(),
        }
    }

    fn is_active(&self, at: Duration) -> bool {
        self.waiting > 0
            || self
                .last_arrival
                .is_some_and(|last| at.saturating_sub(last) < ACTIVE)
    }

    fn client(&mut self, name: &Principal, at: Duration) -> &mut Client<T> {
        if self.clients.len() >= REMEMBERED && !self.clients.contains_key(name) {
            // First those whose tag says nothing any more; under a flood of clients, all idle ones.
            let now = self.now;
            self.clients
                .retain(|_, client| !client.line.is_empty() || client.tag > now);
            if self.clients.len() >= REMEMBERED {
                self.clients.retain(|_, client| !client.line.is_empty());
            }
        }
        let now = self.now;
        self.clients.entry(name.clone()).or_insert_with(|| Client {
            tag: now,
            line: BTreeMap::new(),
            good_at: at,
        })
    }

    /// Changes a client's tag, and its place among the ready ones.
    fn retag(&mut self, name: &Principal, tag: f64) {
        let Some(client) = self.clients.get_mut(name) else {
            return;
        };
        if self.ready.remove(&(Tag(client.tag), name.clone())) {
            self.ready.insert((Tag(tag), name.clone()));
        }
        client.tag = tag;
    }

    fn take_first(&mut self, name: &Principal, at: Duration, newest_first: bool) -> Option<Waiter<T>> {
        let client = self.clients.get_mut(name)?;
        let oldest = client.line.values().next()?.arrived;
        if at.saturating_sub(oldest) < GOOD_WAIT {
            client.good_at = at;
        }
        let newest = newest_first && client.is_overloaded(at);
        self.take(
            name,
            |line| if newest { line.pop_last() } else { line.pop_first() },
        )
    }

    fn take(
        &mut self,
        name: &Principal,
        pick: impl FnOnce(&mut BTreeMap<Place, Waiter<T>>) -> Option<(Place, Waiter<T>)>,
    ) -> Option<Waiter<T>> {
        let client = self.clients.get_mut(name)?;
        let (_, waiter) = pick(&mut client.line)?;
        if client.line.is_empty() {
            self.ready.remove(&(Tag(client.tag), name.clone()));
        }
        self.waiting -= 1;
        Some(waiter)
    }

    fn depth(&self, at: Duration) -> TierDepth {
        let oldest = self
            .clients
            .values()
            .flat_map(|c| c.line.values())
            .map(|w| w.arrived)
            .min();
        TierDepth {
            name: self.rule.name.clone(),
            in_use: self.in_use,
            waiting: self.waiting,
            oldest_wait: oldest.map_or(Duration::ZERO, |arrived| at.saturating_sub(arrived)),
        }
    }
}

impl<T> Client<T> {
    fn is_overloaded(&self, at: Duration) -> bool {
        !self.line.is_empty() && at.saturating_sub(self.good_at) > BAD_FOR
    }
}

#[cfg(test)]
mod tests;
