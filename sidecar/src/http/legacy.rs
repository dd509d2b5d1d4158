//! Revisions up to 2025-11-25: sessions, a standalone stream, batches where 2025-03-26 has them.
//!
//! Invariants: a session answers only to the client that opened it; a notification or response gets exactly 202; a
//! client that leaves cancels nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};

use super::body::ReplyBody;
use super::events::{Events, Open, parse_event_id};
use super::exchange::{Exchange, SESSION_ID, Undo, event_stream};
use super::{Accept, App, Refusal, Reply, accepted, mirror, of_no_link, principal};
use crate::audience::Audience;
use crate::link::{Link, Party};
use crate::message::{Incoming, Kind, Message};
use crate::processes::{Role, Slot};
use crate::reply::{Fault, Reason};
use crate::session::Session;
use crate::splice::Payload;
use crate::stream::{Class, Outcome, Stream};

pub(super) async fn post(
    app: &Arc<App>,
    parts: &Parts,
    incoming: Incoming,
    accept: Accept,
) -> Result<Reply, Refusal> {
    let (messages, batch) = match incoming {
        Incoming::One(message) if is_initialize(&message) => {
            return initialize(app, parts, message, accept).await;
        }
        Incoming::One(message) => (vec![message], false),
        Incoming::Batch(messages) => (messages, true),
    };
    let id = if batch {
        None
    } else {
        messages.first().and_then(Message::id)
    };
    let refuse = |fault: Fault| Refusal::of(fault).to(id.clone());
    let session = session_of(app, &parts.headers).map_err(refuse)?;
    if batch && !session.batches() {
        let text = "only revision 2025-03-26 has batches; send the messages one by one";
        return Err(refuse(Fault::new(Reason::InvalidRequest, text)));
    }
    if messages.iter().any(is_initialize) {
        return Err(refuse(Fault::new(
            Reason::InvalidRequest,
            "initialize cannot be part of a batch",
        )));
    }
    for message in &messages {
        check_claims(&parts.headers, message, batch).map_err(refuse)?;
    }
    session.touch();
    let (requests, others): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .partition(|message| message.kind() == Kind::Request);
    for message in &others {
        pass_on(&session, message).await;
    }
    if requests.is_empty() {
        return Ok(accepted());
    }
    for request in &requests {
        app.metrics().request("legacy", &request.method());
    }
    let stream = session.shelf().stream(requests.len(), true, !accept.events);
    let exchange = Exchange {
        stream: Arc::clone(&stream),
        ids: requests.iter().filter_map(Message::id).collect(),
        batch,
        json: accept.json,
        events: accept.events,
        session: Some(Arc::clone(&session)),
        opens: false,
        undo: None,
    };
    let send = send(Arc::clone(app), session, requests, stream);
    Ok(exchange.run(app, send).await)
}

async fn initialize(
    app: &Arc<App>,
    parts: &Parts,
    message: Message,
    accept: Accept,
) -> Result<Reply, Refusal> {
    let id = message.id();
    let refuse = |fault: Fault| Refusal::of(fault).to(id.clone());
    check_claims(&parts.headers, &message, false).map_err(refuse)?;
    app.metrics().request("legacy", "initialize");
    let opened = app.sessions.open(principal(&parts.headers), message.clone());
    let (session, evicted) = opened.map_err(|error| {
        refuse(Fault::new(
            Reason::Internal,
            format!("the system gives no random numbers: {error}"),
        ))
    })?;
    if let Some(evicted) = evicted {
        app.processes.release(&evicted);
    }
    app.count_sessions();
    let version = message
        .text(message.fields().protocol_version)
        .unwrap_or_default()
        .into_owned();
    app.processes.place_session(&session, &version);
    let stream = session.shelf().stream(1, true, !accept.events);
    let exchange = Exchange {
        stream: Arc::clone(&stream),
        ids: id.into_iter().collect(),
        batch: false,
        json: accept.json,
        events: accept.events,
        session: Some(Arc::clone(&session)),
        opens: true,
        undo: Some(Undo::Unopened {
            app: Arc::clone(app),
            session: Arc::clone(&session),
            disarmed: false,
        }),
    };
    let send = {
        let app = Arc::clone(app);
        async move {
            let slot = place_of(&session)?;
            let link = app.processes.link(&slot).await.map_err(|why| of_no_link(&why))?;
            match (slot.role(), link.initialized()) {
                (Role::Shared { .. }, Some(result)) => {
                    session.negotiated(version_in(result));
                    stream.push(Class::Response(Outcome::Ok), answer_with(&message, result));
                }
                _ => call(&link, &message, &session, &stream).await?,
            }
            Ok(None)
        }
    };
    Ok(exchange.run(app, send).await)
}

/// Sends requests to the session's process, started if need be.
async fn send(
    app: Arc<App>,
    session: Arc<Session>,
    requests: Vec<Message>,
    stream: Arc<Stream>,
) -> Result<Option<Undo>, Fault> {
    let slot = place_of(&session)?;
    let link = app.processes.link(&slot).await.map_err(|why| of_no_link(&why))?;
    for request in &requests {
        if request.method() == "tools/call" && session.take_bereaved() {
            let text =
                "the MCP server was restarted and has forgotten what this session did; repeat what is needed";
            let fault = Fault::new(Reason::ServerRestarted, text).retry_after(std::time::Duration::ZERO);
            answer_here(&stream, request, &fault);
            continue;
        }
        if let Role::Shared { audience, .. } = slot.role()
            && let Some(answer) = share(audience, &session, request)
        {
            answer_share(&stream, request, answer);
            continue;
        }
        call(&link, request, &session, &stream).await?;
    }
    Ok(None)
}

async fn call(
    link: &Arc<Link>,
    request: &Message,
    session: &Arc<Session>,
    stream: &Arc<Stream>,
) -> Result<(), Fault> {
    let party = Party::Session(Arc::clone(session));
    let ticket = link
        .call(request, party, stream)
        .map_err(|down| Fault::of_down(&down))?;
    ticket.send().await;
    Ok(())
}

/// Subscriptions on a shared process: the server hears of the first and the last one only.
fn share(audience: &Audience, session: &Session, request: &Message) -> Option<Result<(), Fault>> {
    let uri = request.text(request.fields().uri)?;
    match request.method().as_ref() {
        "resources/subscribe" if !audience.watch(session.number(), &uri) => {
            let text = "too many resources are watched through this server's process";
            Some(Err(Fault::new(Reason::TooManySubscriptions, text)))
        }
        // Others still watch it.
        "resources/unsubscribe" if !audience.unwatch(session.number(), &uri) => Some(Ok(())),
        _ => None,
    }
}

fn answer_share(stream: &Stream, request: &Message, answer: Result<(), Fault>) {
    match answer {
        Ok(()) => {
            let done = answer_with(request, &Bytes::from_static(b"{}"));
            stream.push(Class::Response(Outcome::Ok), done);
        }
        Err(fault) => answer_here(stream, request, &fault),
    }
}

fn answer_here(stream: &Stream, request: &Message, fault: &Fault) {
    stream.push(
        Class::Response(Outcome::Code(fault.code())),
        fault.body(request.id().as_deref()),
    );
}

/// A result under the request's id.
fn answer_with(request: &Message, result: &Bytes) -> Payload {
    let id = request.id().unwrap_or_default();
    let (id, result) = (String::from_utf8_lossy(&id), String::from_utf8_lossy(result));
    Payload::from(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}"))
}

fn version_in(result: &Bytes) -> String {
    let result: serde_json::Value = serde_json::from_slice(result).unwrap_or_default();
    result
        .get("protocolVersion")
        .and_then(|version| version.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// Notifications and responses, to a process that runs: one that does not has nothing to be told.
async fn pass_on(session: &Arc<Session>, message: &Message) {
    let Some(slot) = session.slot() else { return };
    let method = message.method();
    if method == "notifications/initialized" {
        session.note_initialized();
    }
    let Some(link) = slot.live() else { return };
    let shared = matches!(slot.role(), Role::Shared { .. });
    match (message.kind(), method.as_ref()) {
        (Kind::Response, _) => {
            if !link.answer(session, message).await {
                tracing::debug!(session = session.id(), "a response to no request of this session");
            }
        }
        (_, "notifications/cancelled") => link.cancel(session, message),
        // A shared process was opened by the sidecar, for a client that has nothing.
        (_, _) if shared => {}
        _ => link.notify(message).await,
    }
}

pub(super) fn get(app: &Arc<App>, parts: &Parts) -> Result<Reply, Fault> {
    if !Accept::of(&parts.headers).events {
        return Err(Fault::new(
            Reason::NotAcceptable,
            "the Accept header must take text/event-stream",
        ));
    }
    let session = session_of(app, &parts.headers)?;
    session.touch();
    let resumed = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let reader = match resumed {
        Some(id) => {
            let unknown = || Fault::new(Reason::BadRequest, "Last-Event-ID names no event of this session");
            let (number, seq) = parse_event_id(id).ok_or_else(unknown)?;
            session
                .stream(number)
                .and_then(|stream| stream.resume(seq))
                .ok_or_else(unknown)?
        }
        None => session.standalone().listen().ok_or_else(|| {
            Fault::new(
                Reason::StreamOpen,
                "this session's stream is read by another connection",
            )
        })?,
    };
    let events = Events::new(reader, app.keepalive(), Open::new(&app.metrics().streams)).with_ids();
    Ok(event_stream(ReplyBody::Events(Box::new(events))))
}

pub(super) fn delete(app: &Arc<App>, parts: &Parts) -> Result<Reply, Fault> {
    let session = session_of(app, &parts.headers)?;
    app.end_session(&session);
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    Ok(reply)
}

fn session_of(app: &App, headers: &HeaderMap) -> Result<Arc<Session>, Fault> {
    let missing = || {
        Fault::new(
            Reason::SessionMissing,
            "the Mcp-Session-Id header is missing; initialize first",
        )
    };
    let id = headers
        .get(SESSION_ID)
        .ok_or_else(missing)?
        .to_str()
        .unwrap_or_default();
    let found = app.sessions.find(id, &principal(headers));
    found.ok_or_else(|| {
        Fault::new(
            Reason::SessionUnknown,
            "no such session, or it has ended; initialize again",
        )
    })
}

fn place_of(session: &Session) -> Result<Arc<Slot>, Fault> {
    // Assigned when the session was opened.
    session
        .slot()
        .cloned()
        .ok_or_else(|| Fault::new(Reason::Internal, "the session has no place"))
}

fn is_initialize(message: &Message) -> bool {
    message.kind() == Kind::Request && message.method() == "initialize"
}

/// What the edge told from the body's first bytes has been used to admit it; the whole body must say the same.
fn check_claims(headers: &HeaderMap, message: &Message, batch: bool) -> Result<(), Fault> {
    if batch {
        return Ok(());
    }
    mirror::check_claims(headers, message)
}
