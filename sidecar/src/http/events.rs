//! An event stream as a client reads it (WHATWG HTML, "Server-sent events").
//!
//! Invariants: each message is one event on one line; legacy events carry `{stream}-{number}`, which no
//! other event of the session has; a comment goes out whenever nothing else did for the keep-alive time.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prometheus::IntGauge;
use tokio::time::{Instant, Sleep};

use super::exchange::{Sending, Undo};
use crate::stream::{Class, Event, Outcome, Reader};

/// When a client may come back to a stream that was cut, in ms.
const RETRY_MS: u64 = 1000;
/// Messages up to this size are put into one buffer with their framing.
const JOIN_UP_TO: usize = 16 * 1024;

/// Counts an open event stream as long as it lives.
#[derive(Debug)]
pub(super) struct Open(IntGauge);

impl Open {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

pub(crate) struct Events {
    reader: Reader,
    /// With event ids: the client can come back.
    ids: bool,
    chunks: VecDeque<Bytes>,
    keepalive: Duration,
    quiet: Pin<Box<Sleep>>,
    /// The request itself, as long as it has not reached the server.
    sending: Option<Sending>,
    /// What has to be undone if the client leaves before the end.
    undo: Option<Undo>,
    _open: Open,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn new(reader: Reader, keepalive: Duration, open: Open) -> Self {
        Self {
            reader,
            ids: false,
            chunks: VecDeque::new(),
            keepalive,
            quiet: Box::pin(tokio::time::sleep(keepalive)),
            sending: None,
            undo: None,
            _open: open,
        }
    }

    /// With ids, so that the client can resume.
    pub(super) fn with_ids(mut self) -> Self {
        self.ids = true;
        self
    }

    /// Begins with an event that has an id and no data: from then on the client can resume after `seq`.
    pub(super) fn primed(mut self, seq: u64) -> Self {
        let number = self.reader.stream().number();
        self.chunks.push_back(Bytes::from(format!(
            "id: {number}-{seq}\nretry: {RETRY_MS}\ndata: \n\n"
        )));
        self
    }

    /// Goes on sending the request while the stream is open.
    pub(super) fn sending(mut self, sending: Option<Sending>, undo: Option<Undo>) -> Self {
        self.sending = sending;
        self.undo = undo;
        self
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(chunk));
        }
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(cx)
        {
            self.sending = None;
            if let Some(undo) = sent {
                self.undo = Some(undo);
            }
        }
        match self.reader.poll_next(cx) {
            Poll::Ready(Some(event)) => {
                if let Class::Response(outcome) = event.class
                    && let Some(undo) = &mut self.undo
                {
                    undo.answered(outcome);
                }
                self.chunks = self.frame(&event);
                self.quiet.as_mut().reset(Instant::now() + self.keepalive);
                return Poll::Ready(self.chunks.pop_front());
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.quiet.as_mut().poll(cx).is_ready() {
            self.quiet.as_mut().reset(Instant::now() + self.keepalive);
            // Registers the timer; it cannot be due already.
            let _ = self.quiet.as_mut().poll(cx);
            return Poll::Ready(Some(Bytes::from_static(b":\n\n")));
        }
        Poll::Pending
    }

    fn frame(&self, event: &Event) -> VecDeque<Bytes> {
        let number = self.reader.stream().number();
        let id = if self.ids {
            format!("id: {number}-{}\n", event.seq)
        } else {
            String::new()
        };
        let head = format!("event: message\n{id}data: ");
        let len = event.payload.len();
        if len > JOIN_UP_TO {
            let parts = event.payload.parts().iter().cloned();
            return std::iter::once(Bytes::from(head))
                .chain(parts)
                .chain([Bytes::from_static(b"\n\n")])
                .filter(|part| !part.is_empty())
                .collect();
        }
        let mut whole = BytesMut::with_capacity(head.len() + len + 2);
        whole.put_slice(head.as_bytes());
        for part in event.payload.parts() {
            whole.put_slice(part);
        }
        whole.put_slice(b"\n\n");
        VecDeque::from([whole.freeze()])
    }
}

/// `{stream}-{number}` of a `Last-Event-ID`.
pub(super) fn parse_event_id(text: &str) -> Option<(u64, u64)> {
    let (stream, seq) = text.split_once('-')?;
    Some((stream.parse().ok()?, seq.parse().ok()?))
}

/// How a call went, for the edge's log.
pub(super) fn outcome_word(outcome: Outcome) -> std::borrow::Cow<'static, str> {
    match outcome {
        Outcome::Ok => "ok".into(),
        Outcome::ToolError => "tool_error".into(),
        Outcome::Code(code) => code.to_string().into(),
    }
}
