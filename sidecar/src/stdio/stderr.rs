//! The server's stderr: always drained, into `tracing` and a ring of the last lines.
//!
//! Problem: a server whose stderr is not read stops at a full pipe; one that floods it must neither fill memory nor
//! drown the log, nor send the operator's terminal control sequences.
//!
//! Invariant: at most [`RING_LINES`] lines of at most [`MAX_LINE`] bytes are kept, at most [`LOGGED_PER_SECOND`] lines
//! a second are logged (the ring takes all), and no line holds a control character.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::split::{RawLine, Splitter};

/// Lines kept for `/health` and for reasons.
pub const RING_LINES: usize = 200;
/// Longest line kept or logged, in bytes; the rest is cut.
pub const MAX_LINE: usize = 4 * 1024;
/// Lines of one server that are logged in any one second. What is beyond is counted in one line.
pub const LOGGED_PER_SECOND: u32 = 1000;

/// The last lines of a server's stderr, oldest first. Clones share them; they outlive the process.
#[derive(Clone, Debug, Default)]
pub struct StderrTail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl StderrTail {
    /// A copy of the lines kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock();
        if lines.len() == RING_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads `source` to its end. `pid` names the process in the log.
pub(super) async fn drain(source: impl AsyncRead + Unpin, pid: u32, tail: StderrTail) {
    let mut lines = Splitter::new(source, MAX_LINE);
    let mut rate = Rate::new(Instant::now());
    while let Some(line) = lines.next().await {
        let line = match line {
            RawLine::Whole(line) => clean(&line, 0),
            RawLine::Cut { prefix, len } => clean(&prefix, len.saturating_sub(prefix.len() as u64)),
        };
        if line.is_empty() {
            continue;
        }
        let Verdict { log, missed } = rate.take(Instant::now());
        if missed > 0 {
            tracing::warn!(target: "server.stderr", pid, missed, "lines left out of the log: too many in a second");
        }
        if log {
            tracing::info!(target: "server.stderr", pid, "{line}");
        }
        tail.push(line);
    }
    if rate.missed > 0 {
        tracing::warn!(target: "server.stderr", pid, missed = rate.missed, "lines left out of the log: too many in a second");
    }
}

/// Valid UTF-8 of at most [`MAX_LINE`] bytes without control characters, which are written as `\u{1b}`; then how many
/// bytes were cut, `cut_before` of them already.
fn clean(line: &[u8], cut_before: u64) -> String {
    let text = String::from_utf8_lossy(line.trim_ascii_end());
    let mut clean = String::with_capacity(text.len().min(MAX_LINE));
    let mut cut = cut_before;
    let mut chars = text.chars();
    for char in chars.by_ref() {
        let before = clean.len();
        if char.is_control() {
            clean.extend(char.escape_default());
        } else {
            clean.push(char);
        }
        if clean.len() > MAX_LINE {
            clean.truncate(before);
            cut += char.len_utf8() as u64;
            break;
        }
    }
    cut += chars.as_str().len() as u64;
    if cut > 0 {
        // Writing to a String cannot fail.
        let _ = write!(clean, " … ({cut} bytes cut)");
    }
    clean
}

/// Bounds the lines logged in each second.
#[derive(Debug)]
struct Rate {
    second: Instant,
    logged: u32,
    missed: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// Log this line.
    log: bool,
    /// Lines of the last full second that were not logged, reported once.
    missed: u64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self {
            second: now,
            logged: 0,
            missed: 0,
        }
    }

    fn take(&mut self, now: Instant) -> Verdict {
        let mut missed = 0;
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            missed = std::mem::take(&mut self.missed);
            self.second = now;
            self.logged = 0;
        }
        let log = self.logged < LOGGED_PER_SECOND;
        if log {
            self.logged += 1;
        } else {
            self.missed += 1;
        }
        Verdict { log, missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_cleaned() {
        let tail = StderrTail::default();
        let mut input = Vec::new();
        for number in 0..300 {
            input.extend_from_slice(format!("line {number}\n").as_bytes());
        }
        input.extend_from_slice(b"\n\x1b[31mred\x1b[0m\tend\r\nbad \xff byte\nno newline");
        drain(&input[..], 1, tail.clone()).await;
        let lines = tail.lines();
        assert_eq!(lines.len(), RING_LINES);
        assert_eq!(lines[0], "line 103");
        assert_eq!(
            lines[197..],
            [
                "\\u{1b}[31mred\\u{1b}[0m\\tend",
                "bad \u{fffd} byte",
                "no newline"
            ]
        );
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_is_whole() {
        let tail = StderrTail::default();
        let input = format!("{}\nnext\n{}\n", "x".repeat(10_000), "\u{1}".repeat(3000));
        drain(input.as_bytes(), 1, tail.clone()).await;
        let lines = tail.lines();
        assert_eq!(lines[0], format!("{} … (5904 bytes cut)", "x".repeat(MAX_LINE)));
        assert_eq!(lines[1], "next");
        // Escaping makes a line longer: it is bounded after it.
        assert!(
            lines[2].len() < MAX_LINE + 40 && lines[2].ends_with("bytes cut)"),
            "{}",
            lines[2]
        );
    }

    #[test]
    fn cuts_between_characters() {
        let line = clean("€".repeat(2000).as_bytes(), 10);
        assert_eq!(line, format!("{} … (1915 bytes cut)", "€".repeat(1365)));
    }

    #[test]
    fn logs_a_bounded_number_of_lines_a_second() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let logged = (0..5000)
            .filter(|_| rate.take(start + Duration::from_millis(999)).log)
            .count();
        assert_eq!(logged, LOGGED_PER_SECOND as usize);
        assert_eq!(
            rate.take(start + Duration::from_secs(1)),
            Verdict {
                log: true,
                missed: 4000
            }
        );
        assert_eq!(
            rate.take(start + Duration::from_secs(2)),
            Verdict { log: true, missed: 0 }
        );
    }
}
