//! Stops what nobody has used for `idle_stop`: processes, and legacy sessions (their clients hardly ever
//! send DELETE, so without this both would grow for ever).

use std::sync::Arc;
use std::time::Duration;

use super::Processes;
use crate::link::Down;
use crate::session::Sessions;

impl Processes {
    /// The task that sweeps, until the sidecar stops.
    pub(crate) async fn sweep(self: Arc<Self>, sessions: Arc<Sessions>) {
        let Some(idle) = self.settings.idle_stop else {
            return;
        };
        let tick = (idle / 4).clamp(Duration::from_millis(20), Duration::from_secs(30));
        let stop = self.stop.clone();
        stop.run_until_cancelled(async {
            loop {
                tokio::time::sleep(tick).await;
                self.sweep_once(&sessions, idle);
            }
        })
        .await;
    }

    fn sweep_once(&self, sessions: &Sessions, idle: Duration) {
        for session in sessions.all() {
            let link = session.slot().and_then(|slot| slot.live());
            let calling = link.as_ref().is_some_and(|link| link.serves(&session));
            if session.idle_for() >= idle && !calling && sessions.close(&session) {
                tracing::info!(session = session.id(), "ended an idle session");
                self.metrics
                    .sessions
                    .set(i64::try_from(sessions.len()).unwrap_or(i64::MAX));
                self.release(&session);
            }
        }
        let running: Vec<_> = self.places.lock().running.values().cloned().collect();
        for (slot, link) in running {
            if link.idle_for() >= idle && !link.stopping() {
                tracing::info!(process = link.number(), "stopping an idle process");
                slot.vacate();
                link.stop(Down::Idle);
            }
        }
        let mut places = self.places.lock();
        places.modern.retain(|_, slot| !slot.vacant());
        if places.spare.as_ref().is_some_and(|slot| slot.vacant()) {
            places.spare = None;
        }
    }
}
