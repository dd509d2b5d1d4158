//! One process from its start to its end, in one task that owns it.
//!
//! Invariant: whatever happens (no permit, cannot start, silent, dies, stopped), everybody who waits for
//! the place is told, the calls under way are answered before the process is waited for, and the permit
//! is given back only after every descendant is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::slot::{NoLink, Role, Slot};
use super::{PATIENCE, Processes};
use crate::link::{Ask, Down, Ended, Era, Link, Pump};
use crate::message::Message;
use crate::stdio::{Exit, Process, Started};

/// The newest modern revision spoken here.
pub(crate) const MODERN_VERSION: &str = "2026-07-28";
/// Longest wait for the answer to the era probe; slower servers are taken for legacy.
const PROBE: Duration = Duration::from_secs(10);
/// Codes only a modern server answers with (basic/transports/stdio, "Backward Compatibility").
const MODERN_CODES: [&[u8]; 3] = [b"-32020", b"-32021", b"-32022"];

/// Why a process served nobody.
enum Early {
    Ended(Ended),
    Refused(NoLink),
}

impl Processes {
    /// Starts the process of a claimed place and stays with it to its end.
    pub(super) async fn serve(self: Arc<Self>, slot: Arc<Slot>) {
        let permit = match self.admit().await {
            Ok(permit) => permit,
            Err(why) => return slot.fail(why),
        };
        let Started {
            process,
            stdin,
            stdout,
        } = match Process::spawn(&self.settings.command, &self.settings.limits) {
            Ok(started) => started,
            Err(error) => {
                let retry_after = self.died(Duration::ZERO, &error.to_string());
                self.health.ill(error.to_string(), Vec::new());
                return slot.fail(NoLink::Unstartable {
                    why: error.to_string(),
                    retry_after,
                });
            }
        };
        let number = self.next_number();
        let tenant = slot.role().tenant();
        let (link, pump) = Pump::new(number, tenant, self.settings.max_message, &self.metrics);
        self.places
            .lock()
            .running
            .insert(number, (Arc::clone(&slot), Arc::clone(&link)));
        self.metrics.processes.inc();
        if self.stop.is_cancelled() {
            link.stop(Down::Draining);
        }
        tracing::info!(process = number, pid = process.pid(), "started the MCP server");

        // Every unforeseen end counts for the backoff; its delay is what the calls under way are told.
        let why = |link: &Link| {
            slot.vacate();
            let retry_after = self.died(link.uptime(), "it closed its output");
            Down::Restarting {
                why: "it closed its output".into(),
                retry_after,
            }
        };
        let pump = pump.run(stdin, stdout, why);
        tokio::pin!(pump);
        let handshake = {
            let handshake = self.handshake(slot.role(), &link);
            tokio::select! {
                ended = &mut pump => Err(Early::Ended(ended)),
                done = handshake => done.map_err(Early::Refused),
            }
        };
        // What those who wait for the place are told; `Some(None)`: that it died, and how.
        let mut failure = None;
        let ended = match handshake {
            Ok(()) => {
                slot.settle(&link);
                pump.await
            }
            Err(Early::Ended(ended)) => {
                failure = Some(None);
                ended
            }
            Err(Early::Refused(why)) => {
                failure = Some(Some(why));
                link.stop(Down::Idle);
                pump.await
            }
        };
        slot.vacate();
        let exit = self.end(process, &link, ended, slot.role()).await;
        self.places.lock().running.remove(&number);
        self.metrics.processes.dec();
        drop(permit);
        if let Some(why) = failure {
            slot.fail(why.unwrap_or_else(|| {
                let (_, retry_after) = self.restart_delay();
                NoLink::Unstartable {
                    why: exit,
                    retry_after,
                }
            }));
        }
    }

    /// Waits for a short backoff and a permit.
    async fn admit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, NoLink> {
        let (why, wait) = self.restart_delay();
        if wait > PATIENCE {
            return Err(NoLink::Backoff {
                why,
                retry_after: wait,
            });
        }
        if self.stop.is_cancelled() {
            return Err(NoLink::Down(Down::Draining));
        }
        tokio::time::sleep(wait).await;
        self.permit().await
    }

    /// Waits for the process to be gone, and says how it ended.
    async fn end(&self, process: Process, link: &Link, ended: Ended, role: &Role) -> String {
        let stderr = process.stderr();
        let exit = process.stop().await;
        let text = exit.to_string();
        match ended {
            Ended::Stopped => tracing::info!(process = link.number(), exit = text, "stopped the MCP server"),
            Ended::Closed => {
                self.metrics.restarts.inc();
                let last = stderr.lines();
                tracing::warn!(
                    process = link.number(),
                    exit = text,
                    ?last,
                    "the MCP server ended by itself"
                );
                let mut restart = self.backoff.lock();
                restart.why.clone_from(&text);
                restart.stderr.clone_from(&last);
                let verdict = restart.policy.reason(None);
                drop(restart);
                let ill = match (&exit, verdict) {
                    (Exit::NotStarted(_), _) => Some(text.clone()),
                    (_, verdict) => verdict.map(|verdict| format!("{verdict} ({text})")),
                };
                if let Some(reason) = ill {
                    self.health.ill(reason, last);
                    if !matches!(role, Role::Probe | Role::Check) {
                        self.health.doubt.notify_one();
                    }
                }
            }
        }
        text
    }

    /// Counts an unforeseen end; how long the next start has to wait.
    fn died(&self, uptime: Duration, why: &str) -> Duration {
        let now = Instant::now();
        let mut restart = self.backoff.lock();
        let next = restart.policy.on_exit(uptime, now);
        restart.not_before = Some(next.at);
        restart.why = why.to_owned();
        next.delay
    }

    /// Brings a fresh process to where its place needs it.
    async fn handshake(&self, role: &Role, link: &Arc<Link>) -> Result<(), NoLink> {
        let limit = self.settings.start_timeout;
        match role {
            Role::Session(session) => {
                // Without the session nobody is left to talk to it; its first `initialize` is the client's own.
                let Some(session) = session.upgrade() else {
                    return Err(NoLink::Down(Down::SessionEnded));
                };
                if !session.opened() {
                    return Ok(());
                }
                self.answered(link.repeat(session.initialize(), limit).await)?;
                if session.initialized() {
                    link.tell(INITIALIZED.to_owned());
                }
                tracing::info!(process = link.number(), "repeated the handshake of a session");
                Ok(())
            }
            Role::Shared { version, .. } => {
                let answer = self.answered(link.ask(&initialize(version), limit).await)?;
                let Some(result) = answer.result() else {
                    let why = String::from_utf8_lossy(answer.error().unwrap_or_default()).into_owned();
                    return Err(NoLink::Unstartable {
                        why,
                        retry_after: Duration::ZERO,
                    });
                };
                link.set_initialized(result);
                link.tell(INITIALIZED.to_owned());
                Ok(())
            }
            Role::Check => self
                .answered(link.ask(&initialize("2025-11-25"), limit).await)
                .map(drop),
            Role::Modern if self.health.era() == Some(Era::Modern) => Ok(()),
            Role::Modern | Role::Probe => self.probe(link).await,
        }
    }

    /// Asks a fresh process for its era. A modern one may be used afterwards, a legacy one may not.
    async fn probe(&self, link: &Link) -> Result<(), NoLink> {
        let limit = self.settings.start_timeout;
        match link.ask(&discover(), PROBE.min(limit)).await {
            Ok(answer) => {
                let code = answer.raw(answer.fields().error_code);
                let modern = answer.error().is_none() || code.is_some_and(|c| MODERN_CODES.contains(&c));
                self.health
                    .set_era(if modern { Era::Modern } else { Era::Legacy });
                if modern { Ok(()) } else { Err(NoLink::LegacyOnly) }
            }
            // Silence means legacy if it is alive at all.
            Err(Ask::Timeout(_)) => {
                self.answered(link.ask(&initialize("2025-11-25"), limit).await)?;
                self.health.set_era(Era::Legacy);
                Err(NoLink::LegacyOnly)
            }
            Err(Ask::Down(down)) => Err(NoLink::Down(down)),
        }
    }

    fn answered(&self, answer: Result<Message, Ask>) -> Result<Message, NoLink> {
        answer.map_err(|error| match error {
            Ask::Timeout(limit) => NoLink::Silent { limit },
            Ask::Down(down) => NoLink::Down(down),
        })
    }
}

const INITIALIZED: &str = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}";

/// `initialize` of the sidecar itself: a client that can do nothing.
fn initialize(version: &str) -> String {
    format!(
        "\"method\":\"initialize\",\"params\":{{\"protocolVersion\":\"{version}\",\"capabilities\":{{}},\
         \"clientInfo\":{}}}",
        client_info()
    )
}

/// `server/discover` of the sidecar itself.
pub(super) fn discover() -> String {
    format!("\"method\":\"server/discover\",\"params\":{{{}}}", own_meta())
}

/// The `_meta` member of a modern request of the sidecar itself.
pub(crate) fn own_meta() -> String {
    format!(
        "\"_meta\":{{\"io.modelcontextprotocol/protocolVersion\":\"{MODERN_VERSION}\",\
         \"io.modelcontextprotocol/clientInfo\":{},\"io.modelcontextprotocol/clientCapabilities\":{{}}}}",
        client_info()
    )
}

fn client_info() -> String {
    format!(
        "{{\"name\":\"mcp-sidecar\",\"version\":\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    )
}
