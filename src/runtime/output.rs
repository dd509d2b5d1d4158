//! What a sidecar prints: one line on stdout when it listens, its log on stderr.
//!
//! Both are read to their end, or the sidecar would stop at a full pipe. Invariant: a line costs at most [`MAX_LINE`]
//! bytes however long it is, and at most [`KEPT`] lines are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::oneshot;

use crate::config::ServiceName;
use crate::upstream::EndpointId;

/// Bytes kept of a line; the rest is dropped.
const MAX_LINE: usize = 8 * 1024;
/// Lines kept to explain an end.
const KEPT: usize = 20;

/// The last lines of a sidecar's stderr.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads stdout to its end and tells what follows `listening ` on the line that begins so.
pub(super) async fn await_listening(stdout: impl AsyncRead + Unpin, tell: oneshot::Sender<String>) {
    let mut lines = BufReader::new(stdout);
    let mut tell = Some(tell);
    while let Some(line) = next_line(&mut lines).await {
        if let Some(addr) = line.strip_prefix("listening ")
            && let Some(tell) = tell.take()
        {
            // Nobody waits any more once the start has been given up.
            let _ = tell.send(addr.trim().to_owned());
        }
    }
}

/// Reads stderr to its end, into the log and into `tail`.
pub(super) async fn forward(
    stderr: impl AsyncRead + Unpin,
    service: ServiceName,
    endpoint: EndpointId,
    tail: Tail,
) {
    let mut lines = BufReader::new(stderr);
    while let Some(line) = next_line(&mut lines).await {
        if line.is_empty() {
            continue;
        }
        match level_of(&line) {
            tracing::Level::ERROR => tracing::error!(target: "sidecar", %service, %endpoint, "{line}"),
            tracing::Level::WARN => tracing::warn!(target: "sidecar", %service, %endpoint, "{line}"),
            tracing::Level::INFO => tracing::info!(target: "sidecar", %service, %endpoint, "{line}"),
            tracing::Level::DEBUG => tracing::debug!(target: "sidecar", %service, %endpoint, "{line}"),
            tracing::Level::TRACE => tracing::trace!(target: "sidecar", %service, %endpoint, "{line}"),
        }
        tail.push(line);
    }
}

/// The level that a JSON log line names; anything else is `info`.
fn level_of(line: &str) -> tracing::Level {
    #[derive(serde::Deserialize)]
    struct Leveled<'a> {
        #[serde(borrow)]
        level: std::borrow::Cow<'a, str>,
    }
    let named = serde_json::from_str::<Leveled<'_>>(line).ok();
    named
        .and_then(|line| line.level.parse().ok())
        .unwrap_or(tracing::Level::INFO)
}

/// The next line without its end, cut at [`MAX_LINE`] bytes and free of control characters; `None` at the end of the
/// stream.
async fn next_line(source: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    loop {
        // A pipe that cannot be read any more has nothing to tell, like one that is closed.
        let chunk = source.fill_buf().await.unwrap_or_default();
        if chunk.is_empty() {
            return (!line.is_empty()).then(|| text(&line));
        }
        let (part, used, ended) = match chunk.iter().position(|&byte| byte == b'\n') {
            Some(at) => (chunk.get(..at).unwrap_or_default(), at + 1, true),
            None => (chunk, chunk.len(), false),
        };
        let room = MAX_LINE - line.len();
        line.extend_from_slice(part.get(..room).unwrap_or(part));
        source.consume(used);
        if ended {
            return Some(text(&line));
        }
    }
}

fn text(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(input: &[u8]) -> Vec<String> {
        let mut source = BufReader::with_capacity(7, input);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut source).await {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_split_trimmed_and_cleaned() {
        assert_eq!(
            lines_of(b"one\r\ntwo\x1b[31m\n\nlast").await,
            ["one", "two [31m", "", "last"]
        );
        assert_eq!(lines_of(b"").await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; 100_000];
        input.extend_from_slice(b"\nnext\n");
        let lines = lines_of(&input).await;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), MAX_LINE);
        assert_eq!(lines[1], "next");
    }

    #[tokio::test]
    async fn the_listening_line_is_found_behind_a_banner() {
        let (tell, told) = oneshot::channel();
        await_listening(&b"hello\nlistening 127.0.0.1:4\nlistening again\n"[..], tell).await;
        assert_eq!(told.await.unwrap(), "127.0.0.1:4");
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let input: String = (0..50).map(|n| format!("line {n}\n")).collect();
        let tail = Tail::default();
        forward(
            input.as_bytes(),
            "files".parse().unwrap(),
            EndpointId::random(),
            tail.clone(),
        )
        .await;
        let lines = tail.lines();
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[KEPT - 1].as_str()),
            (KEPT, "line 30", "line 49")
        );
    }

    #[test]
    fn the_level_of_a_json_line_is_kept() {
        assert_eq!(level_of(r#"{"level":"WARN","fields":{}}"#), tracing::Level::WARN);
        assert_eq!(level_of(r#"{"level":"error"}"#), tracing::Level::ERROR);
        assert_eq!(level_of("plain"), tracing::Level::INFO);
        assert_eq!(level_of(r#"{"level":7}"#), tracing::Level::INFO);
    }
}
