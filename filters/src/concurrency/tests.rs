use super::*;
use crate::call::{Call, Message, RpcMethod};
use crate::testing::request;

fn filter(over: OverConcurrency) -> Arc<Concurrency> {
    let rule = ConcurrencyRule {
        max_requests: 2,
        max_streams: 4,
        over,
        max_wait: Duration::from_secs(5),
    };
    let config = ConcurrencyConfig {
        tiers: HashMap::new(),
        clients: HashMap::new(),
        default: rule,
    };
    Arc::new(Concurrency::new(config, ConcurrencyStore::new(1000)))
}

async fn enter(filter: &Concurrency, change: impl FnOnce(&mut Request)) -> Result<Request, Reason> {
    let mut req = request("a", "free");
    change(&mut req);
    match filter.on_request(&mut req).await {
        Verdict::Continue => Ok(req),
        Verdict::Reply(reply) => Err(reply.reason),
    }
}

fn usage(filter: &Concurrency) -> (usize, usize, usize) {
    filter.store.usage(&Principal::of("i", "a"))
}

fn method(name: &str) -> Call {
    Call::Single(Message::Request {
        method: RpcMethod::new(name),
        name: None,
    })
}

#[tokio::test(start_paused = true)]
async fn above_the_cap_a_request_is_refused_or_waits_for_a_place() {
    let refuse = filter(OverConcurrency::Refuse);
    let (one, _two) = (
        enter(&refuse, |_| ()).await.unwrap(),
        enter(&refuse, |_| ()).await.unwrap(),
    );
    assert_eq!(
        enter(&refuse, |_| ()).await.err(),
        Some(Reason::TooManyConcurrent)
    );
    drop(one);
    assert!(enter(&refuse, |_| ()).await.is_ok());

    let queue = filter(OverConcurrency::Queue);
    let (one, two) = (
        enter(&queue, |_| ()).await.unwrap(),
        enter(&queue, |_| ()).await.unwrap(),
    );
    let waiting = Arc::clone(&queue);
    let third = tokio::spawn(async move { enter(&waiting, |_| ()).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(usage(&queue), (2, 0, 1));
    drop(one);
    let third = third.await.unwrap().unwrap();
    assert_eq!(third.waited, Duration::from_secs(1));
    assert_eq!(usage(&queue), (2, 0, 0));
    drop((two, third));
    assert_eq!(usage(&queue), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_and_the_line_is_bounded() {
    let filter = filter(OverConcurrency::Queue);
    let _held = (
        enter(&filter, |_| ()).await.unwrap(),
        enter(&filter, |_| ()).await.unwrap(),
    );
    assert_eq!(enter(&filter, |_| ()).await.err(), Some(Reason::QueueTimeout));
    assert_eq!(usage(&filter), (2, 0, 0));
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..MAX_WAITING {
        let filter = Arc::clone(&filter);
        waiters.spawn(async move { enter(&filter, |_| ()).await.err() });
    }
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(enter(&filter, |_| ()).await.err(), Some(Reason::QueueFull));
    waiters.shutdown().await;
    assert_eq!(
        usage(&filter),
        (2, 0, 0),
        "waiters that leave give up their place"
    );
}

#[tokio::test(start_paused = true)]
async fn a_place_granted_to_a_waiter_that_left_goes_to_the_next() {
    let filter = filter(OverConcurrency::Queue);
    let one = enter(&filter, |_| ()).await.unwrap();
    let _two = enter(&filter, |_| ()).await.unwrap();
    let mut first = Box::pin(enter(&filter, |_| ()));
    let mut second = Box::pin(enter(&filter, |_| ()));
    assert!(futures_pending(&mut first).await && futures_pending(&mut second).await);
    drop(one); // granted to `first`, which has not been polled since
    drop(first);
    assert!(second.await.is_ok());
}

async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending()))
        .await
}

#[tokio::test(start_paused = true)]
async fn control_passes_calls_by_two_seconds_and_no_more() {
    let filter = filter(OverConcurrency::Queue);
    let mut held = vec![
        enter(&filter, |_| ()).await.unwrap(),
        enter(&filter, |_| ()).await.unwrap(),
    ];
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for (delay, name) in [
        (0, "tools/call"),
        (2500, "tools/list"),
        (2600, "tools/call"),
        (2700, "ping"),
    ] {
        let (filter, order) = (Arc::clone(&filter), Arc::clone(&order));
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let entered = enter(&filter, |r| r.call = method(name)).await;
            order.lock().push((delay, name));
            drop(entered);
        });
    }
    tokio::time::sleep(Duration::from_millis(3000)).await;
    held.pop();
    while tasks.join_next().await.is_some() {}
    let names = [
        (0, "tools/call"),
        (2700, "ping"),
        (2600, "tools/call"),
        (2500, "tools/list"),
    ];
    assert_eq!(*order.lock(), names);
}

#[tokio::test(start_paused = true)]
async fn streams_have_a_pool_of_their_own_and_cancellations_need_none() {
    let filter = filter(OverConcurrency::Refuse);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(enter(&filter, |r| r.wants_stream = true).await.unwrap());
    }
    assert_eq!(
        enter(&filter, |r| r.wants_stream = true).await.err(),
        Some(Reason::TooManyConcurrent)
    );
    held.push(enter(&filter, |_| ()).await.unwrap());
    held.push(enter(&filter, |_| ()).await.unwrap());
    let cancel = Call::Single(Message::Notification {
        method: RpcMethod::new("notifications/cancelled"),
    });
    assert!(
        enter(&filter, |r| r.call = cancel)
            .await
            .unwrap()
            .permits
            .is_empty()
    );
    assert_eq!(usage(&filter), (2, 4, 0));
    drop(held);
    assert_eq!(usage(&filter), (0, 0, 0));
}
