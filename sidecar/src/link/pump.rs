//! Moves lines between a link and its process until one of them ends.
//!
//! Invariant: reading never waits for writing, because a server that is blocked on its own output would
//! not read. When the pump returns, every call of the link has been answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Down, Link, Outgoing, Tenant};
use crate::metrics::Metrics;
use crate::stdio::{Line, LineReader, ServerInput};

/// How long a server that has closed its stdin may still answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How the exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The sidecar stopped it.
    Stopped,
    /// The server closed its output or its input.
    Closed,
}

/// The two directions of a link.
#[derive(Debug)]
pub(crate) struct Pump {
    link: Arc<Link>,
    queue: mpsc::Receiver<Outgoing>,
}

impl Pump {
    /// A link with its pump; `max_message` bounds what may wait for the server, in bytes.
    pub(crate) fn new(
        number: u64,
        tenant: Tenant,
        max_message: usize,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Link>, Self) {
        let (link, queue) = Link::new(number, tenant, max_message, metrics);
        (Arc::clone(&link), Self { link, queue })
    }

    /// Runs until the server ends or the link is stopped. On an unforeseen end `why` makes the answer to the calls
    /// under way. Both ends of the pipes are closed on return.
    pub(crate) async fn run(
        mut self,
        mut stdin: ServerInput,
        mut stdout: LineReader,
        why: impl FnOnce(&Link) -> Down,
    ) -> Ended {
        let link = &self.link;
        let read = async {
            while let Some(line) = stdout.next().await {
                match line {
                    Line::Message(line) => link.incoming(line),
                    Line::Junk(line) => link.junk(&String::from_utf8_lossy(&line)),
                    Line::TooLong { prefix, len } => link.oversized(&prefix, len),
                }
            }
        };
        let queue = &mut self.queue;
        let write = async {
            while let Some(outgoing) = queue.recv().await {
                if let Err(error) = stdin.write(outgoing.payload.parts()).await {
                    tracing::debug!(process = link.number, %error, "cannot write to the server");
                    break;
                }
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        let ended = tokio::select! {
            () = read => Ended::Closed,
            () = write => Ended::Closed,
            () = link.stop.cancelled() => Ended::Stopped,
        };
        if ended == Ended::Closed {
            let down = why(link);
            link.go_down(down);
        }
        ended
    }
}
