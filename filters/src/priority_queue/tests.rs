use super::*;
use crate::circuit_breaker::{BreakerConfig, BreakerStore, CircuitBreaker};
use crate::testing::request;
use std::pin::Pin;
use std::task::Poll;

fn config(slots: usize) -> QueueConfig {
    let tier = |name: &str, weight, wait| QueueTier {
        name: name.into(),
        weight,
        max_share: 1.0,
        max_wait: Duration::from_secs(wait),
    };
    QueueConfig {
        services: HashMap::from([("files".into(), slots)]),
        tiers: vec![tier("free", 1.0, 2), tier("enterprise", 16.0, 10)],
        max_waiting: 1000,
        max_waiting_per_client: 100,
        newest_first_on_overload: true,
    }
}

fn filter(slots: usize) -> Arc<PriorityQueue> {
    Arc::new(PriorityQueue::new(&config(slots), Arc::default()))
}

async fn enter(filter: &PriorityQueue, client: &str, tier: &str) -> Result<Request, Reason> {
    let mut req = request(client, tier);
    match filter.on_request(&mut req).await {
        Verdict::Continue => Ok(req),
        Verdict::Reply(reply) => Err(reply.reason),
    }
}

fn in_use(filter: &PriorityQueue) -> (usize, usize) {
    let snapshot = &filter.store.snapshot()[0];
    (
        snapshot.in_use,
        snapshot.tiers.iter().map(|tier| tier.waiting).sum(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_slot_and_its_wait_is_counted() {
    let filter = filter(1);
    let held = enter(&filter, "a", "free").await.unwrap();
    assert_eq!(held.waited, Duration::ZERO);
    let waits = Arc::clone(&filter);
    let waiter = tokio::spawn(async move { enter(&waits, "b", "enterprise").await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let tier = &filter.store.snapshot()[0].tiers[1];
    assert_eq!((tier.waiting, tier.oldest_wait), (1, Duration::from_millis(700)));
    drop(held);
    let got = waiter.await.unwrap().unwrap();
    assert_eq!(got.waited, Duration::from_millis(700));
    drop(got);
    assert_eq!(in_use(&filter), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waits_end_at_the_tiers_limit_or_the_clients_own() {
    let filter = filter(1);
    let _held = enter(&filter, "a", "free").await.unwrap();
    for (tier, own, expected) in [
        ("free", None, 2000),
        ("enterprise", None, 10_000),
        ("free", Some(300), 300),
    ] {
        let mut req = request(&format!("c{expected}"), tier);
        req.max_wait = own.map(Duration::from_millis);
        let Verdict::Reply(reply) = filter.on_request(&mut req).await else {
            panic!("granted")
        };
        assert_eq!(
            (reply.reason, req.waited),
            (Reason::QueueTimeout, Duration::from_millis(expected))
        );
    }
    assert_eq!(in_use(&filter), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn more_slots_wake_waiters_and_streams_need_none() {
    let filter = filter(0);
    let waits = Arc::clone(&filter);
    let waiter = tokio::spawn(async move { enter(&waits, "a", "free").await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut stream = request("b", "free");
    stream.wants_stream = true;
    assert!(matches!(filter.on_request(&mut stream).await, Verdict::Continue));
    assert!(filter.store.set_slots(&"files".into(), 1));
    assert_eq!(waiter.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_breaker_is_asked_again_when_the_slot_is_granted() {
    let filter = filter(1);
    let breakers = Arc::new(BreakerStore::default());
    let breaker_config = BreakerConfig {
        min_calls: 1,
        ..Default::default()
    };
    let breaker = CircuitBreaker::new(HashMap::from([("files".into(), breaker_config)]), breakers);
    let mut failing = request("a", "free");
    assert!(matches!(
        breaker.on_request(&mut failing).await,
        Verdict::Continue
    ));
    assert!(matches!(filter.on_request(&mut failing).await, Verdict::Continue));
    let mut waiting = request("b", "free");
    assert!(matches!(
        breaker.on_request(&mut waiting).await,
        Verdict::Continue
    ));
    let waits = Arc::clone(&filter);
    let waiter = tokio::spawn(async move {
        match waits.on_request(&mut waiting).await {
            Verdict::Continue => None,
            Verdict::Reply(reply) => Some(reply.reason),
        }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    failing.permits.get::<BreakerPermit>().unwrap().failed();
    drop(failing);
    assert_eq!(waiter.await.unwrap(), Some(Reason::CircuitOpen));
    assert_eq!(in_use(&filter), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_who_runs_and_who_waits() {
    let filter = filter(1);
    let held = enter(&filter, "a", "free").await.unwrap();
    let waits = Arc::clone(&filter);
    let waiter = tokio::spawn(async move { enter(&waits, "b", "free").await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let reloaded = PriorityQueue::new(&config(1), Arc::clone(&filter.store));
    assert_eq!(in_use(&reloaded), (1, 1));
    drop(held);
    assert_eq!(waiter.await.unwrap(), Ok(()));
}

/// A waiter as a future that the test polls and drops by hand.
type Waiter = Pin<Box<dyn Future<Output = Result<Request, Reason>>>>;

async fn poll(waiter: &mut Waiter) -> Option<Result<Request, Reason>> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match waiter.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

/// Every order of arrive, look, leave and release, for three requests and one slot: 9^6 sequences. The
/// slot is never held twice, never lost, and never idle while somebody waits.
#[tokio::test(start_paused = true)]
async fn every_order_of_grant_and_leave() {
    const STEPS: u32 = 6;
    let filter = filter(1);
    for sequence in 0..9u32.pow(STEPS) {
        let mut waiters: [Option<Waiter>; 3] = [None, None, None];
        let mut running: [Option<Request>; 3] = [None, None, None];
        let mut code = sequence;
        for _ in 0..STEPS {
            let (who, what) = ((code % 3) as usize, code / 3 % 3);
            code /= 9;
            match what {
                // Arrive, or look whether the slot has come.
                0 if running[who].is_none() => {
                    let owned = Arc::clone(&filter);
                    let mut waiter = waiters[who]
                        .take()
                        .unwrap_or_else(|| Box::pin(async move { enter(&owned, "c", "free").await }));
                    match poll(&mut waiter).await {
                        Some(done) => running[who] = Some(done.unwrap()),
                        None => waiters[who] = Some(waiter),
                    }
                }
                1 => waiters[who] = None,
                2 => running[who] = None,
                _ => {}
            }
            let held = running.iter().flatten().count();
            let (in_use, waiting) = in_use(&filter);
            assert!(held <= 1, "{sequence}");
            assert!(
                in_use == 1 || waiting == 0,
                "an idle slot and a waiter in {sequence}"
            );
            let asleep = waiters.iter().flatten().count();
            assert_eq!(
                in_use - held,
                asleep - waiting,
                "granted but not yet seen, in {sequence}"
            );
        }
        drop((waiters, running));
        assert_eq!(in_use(&filter), (0, 0), "{sequence}");
    }
}

/// The same with real threads: 20,000 requests that hold, wait or leave at random.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_race_lose_no_slot() {
    let filter = filter(3);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..40u32 {
        let filter = Arc::clone(&filter);
        tasks.spawn(async move {
            for i in 0..500u32 {
                let leaves = (task + i) % 3 == 0;
                let entering = enter(&filter, "c", if i % 2 == 0 { "free" } else { "enterprise" });
                if leaves {
                    let mut entering: Waiter2<'_> = Box::pin(entering);
                    let _ =
                        std::future::poll_fn(|cx| Poll::Ready(entering.as_mut().poll(cx).is_ready())).await;
                    tokio::task::yield_now().await;
                } else if let Ok(req) = entering.await {
                    tokio::task::yield_now().await;
                    drop(req);
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(in_use(&filter), (0, 0));
}

type Waiter2<'a> = Pin<Box<dyn Future<Output = Result<Request, Reason>> + Send + 'a>>;
