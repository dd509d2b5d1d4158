//! A hundred servers started and ended in every way leave no zombie, no orphan and no open descriptor.
//! One test: it counts the children and descriptors of the whole process.

#![allow(clippy::indexing_slicing, reason = "test code")]

mod stdio_support;

use std::fmt::Debug;

use mcp_sidecar::stdio::{Exit, Started, orphans};
use rustix::process::Signal;
use stdio_support::*;

/// A server with a child in its group and one in another session.
const SERVER: &str = r#"
sleep 1000 &
setsid sleep 1000 &
echo "{\"guard\":$PPID,\"server\":$$,\"child\":$!}"
cat > /dev/null"#;

#[derive(Clone, Copy, Debug)]
enum End {
    /// Before the guard has even got ready.
    DropAtOnce,
    Drop,
    Stop,
    KillServer,
    KillGuard,
}

async fn one_life(end: End) {
    let Started {
        process,
        stdin,
        mut stdout,
    } = start(&sh(SERVER), &patient());
    let exited = process.exited();
    if let End::DropAtOnce = end {
        drop(process);
        // SIGUSR1 meets the guard with or without its handler.
        assert!(matches!(exited.await, Exit::Signal(9) | Exit::GuardKilled(10)));
        return;
    }
    let pids = pids(&mut stdout).await;
    match end {
        End::DropAtOnce | End::Drop => drop(process),
        End::Stop => {
            drop(stdin);
            assert_eq!(process.stop().await, Exit::Code(0));
        }
        End::KillServer => signal(pids["server"], Signal::KILL),
        End::KillGuard => signal(pids["guard"], Signal::KILL),
    }
    let expected = match end {
        End::Stop => Exit::Code(0),
        End::KillGuard => Exit::GuardKilled(9),
        _ => Exit::Signal(9),
    };
    assert_eq!(exited.await, expected, "{end:?}");
    assert!(pids.values().all(|&pid| gone(pid)), "{end:?}: {pids:?}");
}

#[tokio::test]
async fn after_a_hundred_cycles() {
    let me = std::process::id();
    let _adoption = orphans::adopt().unwrap();
    // The runtime opens its own descriptors with the first child.
    one_life(End::Stop).await;
    let before = descriptors(me);
    for cycle in 0..20 {
        for end in [
            End::DropAtOnce,
            End::Drop,
            End::Stop,
            End::KillServer,
            End::KillGuard,
        ] {
            one_life(end).await;
            assert_eq!(children(me), [], "cycle {cycle}: {end:?}");
            let now = descriptors(me);
            assert_eq!(
                now.len(),
                before.len(),
                "cycle {cycle}, {end:?}: {before:?} became {now:?}"
            );
        }
    }
}
