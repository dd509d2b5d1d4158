//! One line an operation: who called what, where it went, how it ended. Never an argument, never a token.
//!
//! A request must not wait for a terminal or a full pipe, so lines are collected in memory and written by one thread
//! every [`FLUSH`]. Invariant: at most [`SHARD_BYTES`] are kept in each of [`SHARDS`] buffers; what does not fit is
//! dropped and counted, and the count is in the metrics.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;

const FLUSH: Duration = Duration::from_millis(100);
const SHARDS: usize = 4;
const SHARD_BYTES: usize = 1 << 20;

/// What is known of an operation when it has ended.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// Milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    pub request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<&'a str>,
    pub era: &'a str,
    pub http_method: &'a str,
    pub path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// What the client got; 0 if it left before a status was sent.
    pub status: u16,
    /// `ok`, `tool_error`, `stream`, a JSON-RPC code, or the edge's own reason.
    pub outcome: &'a str,
    pub duration_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Attempts to reach an upstream; 0 if the edge answered itself.
    pub attempts: u32,
}

#[derive(Debug, Default)]
struct Inner {
    shards: [Mutex<Vec<u8>>; SHARDS],
    next: AtomicUsize,
    dropped: AtomicU64,
    closing: AtomicBool,
    human: bool,
}

/// Where requests put their lines.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Inner>);

/// Owns the writing thread; dropping it writes what is left and ends the thread.
#[derive(Debug)]
pub struct Writer {
    log: AccessLog,
    thread: Option<JoinHandle<()>>,
}

/// Now, as [`Entry::time_ms`] wants it.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Starts the log on standard output: JSON lines, or text when a person is looking.
///
/// # Errors
/// The thread could not be started.
pub fn start() -> io::Result<(AccessLog, Writer)> {
    start_on(io::stdout(), io::stdout().is_terminal())
}

fn start_on(mut output: impl Write + Send + 'static, human: bool) -> io::Result<(AccessLog, Writer)> {
    let log = AccessLog(Arc::new(Inner {
        human,
        ..Inner::default()
    }));
    let inner = log.0.clone();
    let write = move || {
        loop {
            // Read before the buffers are emptied: what was put before the closing is written.
            let closing = inner.closing.load(Ordering::Acquire);
            inner.write_to(&mut output);
            if closing {
                return;
            }
            std::thread::park_timeout(FLUSH);
        }
    };
    let thread = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(write)?;
    Ok((
        log.clone(),
        Writer {
            log,
            thread: Some(thread),
        },
    ))
}

impl AccessLog {
    /// Takes a line; never waits for the output.
    pub fn put(&self, entry: &Entry<'_>) {
        let at = self.0.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let Some(shard) = self.0.shards.get(at) else {
            return;
        };
        let mut lines = shard.lock();
        if lines.len() >= SHARD_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Writing to a Vec cannot fail, and the entry has only strings and numbers.
        if self.0.human {
            write_text(&mut *lines, entry).ok();
        } else {
            serde_json::to_writer(&mut *lines, entry).ok();
            lines.push(b'\n');
        }
    }

    /// Lines that did not fit since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

fn write_text(out: &mut impl Write, e: &Entry<'_>) -> io::Result<()> {
    let millis = Duration::from_micros(e.duration_us).as_secs_f64() * 1e3;
    let called = [e.method, e.name]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ");
    writeln!(
        out,
        "{} {} {} {} {called} → {} {millis:.1} ms [{}]",
        e.status,
        e.client.unwrap_or("-"),
        e.http_method,
        e.path,
        e.outcome,
        e.request_id
    )
}

impl Inner {
    fn write_to(&self, output: &mut impl Write) {
        for shard in &self.shards {
            let lines = std::mem::take(&mut *shard.lock());
            if !lines.is_empty() {
                // A closed output (a pipe's reader is gone, a full disk) must not end the proxy.
                output.write_all(&lines).and_then(|()| output.flush()).ok();
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.0.closing.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            time_ms: 1,
            request_id: "r1",
            client: Some("mcp-edge/codex"),
            tier: Some("pro"),
            service: Some("git"),
            endpoint: None,
            era: "legacy",
            http_method: "POST",
            path: "/mcp/git",
            method: Some("tools/call"),
            name: Some("log\n\"x\""),
            status: 200,
            outcome: "ok",
            duration_us: 1500,
            bytes_in: 10,
            bytes_out: 20,
            attempts: 1,
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_the_writer_is_gone() {
        let output = Shared::default();
        let (log, writer) = start_on(output.clone(), false).unwrap();
        for _ in 0..100 {
            log.put(&entry());
        }
        drop(writer);
        let written = String::from_utf8(output.0.lock().clone()).unwrap();
        assert_eq!(written.lines().count(), 100);
        let line: serde_json::Value = serde_json::from_str(written.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&line["name"], &line["status"]),
            (&"log\n\"x\"".into(), &200.into())
        );
        assert!(line.get("endpoint").is_none());
    }

    #[test]
    fn a_stuck_output_costs_lines_and_never_memory() {
        let log = AccessLog(Arc::new(Inner::default()));
        let lines = SHARDS * SHARD_BYTES / 100;
        for _ in 0..lines {
            log.put(&entry());
        }
        assert!(log.dropped() > 0);
        let kept: usize = log.0.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(kept <= SHARDS * (SHARD_BYTES + 1024), "{kept}");
    }
}
