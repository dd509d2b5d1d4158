//! Simulations in virtual time, and random operations against plain bookkeeping.

use super::*;
use proptest::prelude::*;
use std::collections::BinaryHeap;

fn tiers() -> Vec<QueueTier> {
    [
        ("free", 1.0, 0.5, 2),
        ("pro", 4.0, 0.8, 5),
        ("enterprise", 16.0, 1.0, 10),
    ]
    .map(|(name, weight, max_share, wait)| QueueTier {
        name: name.into(),
        weight,
        max_share,
        max_wait: Duration::from_secs(wait),
    })
    .into()
}

const BOUNDS: Bounds = Bounds {
    waiting: 100_000,
    waiting_per_client: 100_000,
    newest_first_on_overload: false,
};

/// A stream of calls: `every` ms one call of `takes` ms by client `client` of tier `tier`.
#[derive(Clone)]
struct Load {
    tier: usize,
    client: String,
    every: f64,
    takes: u64,
    from: u64,
}

fn load(tier: usize, client: &str, every: f64, takes: u64) -> Load {
    Load {
        tier,
        client: client.into(),
        every,
        takes,
        from: 0,
    }
}

/// What was dispatched: (load, arrived ms, started ms).
type Run = Vec<(usize, u64, u64)>;

/// Runs the loads for `millis` of virtual time. The estimate of a call's cost is `guess` seconds.
fn simulate(slots: usize, bounds: Bounds, loads: &[Load], millis: u64, guess: f64) -> Run {
    let mut core: Core<(usize, u64)> = Core::new(slots, &tiers(), bounds);
    let mut arrivals: Vec<(u64, usize)> = Vec::new();
    for (i, load) in loads.iter().enumerate() {
        let mut at = load.from as f64;
        while at < millis as f64 {
            arrivals.push((at as u64, i));
            at += load.every;
        }
    }
    arrivals.sort();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut ends: BinaryHeap<std::cmp::Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let mut run = Run::new();
    loop {
        let next_end = ends.peek().map(|e| e.0.0);
        let next_arrival = arrivals.peek().map(|a| a.0);
        let now = match (next_end, next_arrival) {
            (Some(end), Some(arrival)) => end.min(arrival),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return run,
        };
        if now >= millis {
            return run;
        }
        let at = Duration::from_millis(now);
        if next_end == Some(now) {
            let std::cmp::Reverse((_, i, started)) = ends.pop().unwrap();
            let took = (now - started) as f64 / 1000.0;
            core.finish(loads[i].tier, &loads[i].client.as_str().into(), guess, took);
        } else {
            let (_, i) = arrivals.next().unwrap();
            let client: Principal = loads[i].client.as_str().into();
            let max_wait = core.max_wait(loads[i].tier);
            let ask = Ask {
                tier: loads[i].tier,
                client: &client,
                cost: guess,
                offset_millis: 0,
                max_wait,
            };
            if core.enter(&ask, at, || (i, now)) == Entered::Granted {
                run.push((i, now, now));
                ends.push(std::cmp::Reverse((now + loads[i].takes, i, now)));
            }
        }
        while let Some(next) = core.next(at) {
            let (i, arrived) = next.wake;
            run.push((i, arrived, now));
            ends.push(std::cmp::Reverse((now + loads[i].takes, i, now)));
        }
        assert!(core.in_use <= core.slots);
    }
}

/// Each load's part of the slot-time that was started in the given span.
fn shares(run: &Run, loads: &[Load], span: std::ops::Range<u64>) -> Vec<f64> {
    let mut time = vec![0.0; loads.len()];
    for (i, _, started) in run.iter().filter(|(_, _, started)| span.contains(started)) {
        let _ = started;
        time[*i] += loads[*i].takes as f64;
    }
    let sum: f64 = time.iter().sum();
    time.into_iter().map(|t| t / sum).collect()
}

fn waits(run: &Run, load: usize) -> Vec<u64> {
    let mut waits: Vec<_> = run
        .iter()
        .filter(|(i, ..)| *i == load)
        .map(|(_, a, s)| s - a)
        .collect();
    waits.sort_unstable();
    waits
}

#[test]
fn backlogged_tiers_share_slot_time_by_weight_in_every_ten_seconds() {
    // 100,000 arrivals; 16 slots, 100 ms calls: 160/s served of 1000/s each.
    let loads: Vec<_> = (0..3).map(|tier| load(tier, "c", 1.0, 100)).collect();
    let run = simulate(16, BOUNDS, &loads, 35_000, 0.1);
    for from in [2_000, 10_000, 20_000] {
        let shares = shares(&run, &loads, from..from + 10_000);
        assert!(shares[0] >= 0.045 && shares[1] >= 0.18, "{shares:?}");
    }
    let free: Vec<_> = run
        .iter()
        .filter(|(i, _, s)| *i == 0 && *s > 1000)
        .map(|(_, _, s)| *s)
        .collect();
    assert!(
        free.windows(2).all(|pair| pair[1] - pair[0] <= 1000),
        "no gap over a second"
    );
}

#[test]
fn slow_calls_cost_what_they_take() {
    // Free calls take 3 s, and the queue expects 0.1 s until they end.
    let loads = [load(0, "c", 10.0, 3000), load(2, "c", 12.0, 100)];
    let run = simulate(16, BOUNDS, &loads, 60_000, 0.1);
    let sent = 60_000 / 12;
    let waits = waits(&run, 1);
    assert!(
        waits.len() as f64 >= 0.999 * f64::from(sent),
        "{} of {sent}",
        waits.len()
    );
    assert!(
        waits[waits.len() * 99 / 100] <= 300,
        "p99 {}",
        waits[waits.len() * 99 / 100]
    );
}

#[test]
fn a_free_flood_does_not_delay_enterprise_by_more_than_a_service_time() {
    // 10 times overload by free: 1600/s for 160/s.
    let loads = [load(0, "c", 0.625, 100), load(2, "c", 10.0, 100)];
    let run = simulate(16, BOUNDS, &loads, 30_000, 0.1);
    let waits = waits(&run, 1);
    assert!(waits.len() >= 2_997);
    assert!(waits[waits.len() * 99 / 100] <= 100);
}

#[test]
fn one_client_at_fifty_times_takes_no_more_than_the_others() {
    let mut loads: Vec<_> = (0..10).map(|i| load(1, &format!("c{i}"), 25.0, 100)).collect();
    loads[0].every = 0.5;
    let run = simulate(16, BOUNDS, &loads, 20_000, 0.1);
    let shares = shares(&run, &loads, 2_000..20_000);
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    let jain = sum * sum / (shares.len() as f64 * squares);
    assert!(jain >= 0.95, "Jain {jain} of {shares:?}");
}

#[test]
fn idleness_earns_no_credit() {
    let mut loads = vec![load(1, "busy", 2.0, 100), load(1, "late", 2.0, 100)];
    loads[1].from = 20_000;
    let run = simulate(16, BOUNDS, &loads, 40_000, 0.1);
    let shares = shares(&run, &loads, 20_000..22_000);
    assert!(shares[1] < 0.6, "{shares:?}");
}

#[test]
fn a_tiers_cap_holds_only_while_a_higher_one_is_active() {
    let mut core: Core<u8> = Core::new(10, &tiers(), BOUNDS);
    let free: Principal = "f".into();
    let vip: Principal = "e".into();
    let ask = |tier, client| Ask {
        tier,
        client,
        cost: 0.1,
        offset_millis: 0,
        max_wait: Duration::from_secs(9),
    };
    assert_eq!(core.enter(&ask(2, &vip), Duration::ZERO, || 0), Entered::Granted);
    for _ in 0..5 {
        assert_eq!(core.enter(&ask(0, &free), Duration::ZERO, || 0), Entered::Granted);
    }
    assert!(matches!(
        core.enter(&ask(0, &free), Duration::ZERO, || 0),
        Entered::Waits { .. }
    ));
    assert!(core.next(Duration::from_millis(999)).is_none());
    assert_eq!(
        core.enter(&ask(2, &vip), Duration::from_millis(10), || 0),
        Entered::Granted
    );
    assert!(core.next(Duration::from_millis(1009)).is_none());
    assert!(core.next(Duration::from_millis(1010)).is_some());
}

#[test]
fn an_overloaded_clients_newest_goes_first_and_waits_briefly() {
    let mut core: Core<u8> = Core::new(
        1,
        &tiers(),
        Bounds {
            newest_first_on_overload: true,
            ..BOUNDS
        },
    );
    let client: Principal = "c".into();
    let millis = Duration::from_millis;
    let ask = Ask {
        tier: 1,
        client: &client,
        cost: 0.1,
        offset_millis: 0,
        max_wait: Duration::from_secs(5),
    };
    assert_eq!(core.enter(&ask, millis(0), || 0), Entered::Granted);
    for (at, name, wait) in [(0, 1, 5000), (50, 2, 5000), (101, 3, 100)] {
        match core.enter(&ask, millis(at), || name) {
            Entered::Waits { max_wait, .. } => assert_eq!(max_wait, millis(wait)),
            other => panic!("{other:?}"),
        }
    }
    core.finish(1, &client, 0.1, 0.1);
    assert_eq!(core.next(millis(110)).map(|n| n.wake), Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Random arrivals, ends, leaves and clock steps (about 10^5 arrivals in all) against a plain list:
    /// nobody is lost or served twice, late or out of the client's order; no free slot while somebody
    /// may run; everything is given back.
    #[test]
    fn nobody_is_lost(slots in 1usize..6, steps in prop::collection::vec((0u8..8, 0usize..3, 0u8..4, 0u64..400), 100..600)) {
        let mut core: Core<u64> = Core::new(slots, &tiers(), Bounds { waiting: 60, waiting_per_client: 20, ..BOUNDS });
        let mut waiting: Vec<(u64, usize, Principal, Place, Duration)> = Vec::new();
        let mut running: Vec<(usize, Principal)> = Vec::new();
        let (mut at, mut number) = (Duration::ZERO, 0u64);
        for (what, tier, client, amount) in steps {
            let client: Principal = format!("c{client}").as_str().into();
            match what {
                0..4 => {
                    number += 1;
                    let max_wait = Duration::from_millis(amount * 5);
                    let ask = Ask { tier, client: &client, cost: 0.1, offset_millis: amount as i64, max_wait };
                    match core.enter(&ask, at, || number) {
                        Entered::Granted => running.push((tier, client.clone())),
                        Entered::Waits { place, .. } => waiting.push((number, tier, client.clone(), place, at + max_wait)),
                        Entered::Full => {
                            let own = waiting.iter().filter(|w| (w.1, &w.2) == (tier, &client)).count();
                            prop_assert!(waiting.len() >= 60 || own >= 20);
                        }
                    }
                }
                4 | 5 if !running.is_empty() => {
                    let (tier, client) = running.swap_remove(amount as usize % running.len());
                    core.finish(tier, &client, 0.1, amount as f64 / 1000.0);
                }
                6 if !waiting.is_empty() => {
                    let (_, tier, client, place, _) = waiting.swap_remove(amount as usize % waiting.len());
                    prop_assert!(core.leave(tier, &client, place));
                    prop_assert!(!core.leave(tier, &client, place));
                }
                _ => at += Duration::from_millis(amount),
            }
            while let Some(next) = core.next(at) {
                let found = waiting.iter().position(|w| w.0 == next.wake);
                prop_assert!(found.is_some(), "served twice or after leaving");
                let served = waiting.swap_remove(found.unwrap());
                prop_assert!(served.4 > at, "served late");
                let earlier = |w: &&(u64, usize, Principal, Place, Duration)| w.1 == served.1 && w.2 == served.2 && w.3 < served.3 && w.4 > at;
                prop_assert!(waiting.iter().find(earlier).is_none(), "out of order");
                running.push((next.tier, next.client));
            }
            // Those that were past their time may have been dropped on the way.
            waiting.retain(|w| w.4 > at || core.tiers[w.1].clients.get(&w.2).is_some_and(|c| c.line.contains_key(&w.3)));
            prop_assert_eq!(core.in_use, running.len());
            prop_assert_eq!(core.waiting, waiting.len());
            prop_assert!(core.in_use <= slots);
            for tier in 0..3 {
                prop_assert!(core.tiers[tier].waiting == 0 || !core.may_run(tier, at), "a free slot and a waiter");
            }
        }
        for (_, tier, client, place, _) in waiting {
            core.leave(tier, &client, place);
        }
        for (tier, client) in running {
            core.finish(tier, &client, 0.1, 0.1);
        }
        prop_assert_eq!((core.in_use, core.waiting), (0, 0));
        prop_assert!(core.tiers.iter().all(|t| t.ready.is_empty() && t.in_use == 0 && t.waiting == 0));
    }
}
