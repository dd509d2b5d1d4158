//! Whether the command works, and which era it speaks, as `/health` reports it.
//!
//! Invariant: `healthy` means that a process of this command answered; `starting` only lasts until the
//! first verification has ended, well or not.

use tokio::sync::{Notify, watch};

use crate::link::Era;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Healthy,
    Unhealthy,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) era: Option<Era>,
    pub(crate) reason: Option<String>,
    /// Last lines of stderr of the process that failed.
    pub(crate) stderr: Vec<String>,
}

/// Lines of stderr that `/health` shows.
const STDERR_LINES: usize = 20;

#[derive(Debug)]
pub(crate) struct Health {
    status: watch::Sender<Status>,
    /// Somebody saw a crash loop: verify again.
    pub(super) doubt: Notify,
}

impl Default for Health {
    fn default() -> Self {
        let status = Status {
            state: State::Starting,
            era: None,
            reason: None,
            stderr: Vec::new(),
        };
        Self {
            status: watch::Sender::new(status),
            doubt: Notify::new(),
        }
    }
}

impl Health {
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The era, if it is known.
    pub(crate) fn era(&self) -> Option<Era> {
        self.status.borrow().era
    }

    pub(super) fn set_era(&self, era: Era) {
        self.status.send_modify(|status| status.era = Some(era));
    }

    pub(super) fn well(&self) {
        self.status.send_modify(|status| {
            status.state = State::Healthy;
            status.reason = None;
            status.stderr.clear();
        });
    }

    pub(super) fn ill(&self, reason: String, mut stderr: Vec<String>) {
        tracing::error!(reason, "the MCP server is unhealthy");
        let cut = stderr.len().saturating_sub(STDERR_LINES);
        stderr.drain(..cut);
        self.status.send_modify(|status| {
            status.state = State::Unhealthy;
            status.reason = Some(reason);
            status.stderr = stderr;
        });
    }

    /// The status as soon as the era is known or the command has failed.
    pub(super) async fn settled(&self) -> Status {
        let mut status = self.status.subscribe();
        let known = status
            .wait_for(|s| s.era.is_some() || s.state == State::Unhealthy)
            .await;
        match known {
            Ok(status) => status.clone(),
            // The sender lives in `self`.
            Err(_) => self.status(),
        }
    }
}
