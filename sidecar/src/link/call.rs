//! Calls to a server: registered, sent, answered, cancelled.
//!
//! Invariant: a call is in the link's table from before its bytes are sent until its answer, its
//! cancellation or the end of the process, and in each of these cases its stream is told exactly once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Down, LAST_ASKED, Link, MAX_CALLS, State};
use crate::message::{Message, same_id};
use crate::reply::{Fault, Reason};
use crate::session::{Principal, Session};
use crate::splice::Payload;
use crate::stream::{Class, Outcome, Stream};
use std::sync::atomic::Ordering;

/// Server requests that wait for a client's answer, per process.
const MAX_ASKED: usize = 256;

/// Who makes a call. Nothing of one party ever reaches another.
#[derive(Debug, Clone)]
pub(crate) enum Party {
    Session(Arc<Session>),
    Client(Principal),
}

impl Party {
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Session(a), Self::Session(b)) => a.number() == b.number(),
            (Self::Client(a), Self::Client(b)) => a == b,
            _ => false,
        }
    }
}

/// What is special about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    None,
    Initialize,
    /// `subscriptions/listen`: its answer is the end of a subscription.
    Listen,
    /// A modern request that asked for log messages.
    Logs,
}

#[derive(Debug)]
pub(super) struct Call {
    /// The client's id, raw.
    pub(super) id: Bytes,
    /// The client's progress token, raw.
    pub(super) token: Option<Bytes>,
    pub(super) special: Special,
    pub(super) to: Destination,
}

#[derive(Debug)]
pub(super) enum Destination {
    Client { party: Party, stream: Arc<Stream> },
    Sidecar(oneshot::Sender<Result<Message, Down>>),
}

impl Call {
    pub(super) fn is_clients(&self) -> bool {
        matches!(self.to, Destination::Client { .. })
    }

    pub(super) fn is_of(&self, who: &Party) -> bool {
        matches!(&self.to, Destination::Client { party, .. } if party.is(who))
    }

    /// Answers it with an error of ours.
    pub(super) fn fail(self, why: &Down) {
        match self.to {
            Destination::Client { stream, .. } => {
                let fault = Fault::of_down(why);
                let code = fault.code();
                stream.push(Class::Response(Outcome::Code(code)), fault.body(Some(&self.id)));
            }
            // The asker may have given up.
            Destination::Sidecar(answer) => drop(answer.send(Err(why.clone()))),
        }
    }
}

/// A request of the server that a session has to answer.
#[derive(Debug)]
pub(super) struct Asked {
    /// The server's id, raw.
    pub(super) id: Bytes,
    pub(super) session: u64,
    pub(super) stream: Arc<Stream>,
}

/// A registered call whose bytes may not have been sent yet. Dropped unsent, the call was never made.
#[derive(Debug)]
pub(crate) struct Ticket {
    link: Arc<Link>,
    number: u64,
    payload: Option<Payload>,
    stream: Arc<Stream>,
}

impl Ticket {
    /// Sends the call, waiting while the server does not read.
    pub(crate) async fn send(mut self) {
        if let Some(payload) = &self.payload {
            let payload = payload.clone();
            self.link.send(payload).await;
            self.payload = None;
        }
    }

    /// Our id of the call.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.payload.is_some() && self.link.state.lock().calls.remove(&self.number).is_some() {
            self.stream.forget_call();
        }
    }
}

/// Why a question of the sidecar itself has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Ask {
    #[error(transparent)]
    Down(Down),
    #[error("the MCP server did not answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

impl Link {
    /// Registers a client's request; its answers go to `stream`.
    pub(crate) fn call(
        self: &Arc<Self>,
        request: &Message,
        party: Party,
        stream: &Arc<Stream>,
    ) -> Result<Ticket, Down> {
        let meta = &request.fields().meta;
        let special = match request.method().as_ref() {
            "initialize" => Special::Initialize,
            "subscriptions/listen" => Special::Listen,
            _ if meta.log_level.is_some() => Special::Logs,
            _ => Special::None,
        };
        let call = Call {
            id: request.id().unwrap_or_default(),
            token: meta.progress_token.map(|span| request.slice(span)),
            special,
            to: Destination::Client {
                party,
                stream: Arc::clone(stream),
            },
        };
        let (number, ours) = self.register(call)?;
        let payload = request.with([(request.id_span(), &ours), (meta.progress_token, &ours)]);
        Ok(Ticket {
            link: Arc::clone(self),
            number,
            payload: Some(payload),
            stream: Arc::clone(stream),
        })
    }

    fn register(&self, call: Call) -> Result<(u64, Bytes), Down> {
        self.touch();
        let number = self.next_id();
        let mut state = self.state.lock();
        if let Some(down) = &state.down {
            return Err(down.clone());
        }
        if state.calls.len() >= MAX_CALLS {
            return Err(Down::TooManyCalls);
        }
        state.calls.insert(number, call);
        Ok((number, Bytes::from(number.to_string())))
    }

    /// Passes a notification on as it is.
    pub(crate) async fn notify(&self, notification: &Message) {
        self.touch();
        self.send(notification.with([])).await;
    }

    /// A request of the sidecar itself; `members` are the JSON members beside `jsonrpc` and `id`.
    pub(crate) async fn ask(&self, members: &str, limit: Duration) -> Result<Message, Ask> {
        self.ask_with(limit, |ours| {
            Payload::from(format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{},{members}}}",
                String::from_utf8_lossy(ours)
            ))
        })
        .await
    }

    /// Sends a remembered request of a client again, for the sidecar.
    pub(crate) async fn repeat(&self, request: &Message, limit: Duration) -> Result<Message, Ask> {
        let token = request.fields().meta.progress_token;
        self.ask_with(limit, |ours| {
            request.with([(request.id_span(), ours), (token, ours)])
        })
        .await
    }

    async fn ask_with(
        &self,
        limit: Duration,
        payload: impl FnOnce(&Bytes) -> Payload,
    ) -> Result<Message, Ask> {
        let (answer, answered) = oneshot::channel();
        let to = Destination::Sidecar(answer);
        let call = Call {
            id: Bytes::new(),
            token: None,
            special: Special::None,
            to,
        };
        let (number, ours) = self.register(call).map_err(Ask::Down)?;
        let _forget = Forget { link: self, number };
        let exchange = async {
            self.send(payload(&ours)).await;
            answered.await
        };
        match tokio::time::timeout(limit, exchange).await {
            Err(_) => Err(Ask::Timeout(limit)),
            Ok(Ok(answer)) => answer.map_err(Ask::Down),
            Ok(Err(_)) => Err(Ask::Down(Down::Draining)),
        }
    }

    /// Tells the server something without waiting.
    pub(crate) fn tell(&self, message: String) {
        self.post(Payload::from(message));
    }

    /// A legacy client cancels one of its own requests: the id is translated, and the request is answered here
    /// because the server need not answer it any more. Unknown ids are ignored, as the specification asks.
    pub(crate) fn cancel(&self, session: &Arc<Session>, notification: &Message) {
        let requested = notification.fields().request_id;
        let Some(wanted) = notification.raw(requested) else {
            return;
        };
        let party = Party::Session(Arc::clone(session));
        let mut state = self.state.lock();
        let found = state.calls.iter().find(|(_, call)| {
            call.is_of(&party) && same_id(&call.id, wanted) && call.special != Special::Initialize
        });
        let Some(number) = found.map(|(number, _)| *number) else {
            return;
        };
        let call = state.calls.remove(&number);
        drop(state);
        self.post(notification.with([(requested, &Bytes::from(number.to_string()))]));
        if let Some(Call {
            id,
            to: Destination::Client { stream, .. },
            ..
        }) = call
        {
            let fault = Fault::new(Reason::Cancelled, "the client cancelled this request");
            stream.push(
                Class::Response(Outcome::Code(fault.code())),
                fault.body(Some(&id)),
            );
        }
    }

    /// A modern client went away, which is its cancellation (2026-07-28, "Transport-Specific Cancellation").
    pub(crate) fn abandon(&self, number: u64) {
        if self.state.lock().calls.remove(&number).is_some() {
            self.touch();
            self.post(cancelled(number, "the client closed its stream"));
        }
    }

    /// Ends every subscription with the closing result (2026-07-28, "Graceful Closure").
    pub(crate) fn end_subscriptions(&self) -> usize {
        let mut state = self.state.lock();
        let all = state
            .calls
            .iter()
            .filter(|(_, call)| call.special == Special::Listen);
        let numbers: Vec<u64> = all.map(|(number, _)| *number).collect();
        let ended: Vec<_> = numbers
            .iter()
            .filter_map(|number| state.calls.remove(number))
            .collect();
        drop(state);
        for (number, call) in numbers.iter().zip(ended) {
            self.post(cancelled(*number, "the stream is being closed"));
            call.close_subscription();
        }
        numbers.len()
    }

    /// Passes a client's answer on to the server, if the request went to this session. False: it did not.
    pub(crate) async fn answer(&self, session: &Session, response: &Message) -> bool {
        let number = response.id().as_deref().and_then(crate::message::our_number);
        let asked = number.and_then(|number| {
            let mut state = self.state.lock();
            let own = state
                .asked
                .get(&number)
                .is_some_and(|asked| asked.session == session.number());
            if own { state.asked.remove(&number) } else { None }
        });
        let Some(asked) = asked else { return false };
        self.touch();
        self.send(response.with([(response.id_span(), &asked.id)])).await;
        true
    }
}

impl Call {
    /// The server or the sidecar ends a subscription in order.
    pub(super) fn close_subscription(self) {
        let Destination::Client { stream, .. } = self.to else {
            return;
        };
        let id = String::from_utf8_lossy(&self.id);
        let result = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\",\
             \"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id}}}}}}}"
        );
        stream.push(Class::Response(Outcome::Ok), Payload::from(result));
    }
}

impl State {
    /// Notes a server request to a session; our id for it, or none if there are too many.
    pub(super) fn ask(&mut self, asked: Asked) -> Option<u64> {
        if self.asked.len() >= MAX_ASKED {
            return None;
        }
        let number = LAST_ASKED.fetch_add(1, Ordering::Relaxed) + 1;
        self.asked.insert(number, asked);
        Some(number)
    }
}

/// Takes a question back that nobody waits for any more.
struct Forget<'a> {
    link: &'a Link,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.state.lock().calls.remove(&self.number);
    }
}

fn cancelled(number: u64, reason: &str) -> Payload {
    Payload::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\
         \"params\":{{\"requestId\":{number},\"reason\":\"{reason}\"}}}}"
    ))
}
