//! Finds out at the start, and again after trouble, whether the command works and which era it speaks.
//!
//! Invariant: exactly one task verifies; it never gives up, and waits out the backoff between its tries.

use std::sync::Arc;
use std::time::Duration;

use super::health::State;
use super::slot::{NoLink, Role, Slot};
use super::{Isolation, Processes, start};
use crate::link::{Ask, Down, Era};

/// Longest wait for the answer to a deep health check of a live process.
const DEEP: Duration = Duration::from_secs(5);

impl Processes {
    /// The task that keeps the health up to date, until the sidecar stops.
    pub(crate) async fn watch_health(self: Arc<Self>) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(async {
            loop {
                self.verify().await;
                if self.health.status().state == State::Healthy {
                    self.health.doubt.notified().await;
                }
                let (_, wait) = self.restart_delay();
                tokio::time::sleep(wait.max(Duration::from_millis(100))).await;
            }
        })
        .await;
    }

    /// Starts the command once and says how that went. A modern process is kept for the first client.
    async fn verify(self: &Arc<Self>) {
        let _only_one = self.verifying.lock().await;
        let slot = Slot::new(Role::Probe);
        let mut result = self.link(&slot).await;
        if matches!(&result, Err(NoLink::Unstartable { .. }))
            && self.health.status().state != State::Unhealthy
        {
            // It started and did not survive the probe: perhaps it only bears `initialize`.
            let check = Slot::new(Role::Check);
            result = self.link(&check).await;
            if let Ok(link) = &result {
                self.health.set_era(Era::Legacy);
                link.stop(Down::Idle);
                result = Err(NoLink::LegacyOnly);
            }
        }
        match result {
            Ok(_) => {
                self.keep(slot);
                self.health.well();
            }
            Err(NoLink::LegacyOnly) => self.health.well(),
            // Full house or shutdown says nothing about the command.
            Err(NoLink::NoProcess { .. } | NoLink::Down(Down::Draining)) => {}
            // Said with its stderr already.
            Err(_) if self.health.status().state == State::Unhealthy => {}
            Err(why) => {
                let stderr = self.backoff.lock().stderr.clone();
                self.health.ill(why.to_string(), stderr);
            }
        }
    }

    /// Keeps a modern process that nobody uses yet.
    fn keep(&self, slot: Arc<Slot>) {
        let mut places = self.places.lock();
        let shared: Arc<str> = Arc::from("");
        match self.settings.isolation {
            Isolation::Shared if !places.modern.contains_key(&shared) => {
                places.modern.insert(shared, slot);
            }
            Isolation::Client if places.spare.is_none() => places.spare = Some(slot),
            Isolation::Shared | Isolation::Client => {
                drop(places);
                if let Some(link) = slot.live() {
                    link.stop(Down::Idle);
                }
            }
        }
    }

    /// Asks a live process whether it answers; without one, verifies with a fresh one.
    pub(crate) async fn ask_deep(self: &Arc<Self>) -> Result<(), String> {
        let running: Vec<_> = self.places.lock().running.values().cloned().collect();
        let live = running
            .into_iter()
            .find(|(slot, link)| slot.live().is_some() && !link.stopping());
        let Some((_, link)) = live else {
            self.verify().await;
            let status = self.health.status();
            return match status.state {
                State::Healthy => Ok(()),
                State::Starting | State::Unhealthy => Err(status.reason.unwrap_or_default()),
            };
        };
        let question = if link.era() == Era::Modern {
            start::discover()
        } else {
            "\"method\":\"ping\"".to_owned()
        };
        match link.ask(&question, DEEP).await {
            // An error is an answer, too.
            Ok(_) => Ok(()),
            Err(error @ (Ask::Timeout(_) | Ask::Down(_))) => Err(error.to_string()),
        }
    }
}
