//! One POST with requests: sent to the server, its head held until the first message decides between
//! JSON and an event stream.
//!
//! Invariants: a lone answer is plain JSON; a client that waits hears something within [`HOLD`]; a request
//! that cannot be sent is an HTTP error as long as the head is held, and an answer on the stream after.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::App;
use super::body::ReplyBody;
use super::events::{Events, Open, outcome_word};
use super::{Reply, json, refuse};
use crate::link::Link;
use crate::reply::Fault;
use crate::session::Session;
use crate::splice::Payload;
use crate::stream::{Class, Event, First, Outcome, Stream};

/// How long a client waits for a head at most. Proxies and clients give up on a silent server after 60 s;
/// most answers come within this and can be plain JSON.
const HOLD: Duration = Duration::from_secs(5);

pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("x-mcp-edge-outcome");

/// What is done when the client leaves, or when its `initialize` fails. Dropping it does it.
pub(super) enum Undo {
    /// Modern: leaving is cancelling.
    Cancel { link: Arc<Link>, number: u64 },
    /// Legacy: a session that was not opened must not stay.
    Unopened {
        app: Arc<App>,
        session: Arc<Session>,
        disarmed: bool,
    },
}

impl Undo {
    /// The call has its answer.
    pub(super) fn answered(&mut self, outcome: Outcome) {
        if let Self::Unopened { disarmed, .. } = self {
            *disarmed = outcome == Outcome::Ok;
        }
    }

    /// The client has learnt the session's id.
    fn keep(&mut self) {
        if let Self::Unopened { disarmed, .. } = self {
            *disarmed = true;
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        match self {
            Self::Cancel { link, number } => link.abandon(*number),
            Self::Unopened { disarmed: true, .. } => {}
            Self::Unopened { app, session, .. } => app.end_session(session),
        }
    }
}

type Dispatch = Pin<Box<dyn Future<Output = Result<Option<Undo>, Fault>> + Send>>;

/// The requests on their way to the server.
pub(super) struct Sending {
    dispatch: Dispatch,
    stream: Arc<Stream>,
    /// Raw ids of the requests, to answer them if they cannot be sent.
    ids: Vec<Bytes>,
}

impl Sending {
    /// Drives it while the stream is open already: a failure is answered there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Undo>> {
        self.dispatch.as_mut().poll(cx).map(|sent| match sent {
            Ok(undo) => undo,
            Err(fault) => {
                for id in &self.ids {
                    self.stream
                        .push(Class::Response(Outcome::Code(fault.code())), fault.body(Some(id)));
                }
                None
            }
        })
    }
}

/// Gives the stream up if the response is never made.
struct Holding(Option<Arc<Stream>>);

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            stream.abandon();
        }
    }
}

enum Held {
    Answer(Event),
    Open,
    Nothing,
    Failed(Fault),
}

/// How this POST is answered.
pub(super) struct Exchange {
    pub(super) stream: Arc<Stream>,
    pub(super) ids: Vec<Bytes>,
    /// The client sent an array and gets one.
    pub(super) batch: bool,
    /// It takes plain JSON.
    pub(super) json: bool,
    /// It takes event streams.
    pub(super) events: bool,
    /// The legacy session, for event ids; none for modern requests.
    pub(super) session: Option<Arc<Session>>,
    /// `initialize`: the head names the session.
    pub(super) opens: bool,
    /// Done if the request fails or the client leaves.
    pub(super) undo: Option<Undo>,
}

impl Exchange {
    pub(super) async fn run(
        mut self,
        app: &Arc<App>,
        dispatch: impl Future<Output = Result<Option<Undo>, Fault>> + Send + 'static,
    ) -> Reply {
        let mut holding = Holding(Some(Arc::clone(&self.stream)));
        let mut sending = Some(Sending {
            dispatch: Box::pin(dispatch),
            stream: Arc::clone(&self.stream),
            ids: std::mem::take(&mut self.ids),
        });
        let hold = if self.events {
            Some(tokio::time::sleep(HOLD))
        } else {
            None
        };
        tokio::pin!(hold);
        let undo = &mut self.undo;
        let stream = &self.stream;
        let plain = self.json && !self.batch;
        let held = std::future::poll_fn(|cx| {
            if let Some(on_the_way) = &mut sending
                && let Poll::Ready(sent) = on_the_way.dispatch.as_mut().poll(cx)
            {
                sending = None;
                match sent {
                    Ok(Some(cancel)) => *undo = Some(cancel),
                    Ok(None) => {}
                    Err(fault) => return Poll::Ready(Held::Failed(fault)),
                }
            }
            match stream.poll_first(cx) {
                Poll::Ready(First::Answer(event)) => return Poll::Ready(Held::Answer(event)),
                Poll::Ready(First::More) => return Poll::Ready(Held::Open),
                Poll::Ready(First::Nothing) if sending.is_none() => return Poll::Ready(Held::Nothing),
                Poll::Ready(First::Nothing) | Poll::Pending => {}
            }
            match hold.as_mut().as_pin_mut() {
                Some(hold) => hold.poll(cx).map(|()| Held::Open),
                None => Poll::Pending,
            }
        });
        let held = held.await;
        holding.0 = None;
        match held {
            Held::Failed(fault) => {
                self.stream.abandon();
                let id = sending.as_ref().and_then(|sending| sending.ids.first().cloned());
                refuse(&fault, id.as_deref())
            }
            Held::Answer(event) if plain => self.answer(event),
            Held::Answer(event) if !self.events => self.array(vec![event]),
            Held::Answer(event) => {
                // One response, but the client asked for a stream (or sent a batch).
                self.stream.put_back(event);
                self.open(app, None)
            }
            Held::Open if self.events => self.open(app, sending),
            Held::Open => {
                let events = self.stream.take_all();
                self.array(events)
            }
            Held::Nothing => {
                let mut reply = json(StatusCode::OK, ReplyBody::empty());
                *reply.status_mut() = StatusCode::ACCEPTED;
                reply.headers_mut().remove(header::CONTENT_TYPE);
                reply
            }
        }
    }

    fn answer(mut self, event: Event) -> Reply {
        let Class::Response(outcome) = event.class else {
            return json(StatusCode::OK, ReplyBody::from(event.payload));
        };
        let status = match (&self.session, outcome) {
            (None, Outcome::Code(code)) => modern_status(code),
            _ => StatusCode::OK,
        };
        let mut reply = json(status, ReplyBody::from(event.payload));
        if let Ok(word) = HeaderValue::from_str(&outcome_word(outcome)) {
            reply.headers_mut().insert(OUTCOME, word);
        }
        if let Some(undo) = &mut self.undo {
            undo.answered(outcome);
        }
        if self.opens && outcome == Outcome::Ok {
            self.name_session(&mut reply);
        }
        reply
    }

    fn open(mut self, app: &Arc<App>, sending: Option<Sending>) -> Reply {
        let reader = self.stream.open();
        let mut events = Events::new(reader, app.keepalive(), Open::new(&app.metrics().streams));
        if let Some(session) = &self.session {
            session.shelf().keep(&self.stream);
            events = events.with_ids();
            if session.polls() {
                events = events.primed(0);
            }
        }
        let mut undo = self.undo.take();
        if let Some(undo) = &mut undo {
            undo.keep();
        }
        let mut reply = event_stream(ReplyBody::Events(Box::new(events.sending(sending, undo))));
        if self.opens {
            self.name_session(&mut reply);
        }
        reply
    }

    /// A batch answered as one JSON array.
    fn array(self, events: Vec<Event>) -> Reply {
        let mut parts = vec![Bytes::from_static(b"[")];
        for (at, event) in events.iter().enumerate() {
            if at > 0 {
                parts.push(Bytes::from_static(b","));
            }
            parts.extend(event.payload.parts().iter().cloned());
        }
        parts.push(Bytes::from_static(b"]"));
        json(StatusCode::OK, ReplyBody::from(Payload::Parts(parts)))
    }

    fn name_session(&self, reply: &mut Reply) {
        if let Some(session) = &self.session
            && let Ok(id) = HeaderValue::from_str(session.id())
        {
            reply.headers_mut().insert(SESSION_ID, id);
        }
    }
}

/// The head of an event stream.
pub(super) fn event_stream(body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(OUTCOME, HeaderValue::from_static("stream"));
    reply
}

/// The HTTP status that goes with a JSON-RPC error of a modern server (2026-07-28, basic/transports).
fn modern_status(code: i64) -> StatusCode {
    match code {
        -32601 => StatusCode::NOT_FOUND,
        -32700 | -32600 | -32022..=-32020 => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}
