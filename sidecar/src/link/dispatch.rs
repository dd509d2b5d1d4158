//! What a server says, and who gets to hear it.
//!
//! Problem: on stdio only responses and progress say which call they belong to. Rules, in this order:
//! what carries our id or token goes to that call; a change of lists or resources goes to the standalone
//! stream of those who asked; anything else belongs to the one call in flight, or else to the oldest call
//! in flight of the one party that has any. Never to another party: where the party is not certain, a
//! notification is dropped and a request refused.

use std::sync::Arc;

use bytes::Bytes;

use super::call::{Asked, Destination, Special};
use super::{Link, State, Tenant};
use crate::message::{Incoming, Kind, Message, Sender, our_number, same_id};
use crate::reply::{Fault, Reason};
use crate::scan::Scanner;
use crate::session::Session;
use crate::splice::Payload;
use crate::stream::{Class, Outcome, Stream};

/// JSON-RPC: the client does not know this method.
const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the request cannot be delivered.
const INTERNAL: i64 = -32603;

impl Link {
    /// One line of the server's stdout.
    pub(super) fn incoming(&self, line: Bytes) {
        match Incoming::parse(line, Sender::Server) {
            Ok(Incoming::One(message)) => self.message(&message),
            Ok(Incoming::Batch(messages)) => messages.iter().for_each(|message| self.message(message)),
            Err(error) => self.junk(&error.to_string()),
        }
    }

    /// Something on stdout that is no message: skipped, counted, logged.
    pub(super) fn junk(&self, what: &str) {
        self.metrics.junk_lines.inc();
        tracing::warn!(
            process = self.number,
            what,
            "skipped a line on the server's stdout that is no message"
        );
    }

    /// A line over the limit: fails the call it answers, if that can be told, and nothing else.
    pub(super) fn oversized(&self, prefix: &[u8], len: u64) {
        self.metrics.junk_lines.inc();
        tracing::warn!(
            process = self.number,
            len,
            "skipped a message of the server over --max-line"
        );
        let mut state = self.state.lock();
        let number = match id_in(prefix) {
            Some(number) => Some(number),
            None if state.calls.len() == 1 => state.calls.keys().next().copied(),
            None => None,
        };
        let call = number.and_then(|number| state.calls.remove(&number));
        drop(state);
        if let Some(call) = call
            && let Destination::Client { stream, .. } = call.to
        {
            let text = format!("the answer of the MCP server is too large ({len} bytes); raise --max-line");
            let fault = Fault::new(Reason::AnswerTooLarge, text);
            stream.push(
                Class::Response(Outcome::Code(fault.code())),
                fault.body(Some(&call.id)),
            );
        }
    }

    fn message(&self, message: &Message) {
        match message.kind() {
            Kind::Response => self.response(message),
            Kind::Request => self.request(message),
            Kind::Notification => self.notification(message),
        }
    }

    fn response(&self, message: &Message) {
        let number = message.id().as_deref().and_then(our_number);
        let call = number.and_then(|number| self.state.lock().calls.remove(&number));
        let Some(call) = call else {
            self.metrics.dropped("late");
            let id = message.id().unwrap_or_default();
            tracing::debug!(
                process = self.number,
                ?id,
                "a late or unknown answer of the server was dropped"
            );
            return;
        };
        self.touch();
        match call.to {
            Destination::Sidecar(answer) => drop(answer.send(Ok(message.clone()))),
            Destination::Client { party, stream } => {
                if call.special == Special::Initialize
                    && let super::Party::Session(session) = &party
                    && let Some(version) = message.text(message.fields().protocol_version)
                {
                    session.negotiated(version.into_owned());
                }
                let subscription = message.fields().meta.subscription_id;
                let payload = message.with([(message.id_span(), &call.id), (subscription, &call.id)]);
                if !stream.push(Class::Response(outcome(message)), payload) {
                    self.metrics.dropped("response");
                }
            }
        }
    }

    fn notification(&self, message: &Message) {
        let method = message.method();
        let fields = message.fields();
        match method.as_ref() {
            "notifications/progress" => self.progress(message),
            "notifications/cancelled" => self.cancelled(message),
            _ if fields.meta.subscription_id.is_some() => self.subscription(message),
            "notifications/message" => self.log_message(message),
            "notifications/resources/updated" => self.changed(message, fields.uri),
            name if name.ends_with("/list_changed") => {
                if name == "notifications/tools/list_changed" {
                    self.param_headers.forget();
                }
                self.changed(message, None);
            }
            _ => {
                let stream = self
                    .caller(&self.state.lock(), |_| true)
                    .map(|(stream, _)| stream);
                self.deliver(message.with([]), stream);
            }
        }
    }

    fn progress(&self, message: &Message) {
        let span = message.fields().progress_token;
        let number = message.raw(span).and_then(our_number);
        let state = self.state.lock();
        let call = number.and_then(|number| state.calls.get(&number));
        let found = call.and_then(|call| match (&call.to, &call.token) {
            (Destination::Client { stream, .. }, Some(token)) => Some((Arc::clone(stream), token.clone())),
            _ => None,
        });
        drop(state);
        match found {
            Some((stream, token)) => self.deliver(message.with([(span, &token)]), Some(stream)),
            None => self.metrics.dropped("late"),
        }
    }

    /// The server withdraws one of its own requests, or (modern) ends a subscription.
    fn cancelled(&self, message: &Message) {
        let span = message.fields().request_id;
        let Some(raw) = message.raw(span) else { return };
        let mut state = self.state.lock();
        let asked = state
            .asked
            .iter()
            .find(|(_, asked)| same_id(&asked.id, raw))
            .map(|(number, _)| *number);
        if let Some(number) = asked {
            let asked = state.asked.remove(&number);
            drop(state);
            let payload = message.with([(span, &Bytes::from(number.to_string()))]);
            self.deliver(payload, asked.map(|asked| asked.stream));
            return;
        }
        let number = our_number(raw).filter(|number| {
            state
                .calls
                .get(number)
                .is_some_and(|call| call.special == Special::Listen)
        });
        let call = number.and_then(|number| state.calls.remove(&number));
        drop(state);
        if let Some(call) = call {
            call.close_subscription();
        }
    }

    /// Belongs to the `subscriptions/listen` whose id it carries.
    fn subscription(&self, message: &Message) {
        if message.method() == "notifications/tools/list_changed" {
            self.param_headers.forget();
        }
        let span = message.fields().meta.subscription_id;
        let number = message.raw(span).and_then(our_number);
        let state = self.state.lock();
        let call = number.and_then(|number| state.calls.get(&number));
        let found = call.and_then(|call| match &call.to {
            Destination::Client { stream, .. } if call.special == Special::Listen => {
                Some((Arc::clone(stream), call.id.clone()))
            }
            _ => None,
        });
        drop(state);
        match found {
            Some((stream, id)) => self.deliver(message.with([(span, &id)]), Some(stream)),
            None => self.metrics.dropped("late"),
        }
    }

    /// A log message: on stdio nothing says whose it is.
    fn log_message(&self, message: &Message) {
        let state = self.state.lock();
        let modern = matches!(self.tenant, Tenant::Modern);
        let caller = self.caller(&state, |special| !modern || special == Special::Logs);
        drop(state);
        self.deliver(message.with([]), caller.map(|(stream, _)| stream));
    }

    /// A list or resource changed: for the standalone stream of every session it concerns.
    fn changed(&self, message: &Message, uri: Option<crate::scan::Span>) {
        match &self.tenant {
            Tenant::Shared(audience) => {
                let uri = uri.and_then(|uri| message.text(Some(uri)));
                for session in audience.sessions(uri.as_deref()) {
                    self.deliver(message.with([]), Some(Arc::clone(session.standalone())));
                }
            }
            Tenant::Session(session) => {
                let Some(session) = session.upgrade() else { return };
                let reads = session.standalone().attached();
                let caller = if reads {
                    None
                } else {
                    self.caller(&self.state.lock(), |_| true)
                };
                self.deliver(message.with([]), caller.map(|(stream, _)| stream));
            }
            // Without a subscription id nobody asked for it.
            Tenant::Modern | Tenant::Nobody => self.metrics.dropped("uncorrelated"),
        }
    }

    /// A request of the server: `ping` is answered here, the others by the client they belong to.
    fn request(&self, message: &Message) {
        let id = message.id().unwrap_or_default();
        let method = message.method();
        if method == "ping" {
            self.post(Payload::from(format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{}}}}",
                String::from_utf8_lossy(&id)
            )));
            return;
        }
        let mut state = self.state.lock();
        let asks = match &self.tenant {
            Tenant::Session(session) => session.upgrade(),
            // A shared process was told that its client can do nothing; modern ones never ask this way.
            Tenant::Shared(_) | Tenant::Modern | Tenant::Nobody => None,
        };
        let Some(session) = asks.filter(|session| session.capabilities().allow(&method)) else {
            drop(state);
            let text = format!("the client cannot answer {method}: it has not declared the capability");
            self.refuse(&id, METHOD_NOT_FOUND, &text);
            return;
        };
        let caller = self.caller(&state, |_| true).map(|(stream, _)| stream);
        let streams = caller.into_iter().chain([Arc::clone(session.standalone())]);
        let asked = |stream: &Arc<Stream>| Asked {
            id: id.clone(),
            session: session.number(),
            stream: Arc::clone(stream),
        };
        for stream in streams {
            let Some(number) = state.ask(asked(&stream)) else {
                break;
            };
            let payload = message.with([(message.id_span(), &Bytes::from(number.to_string()))]);
            if stream.push(Class::Request, payload) {
                return;
            }
            state.asked.remove(&number);
        }
        drop(state);
        self.refuse(
            &id,
            INTERNAL,
            &format!("the client cannot be reached with {method} now"),
        );
    }

    fn refuse(&self, id: &[u8], code: i64, text: &str) {
        let text = serde_json::Value::from(text);
        let id = String::from_utf8_lossy(id);
        self.post(Payload::from(format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":{text}}}}}"
        )));
    }

    /// The stream of the oldest call in flight, among the calls that `wanted` picks, if all of them are of one party.
    fn caller(
        &self,
        state: &State,
        wanted: impl Fn(Special) -> bool,
    ) -> Option<(Arc<Stream>, Option<Arc<Session>>)> {
        let mut calls = state.calls.values().filter_map(|call| match &call.to {
            Destination::Client { party, stream }
                if call.special != Special::Listen && wanted(call.special) =>
            {
                Some((party, stream))
            }
            _ => None,
        });
        let (party, stream) = calls.next()?;
        if !calls.all(|(other, _)| other.is(party)) {
            return None;
        }
        let session = match party {
            super::Party::Session(session) => Some(Arc::clone(session)),
            super::Party::Client(_) => None,
        };
        Some((Arc::clone(stream), session))
    }

    /// Puts a notification on `stream`; if it cannot go there, on the standalone stream of the one session there is.
    fn deliver(&self, payload: Payload, stream: Option<Arc<Stream>>) {
        if let Some(stream) = stream
            && stream.push(Class::Notification, payload.clone())
        {
            return;
        }
        if let Tenant::Session(session) = &self.tenant
            && let Some(session) = session.upgrade()
            && session.standalone().push(Class::Notification, payload)
        {
            return;
        }
        self.metrics.dropped("notification");
    }
}

fn outcome(response: &Message) -> Outcome {
    if response.error().is_some() {
        let code = response.raw(response.fields().error_code);
        let code = code.and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok());
        return Outcome::Code(code.unwrap_or(INTERNAL));
    }
    if response.raw(response.fields().is_error) == Some(b"true") {
        Outcome::ToolError
    } else {
        Outcome::Ok
    }
}

/// The id of ours in the beginning of a message that was cut.
fn id_in(prefix: &[u8]) -> Option<u64> {
    let valid = match std::str::from_utf8(prefix) {
        Ok(text) => text.as_bytes(),
        Err(error) => prefix.get(..error.valid_up_to())?,
    };
    let mut id = None;
    let mut scanner = Scanner::new(valid, 256).ok()?;
    // Ends with an error at the cut, after the members before it have been seen.
    let _ = scanner.object(|s, key| {
        let span = s.value()?;
        if key == "id" {
            id = our_number(span.of(valid));
        }
        Ok(())
    });
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_cut_message_is_found_if_it_comes_early() {
        assert_eq!(id_in(br#"{"jsonrpc":"2.0","id":12,"result":{"a":"xxx"#), Some(12));
        assert_eq!(id_in(br#"{"result":{"id":3,"a":"xxx"#), None);
        assert_eq!(id_in(b"{\"id\":7,\"x\":\"\xc3"), Some(7));
    }
}
