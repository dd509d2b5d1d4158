//! A server's children and grandchildren end with it, whichever way it ends.

mod stdio_support;

use mcp_sidecar::stdio::{Exit, ServerCommand};
use rustix::process::Signal;
use stdio_support::*;

/// Like `npx`: a shell that starts a shell that starts a program, each waiting for the next. The innermost one ignores
/// what it can.
fn tree() -> ServerCommand {
    sh(r#"sh -c '
            sh -c "trap \"\" TERM HUP INT; while :; do sleep 1000; done" &
            echo "{\"server\":$PPID,\"child\":$$,\"grandchild\":$!}"
            wait
          ' & cat > /dev/null; exit 7"#)
}

#[tokio::test]
async fn when_the_server_follows_the_end_of_its_stdin() {
    let mut started = start(&tree(), &patient());
    let pids = pids(&mut started.stdout).await;
    assert_eq!(pids.len(), 3);
    assert!(pids.values().all(|&pid| !gone(pid)));
    drop(started.stdin);
    assert_eq!(started.process.stop().await, Exit::Code(7));
    assert!(pids.values().all(|&pid| gone(pid)), "{pids:?}");
}

#[tokio::test]
async fn when_the_handle_is_dropped() {
    let mut started = start(&tree(), &patient());
    let pids = pids(&mut started.stdout).await;
    let exited = started.process.exited();
    drop(started.process);
    assert_eq!(exited.await, Exit::Signal(9));
    assert!(pids.values().all(|&pid| gone(pid)), "{pids:?}");
    assert_eq!(next_line(&mut started.stdout).await, None);
}

#[tokio::test]
async fn when_the_server_is_killed() {
    let mut started = start(&tree(), &patient());
    let pids = pids(&mut started.stdout).await;
    signal(pids["server"], Signal::KILL);
    assert_eq!(started.process.exited().await, Exit::Signal(9));
    assert!(pids.values().all(|&pid| gone(pid)), "{pids:?}");
}

#[tokio::test]
async fn when_the_future_of_a_stop_is_dropped() {
    let mut started = start(&tree(), &patient());
    let pids = pids(&mut started.stdout).await;
    let exited = started.process.exited();
    // Stdin stays open, so the stop waits; dropping it must not leave the server running.
    let stop = tokio::spawn(started.process.stop());
    tokio::task::yield_now().await;
    stop.abort();
    assert_eq!(exited.await, Exit::Signal(9));
    assert!(pids.values().all(|&pid| gone(pid)), "{pids:?}");
}
