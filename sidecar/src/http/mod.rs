//! The HTTP side: `/mcp` in both eras on one path, and what the edge asks of the sidecar itself.
//!
//! Invariants: the era is a request's, never a connection's; whoever may not call learns nothing but that; every
//! refusal is a row of [`crate::reply`].

mod body;
mod control;
mod events;
mod exchange;
mod guard;
mod legacy;
mod mirror;
mod modern;
mod params;
mod version;

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming as Body;

pub(crate) use body::ReplyBody;
pub(crate) use guard::Guard;
pub(crate) use params::ParamHeaders;

use crate::message::{Incoming, Sender};
use crate::metrics::Metrics;
use crate::processes::{NoLink, Processes};
use crate::reply::{Fault, Reason};
use crate::scan::ScanError;
use crate::session::{Principal, Session, Sessions};
use crate::splice::Payload;
use version::Version;

pub(crate) type Reply = Response<ReplyBody>;

/// Who is calling, in the edge's words.
const CLIENT: &str = "x-mcp-edge-client";

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) guard: Guard,
    pub(crate) processes: Arc<Processes>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) service: String,
    pub(crate) endpoint: String,
    /// Between two comments on a silent event stream.
    pub(crate) keepalive: Duration,
    /// Largest request body, in bytes.
    pub(crate) max_body: usize,
}

impl App {
    fn keepalive(&self) -> Duration {
        self.keepalive
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Ends a session and what it holds.
    fn end_session(&self, session: &Session) {
        if self.sessions.close(session) {
            self.count_sessions();
            self.processes.release(session);
        }
    }

    fn count_sessions(&self) {
        self.metrics
            .sessions
            .set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
    }

    /// Answers one request.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Body>) -> Reply {
        let (parts, body) = request.into_parts();
        if let Err(fault) = self.guard.check(&parts.headers) {
            return refuse(&fault, None);
        }
        let answer = match (parts.uri.path(), &parts.method) {
            ("/mcp", _) => self.mcp(&parts, body).await,
            ("/health", &Method::GET | &Method::HEAD) => Ok(control::health(&self, parts.uri.query()).await),
            ("/metrics", &Method::GET) => control::metrics(&self),
            ("/control/end-streams", &Method::POST) => Ok(control::end_streams(&self)),
            ("/health" | "/metrics", _) => Err(not_allowed("GET")),
            ("/control/end-streams", _) => Err(not_allowed("POST")),
            _ => Err(Refusal::of(Fault::new(
                Reason::NoRoute,
                "the MCP endpoint of a sidecar is /mcp",
            ))),
        };
        answer.unwrap_or_else(Refusal::into_reply)
    }

    async fn mcp(self: &Arc<Self>, parts: &Parts, body: Body) -> Result<Reply, Refusal> {
        let version = Version::of(&parts.headers).map_err(Refusal::of)?;
        match (&parts.method, &version) {
            (&Method::POST, _) => self.post(parts, body, version).await,
            // 2026-07-28 has neither: a client of that era must see a code it knows, or it falls back.
            (&Method::GET | &Method::DELETE, Version::Unsupported) => {
                Err(Refusal::of(version::of_header(&parts.headers)))
            }
            (&Method::GET | &Method::DELETE, Version::Modern) => Err(Refusal {
                allow: Some("POST"),
                ..Refusal::of(Fault::new(Reason::MethodNotAllowedModern, "only POST here"))
            }),
            (&Method::GET, _) => legacy::get(self, parts).map_err(Refusal::of),
            (&Method::DELETE, _) => legacy::delete(self, parts).map_err(Refusal::of),
            _ => Err(not_allowed("GET, POST, DELETE")),
        }
    }

    async fn post(self: &Arc<Self>, parts: &Parts, body: Body, version: Version) -> Result<Reply, Refusal> {
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let essence = content_type
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if !essence.eq_ignore_ascii_case(b"application/json") {
            let fault = Fault::new(
                Reason::UnsupportedMediaType,
                "the Content-Type must be application/json",
            );
            return Err(Refusal::of(fault));
        }
        let accept = Accept::of(&parts.headers);
        if !accept.json && !accept.events {
            let text = "the Accept header must take application/json or text/event-stream";
            return Err(Refusal::of(Fault::new(Reason::NotAcceptable, text)));
        }
        let bytes = body::read(body, self.max_body).await.map_err(Refusal::of)?;
        let incoming =
            Incoming::parse(bytes, Sender::Client).map_err(|error| Refusal::of(unreadable(&error)))?;
        match incoming {
            Incoming::One(message) if version == Version::Modern || modern::says_so(&message) => {
                modern::post(self, parts, message, accept).await
            }
            Incoming::One(message) if version == Version::Unsupported => {
                Err(Refusal::of(version::of_header(&parts.headers)).to(message.id()))
            }
            Incoming::Batch(_) if matches!(version, Version::Modern | Version::Unsupported) => Err(
                Refusal::of(Fault::new(Reason::InvalidRequest, "this revision has no batches")),
            ),
            legacy => legacy::post(self, parts, legacy, accept).await,
        }
    }
}

fn unreadable(error: &ScanError) -> Fault {
    let reason = if matches!(error, ScanError::Shape { .. }) {
        Reason::InvalidRequest
    } else {
        Reason::ParseError
    };
    Fault::new(reason, format!("the body is no JSON-RPC message: {error}"))
}

/// The principal that the edge names; everybody is the same one without an edge.
fn principal(headers: &HeaderMap) -> Principal {
    headers
        .get(CLIENT)
        .and_then(|name| name.to_str().ok())
        .unwrap_or_default()
        .into()
}

/// Which forms of an answer a client takes. No header, or a wildcard, is any.
#[derive(Debug, Clone, Copy)]
struct Accept {
    json: bool,
    events: bool,
}

impl Accept {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self {
            json: false,
            events: false,
        };
        let mut any = true;
        for value in headers.get_all(header::ACCEPT) {
            any = false;
            for part in value.to_str().unwrap_or_default().split(',') {
                let essence = part
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_ascii_lowercase();
                found.json |= matches!(essence.as_str(), "application/json" | "application/*" | "*/*");
                found.events |= matches!(essence.as_str(), "text/event-stream" | "text/*" | "*/*");
            }
        }
        if any {
            Self {
                json: true,
                events: true,
            }
        } else {
            found
        }
    }
}

/// A fault on its way to the client.
#[derive(Debug)]
struct Refusal {
    fault: Option<Fault>,
    /// Raw id of the request, if it was read.
    id: Option<bytes::Bytes>,
    allow: Option<&'static str>,
}

impl Refusal {
    fn of(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            id: None,
            allow: None,
        }
    }

    /// 400 with nothing in it: a client of both eras takes that for "legacy only" and sends `initialize`.
    const FALL_BACK: Self = Self {
        fault: None,
        id: None,
        allow: None,
    };

    fn to(self, id: Option<bytes::Bytes>) -> Self {
        Self { id, ..self }
    }

    fn into_reply(self) -> Reply {
        let Some(fault) = &self.fault else {
            let mut reply = Response::new(ReplyBody::empty());
            *reply.status_mut() = StatusCode::BAD_REQUEST;
            return reply;
        };
        let mut reply = refuse(fault, self.id.as_deref());
        if let Some(allow) = self.allow {
            reply
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        reply
    }
}

fn not_allowed(allow: &'static str) -> Refusal {
    let fault = Fault::new(Reason::MethodNotAllowed, format!("this path takes {allow}"));
    Refusal {
        allow: Some(allow),
        ..Refusal::of(fault)
    }
}

/// What to tell a client that gets no process.
fn of_no_link(why: &NoLink) -> Fault {
    let (reason, after) = match why {
        NoLink::NoProcess { .. } => (Reason::NoProcess, Duration::from_secs(1)),
        NoLink::Unstartable { retry_after, .. } | NoLink::Backoff { retry_after, .. } => {
            (Reason::ServerRestarting, *retry_after)
        }
        NoLink::Silent { .. } => (Reason::ServerSilent, Duration::from_secs(1)),
        NoLink::LegacyOnly => return Fault::new(Reason::InvalidRequest, why.to_string()),
        NoLink::Down(down) => return Fault::of_down(down),
    };
    Fault::new(reason, why.to_string()).retry_after(after)
}

/// An answer with a JSON body.
fn json(status: StatusCode, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Writes a fault.
fn refuse(fault: &Fault, id: Option<&[u8]>) -> Reply {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = json(status, ReplyBody::from(fault.body(id)));
    let headers = reply.headers_mut();
    headers.insert(exchange::OUTCOME, HeaderValue::from(fault.code()));
    if let Some(seconds) = fault.retry_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// Taken, and nothing to say: exactly 202, no body, no content type (clients are strict about it).
fn accepted() -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::ACCEPTED;
    reply
}

/// A JSON text as a body.
fn text(body: String) -> ReplyBody {
    ReplyBody::from(Payload::from(body))
}
