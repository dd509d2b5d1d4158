//! The messages of one HTTP response, between the task that reads the server and the response that a
//! client reads at its own speed, if at all.
//!
//! Invariants: the server's reader never waits for a client; what a stream holds is bounded by its
//! [`Shelf`]; a response is never dropped while somebody reads; each message is on exactly one stream.
//! A legacy stream survives its reader (the client may resume it by `Last-Event-ID`), a modern one does not.

mod shelf;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

pub(crate) use shelf::Shelf;

use crate::splice::Payload;

/// What a message is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Answers one of the stream's calls.
    Response(Outcome),
    /// A request of the server to the client.
    Request,
    /// May be dropped when the client does not keep up.
    Notification,
}

/// How a call ended, as reported to the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    ToolError,
    Code(i64),
}

/// One message with its place in the stream (from 1).
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) seq: u64,
    pub(crate) class: Class,
    pub(crate) payload: Payload,
}

/// What a held response may now be.
#[derive(Debug)]
pub(crate) enum First {
    /// The one and only message of this stream: it can be a plain JSON answer.
    Answer(Event),
    /// More than that is there or to come: it has to be an event stream.
    More,
    /// No message is there and none will come.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The response's head is not sent: JSON or event stream is still open.
    Held,
    /// It is an event stream.
    Open,
    /// All is said; what is buffered can still be read.
    Over,
    /// Nobody will ever read it: what still comes is dropped.
    Abandoned,
}

#[derive(Debug)]
pub(crate) struct Stream {
    number: u64,
    /// Keeps sent events, so that a client can come back for what it missed.
    resumable: bool,
    /// The client takes no event stream: only responses can reach it here.
    responses_only: bool,
    shelf: Weak<Shelf>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    events: VecDeque<Event>,
    last_seq: u64,
    /// Last event handed to a reader.
    taken: u64,
    /// Responses still to come.
    awaited: usize,
    /// Counts readers; only the newest may read.
    reader: u64,
    attached: bool,
    waker: Option<Waker>,
}

impl Stream {
    /// A stream for the answers to `calls` requests. Made by its [`Shelf`].
    fn new(
        number: u64,
        shelf: &Arc<Shelf>,
        calls: usize,
        resumable: bool,
        responses_only: bool,
    ) -> Arc<Self> {
        let inner = Inner {
            phase: Phase::Held,
            events: VecDeque::new(),
            last_seq: 0,
            taken: 0,
            awaited: calls,
            reader: 0,
            attached: false,
            waker: None,
        };
        Arc::new(Self {
            number,
            resumable,
            responses_only,
            shelf: Arc::downgrade(shelf),
            inner: Mutex::new(inner),
        })
    }

    fn standalone(shelf: &Arc<Shelf>) -> Arc<Self> {
        let stream = Self::new(0, shelf, 0, true, false);
        stream.inner.lock().phase = Phase::Open;
        stream
    }

    /// Its number in the session; 0 is the session's standalone stream.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether a reader is on it now.
    pub(crate) fn attached(&self) -> bool {
        self.inner.lock().attached
    }

    /// Adds a message. False: it was not taken and will not be seen on this stream.
    pub(crate) fn push(&self, class: Class, payload: Payload) -> bool {
        let Some(shelf) = self.shelf.upgrade() else {
            return false;
        };
        let len = payload.len();
        let fits = shelf.make_room(len);
        let mut inner = self.inner.lock();
        let response = matches!(class, Class::Response(_));
        if response {
            inner.awaited = inner.awaited.saturating_sub(1);
        }
        let closed = matches!(inner.phase, Phase::Over | Phase::Abandoned);
        let unread = response && !inner.attached && inner.phase != Phase::Held;
        let refused = closed || (!response && self.responses_only) || (!fits && (!response || unread));
        if !refused {
            inner.last_seq += 1;
            let seq = inner.last_seq;
            inner.events.push_back(Event { seq, class, payload });
            shelf.charge(len);
        }
        if response && inner.awaited == 0 && self.number != 0 && inner.phase == Phase::Open {
            inner.phase = Phase::Over;
        }
        inner.wake();
        !refused
    }

    /// Takes back one expected response: the call was never made.
    pub(crate) fn forget_call(&self) {
        let mut inner = self.inner.lock();
        inner.awaited = inner.awaited.saturating_sub(1);
        if inner.awaited == 0 && inner.phase == Phase::Open {
            inner.phase = Phase::Over;
        }
        inner.wake();
    }

    /// Waits for the first message; see [`First`].
    pub(crate) fn poll_first(&self, cx: &Context<'_>) -> Poll<First> {
        let mut inner = self.inner.lock();
        let only = inner.awaited == 0 && inner.events.len() == 1;
        if only
            && matches!(
                inner.events.front(),
                Some(Event {
                    class: Class::Response(_),
                    ..
                })
            )
        {
            inner.phase = Phase::Over;
            if let Some(event) = inner.events.pop_front() {
                self.refund(&event);
                return Poll::Ready(First::Answer(event));
            }
        }
        if !inner.events.is_empty() && !self.responses_only {
            return Poll::Ready(First::More);
        }
        if inner.events.is_empty() && (inner.awaited == 0 || inner.phase == Phase::Abandoned) {
            return Poll::Ready(First::Nothing);
        }
        if inner.awaited == 0 {
            return Poll::Ready(First::More);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Undoes a [`First::Answer`]: it is to be sent as an event after all.
    pub(crate) fn put_back(&self, event: Event) {
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.charge(event.payload.len());
        }
        self.inner.lock().events.push_front(event);
    }

    /// All messages at once, for an answer in one piece.
    pub(crate) fn take_all(&self) -> Vec<Event> {
        let events: Vec<Event> = self.inner.lock().events.drain(..).collect();
        for event in &events {
            self.refund(event);
        }
        events
    }

    /// Turns the held response into an event stream and reads it from its beginning.
    pub(crate) fn open(self: &Arc<Self>) -> Reader {
        let mut inner = self.inner.lock();
        if inner.phase == Phase::Held {
            let over = inner.awaited == 0 && self.number != 0;
            inner.phase = if over { Phase::Over } else { Phase::Open };
        }
        drop(inner);
        self.attach(0)
    }

    /// Reads on after event `after`; a reader before this one ends. None if there never was such an event.
    pub(crate) fn resume(self: &Arc<Self>, after: u64) -> Option<Reader> {
        let inner = self.inner.lock();
        if after > inner.last_seq || inner.phase == Phase::Abandoned {
            return None;
        }
        drop(inner);
        Some(self.attach(after))
    }

    /// Reads on where the last reader stopped, with what was buffered since. None if somebody reads it.
    pub(crate) fn listen(self: &Arc<Self>) -> Option<Reader> {
        let inner = self.inner.lock();
        if inner.attached {
            return None;
        }
        let after = inner.taken;
        drop(inner);
        Some(self.attach(after))
    }

    fn attach(self: &Arc<Self>, after: u64) -> Reader {
        let mut inner = self.inner.lock();
        inner.reader += 1;
        inner.attached = true;
        inner.taken = after;
        inner.wake();
        Reader {
            stream: Arc::clone(self),
            reader: inner.reader,
        }
    }

    /// Ends the present reader's response; a resumable stream itself goes on.
    pub(crate) fn hang_up(&self) {
        let mut inner = self.inner.lock();
        if inner.attached {
            inner.attached = false;
            inner.reader += 1;
        }
        inner.wake();
    }

    /// Says that nobody will read it any more.
    pub(crate) fn abandon(&self) {
        let mut inner = self.inner.lock();
        inner.phase = Phase::Abandoned;
        inner.wake();
        self.clear(&mut inner);
    }

    /// Gives up what has been sent already and is kept for a resume only.
    fn shed(&self) {
        let mut inner = self.inner.lock();
        let taken = inner.taken;
        while inner.events.front().is_some_and(|event| event.seq <= taken) {
            if let Some(event) = inner.events.pop_front() {
                self.refund(&event);
            }
        }
    }

    fn ended(&self) -> bool {
        matches!(self.inner.lock().phase, Phase::Over | Phase::Abandoned)
    }

    fn clear(&self, inner: &mut Inner) {
        for event in inner.events.drain(..) {
            self.refund(&event);
        }
    }

    fn refund(&self, event: &Event) {
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.refund(event.payload.len());
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.inner.lock();
        self.clear(&mut inner);
    }
}

impl Inner {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The right to read a stream; the response that holds it is the stream's one connection.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: Arc<Stream>,
    reader: u64,
}

impl Reader {
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The next message; none when the stream is over, was hung up or has got another reader.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        let stream = &self.stream;
        let mut inner = stream.inner.lock();
        if inner.reader != self.reader {
            return Poll::Ready(None);
        }
        let at = inner.events.partition_point(|event| event.seq <= inner.taken);
        if let Some(event) = inner.events.get(at).cloned() {
            inner.taken = event.seq;
            if !stream.resumable {
                inner.events.pop_front();
                stream.refund(&event);
            }
            return Poll::Ready(Some(event));
        }
        if matches!(inner.phase, Phase::Over | Phase::Abandoned) {
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.stream.inner.lock();
        if inner.reader != self.reader {
            return;
        }
        inner.attached = false;
        let gone = !self.stream.resumable;
        drop(inner);
        if gone {
            self.stream.abandon();
        }
    }
}

#[cfg(test)]
mod tests;
