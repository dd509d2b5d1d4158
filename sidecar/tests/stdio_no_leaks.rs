//! A hundred servers started and ended in every way leave no zombie, no orphan and no open descriptor.
//! One test: it counts the children and descriptors of the whole process.

mod stdio_support;

use mcp_sidecar::stdio::{Exit, orphans};
use rustix::process::Signal;
use stdio_support::*;

const SERVER: &str = r#"sleep 1000 & setsid sleep 1000 & echo "{\"guard\":$PPID,\"server\":$$,\"child\":$!}"; cat > /dev/null"#;

#[tokio::test]
async fn after_a_hundred_cycles() {
    let me = std::process::id();
    let _adoption = orphans::adopt().unwrap();
    let mut before = None;
    for cycle in 0..100 {
        let mut started = start(&sh(SERVER), &patient());
        let exited = started.process.exited();
        if cycle % 5 == 0 {
            // Before the guard has even got ready.
            drop(started);
            assert!(matches!(exited.await, Exit::Signal(9) | Exit::GuardKilled(10)));
        } else {
            let pids = pids(&mut started.stdout).await;
            let exit = match cycle % 5 {
                1 => {
                    drop(started.stdin);
                    started.process.stop().await
                }
                2 => {
                    drop(started);
                    exited.await
                }
                3 => {
                    signal(pids["server"], Signal::KILL);
                    exited.await
                }
                _ => {
                    signal(pids["guard"], Signal::KILL);
                    exited.await
                }
            };
            let expected = [
                Exit::Code(0),
                Exit::Signal(9),
                Exit::Signal(9),
                Exit::GuardKilled(9),
            ];
            assert_eq!(exit, expected[cycle % 5 - 1]);
            assert!(pids.values().all(|&pid| gone(pid)), "cycle {cycle}: {pids:?}");
        }
        assert_eq!(children(me), [], "cycle {cycle}");
        // The runtime opens its own descriptors with the first child.
        let open = descriptors(me).len();
        assert_eq!(
            *before.get_or_insert(open),
            open,
            "cycle {cycle}: {:?}",
            descriptors(me)
        );
    }
}
