//! Which of several equal endpoints a request goes to.
//!
//! Both rules look at a list once or twice, lock nothing and allocate nothing. They see only endpoints that the caller's
//! `admits` lets through; its answer may change between two looks, which costs at worst a less even choice.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::endpoint::Endpoint;
use super::random::mix;

/// Rendezvous hashing: every client has its own order of the endpoints and takes the first that is admitted. A change of
/// the list moves only the clients of the endpoint that came or went.
pub(crate) fn rendezvous<'e>(
    endpoints: &'e [Arc<Endpoint>],
    client: &str,
    admits: impl Fn(&Endpoint) -> bool,
) -> Option<&'e Arc<Endpoint>> {
    endpoints
        .iter()
        .filter(|endpoint| admits(endpoint))
        .max_by_key(|endpoint| xxh3_64_with_seed(client.as_bytes(), endpoint.seed()))
}

/// The power of two choices: of two picked at random, the one with fewer requests under way. `draw` is any number that
/// differs from call to call.
pub(crate) fn two_choices(
    endpoints: &[Arc<Endpoint>],
    draw: u64,
    admits: impl Fn(&Endpoint) -> bool,
) -> Option<&Arc<Endpoint>> {
    let admitted = || endpoints.iter().filter(|endpoint| admits(endpoint));
    let count = admitted().count();
    if count < 2 {
        return admitted().next();
    }
    let draw = mix(draw);
    let first = (draw >> 32) as usize % count;
    let step = 1 + (draw & 0xffff_ffff) as usize % (count - 1);
    let second = (first + step) % count;
    let at = |n: usize| admitted().nth(n).or_else(|| admitted().next());
    match (at(first), at(second)) {
        (Some(a), Some(b)) if b.inflight() < a.inflight() => Some(b),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::upstream::{EndpointAddr, EndpointId, EndpointSpec};

    fn endpoints(n: u32) -> Vec<Arc<Endpoint>> {
        (0..n)
            .map(|replica| {
                let spec = EndpointSpec {
                    id: EndpointId::random(),
                    addr: EndpointAddr::Unix(Path::new("/nowhere").into()),
                    authorization: None,
                    seed: u64::from(replica),
                    learns_id: false,
                };
                Arc::new(Endpoint::new(spec, replica, Duration::from_secs(1)))
            })
            .collect()
    }

    fn home(list: &[Arc<Endpoint>], client: &str) -> u32 {
        rendezvous(list, client, |_| true).unwrap().replica()
    }

    #[test]
    fn a_client_keeps_its_endpoint_and_clients_spread() {
        let list = endpoints(4);
        let mut counts = HashMap::new();
        for n in 0..4000 {
            let client = format!("client-{n}");
            assert_eq!(home(&list, &client), home(&list, &client));
            *counts.entry(home(&list, &client)).or_insert(0) += 1;
        }
        assert!(counts.values().all(|&n| (800..1200).contains(&n)), "{counts:?}");
    }

    #[test]
    fn losing_an_endpoint_moves_only_its_clients() {
        let list = endpoints(4);
        for n in 0..1000 {
            let client = format!("client-{n}");
            let before = home(&list, &client);
            let after = rendezvous(&list, &client, |e| e.replica() != 2)
                .unwrap()
                .replica();
            assert_ne!(after, 2);
            assert!(
                before == 2 || before == after,
                "{client} moved from {before} to {after}"
            );
        }
    }

    #[test]
    fn the_next_incarnation_of_a_replica_keeps_its_clients() {
        let (old, new) = (endpoints(3), endpoints(3));
        for n in 0..100 {
            let client = format!("client-{n}");
            assert_eq!(home(&old, &client), home(&new, &client));
        }
    }

    #[test]
    fn two_choices_avoid_the_busiest() {
        let list = endpoints(3);
        for _ in 0..10 {
            list[1].enter();
        }
        for draw in 0..1000 {
            assert_ne!(two_choices(&list, draw, |_| true).unwrap().replica(), 1);
        }
    }

    #[test]
    fn two_choices_reach_every_idle_endpoint() {
        let list = endpoints(5);
        let mut counts = [0; 5];
        for draw in 0..5000 {
            counts[two_choices(&list, draw, |_| true).unwrap().replica() as usize] += 1;
        }
        assert!(counts.iter().all(|n| (700..1300).contains(n)), "{counts:?}");
    }

    #[test]
    fn nothing_admitted_is_nothing_chosen() {
        let list = endpoints(3);
        assert!(two_choices(&list, 7, |_| false).is_none());
        assert!(rendezvous(&list, "a", |_| false).is_none());
        assert_eq!(two_choices(&list, 7, |e| e.replica() == 2).unwrap().replica(), 2);
        assert!(two_choices(&[], 7, |_| true).is_none());
    }
}
