//! Pingora's hooks, and nothing but the order of things in them.
//!
//! Every decision is somebody else's: see the map in [`super`]. Invariant: a hook that answers the client returns
//! `Ok(true)` or leaves its reply in the context for [`ProxyHttp::fail_to_proxy`]; no hook releases anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, Method};
use mcp_edge_filters::{Era, Reason, Reply, ResponseHead, RpcContext, ServiceName, Verdict};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::ctx::{Ctx, Dispatch};
use super::deadline::{self, Deadlines};
use super::reply::Failure;
use super::state::State;
use super::{body, inbound, peer, record, reply, router, waiting};
use crate::access_log::AccessLog;
use crate::metrics::Metrics;
use crate::shutdown::{Shutdown, Stage};
use crate::upstream::PickKey;

const OUTCOME: HeaderName = HeaderName::from_static("x-mcp-edge-outcome");
const SESSION_ID: &str = "mcp-session-id";

/// Attempts to connect, each to another endpoint where there is one.
const ATTEMPTS: usize = 3;

/// How long a request waits for a service whose first endpoint is still starting. Silent, so well below the 30 s
/// after which clients and proxies give up on an answer's first byte.
const STARTING: Duration = Duration::from_secs(20);

/// A client that sends nothing, or takes nothing, for this long has gone without saying so.
const CLIENT_READ: Duration = Duration::from_secs(60);
const CLIENT_WRITE: Duration = Duration::from_secs(60);
const DRAIN_BODY: Duration = Duration::from_secs(5);

/// What outlives every configuration.
pub struct Shared {
    pub state: ArcSwap<State>,
    pub metrics: Arc<Metrics>,
    pub access_log: AccessLog,
    pub shutdown: Shutdown,
    deadlines: Arc<Deadlines>,
    listener_loopback: bool,
}

impl Shared {
    /// `listener_loopback`: only this machine can reach the public listener.
    #[must_use]
    pub fn new(
        state: State,
        metrics: Arc<Metrics>,
        access_log: AccessLog,
        shutdown: Shutdown,
        listener_loopback: bool,
    ) -> Arc<Self> {
        let (state, deadlines) = (ArcSwap::from_pointee(state), Deadlines::new());
        Arc::new(Self {
            state,
            metrics,
            access_log,
            shutdown,
            deadlines,
            listener_loopback,
        })
    }

    /// Ends the upstream connections of requests that are past their limits, for as long as it is polled.
    pub async fn enforce_deadlines(self: Arc<Self>) {
        self.deadlines.clone().run().await;
    }
}

/// The proxy, as Pingora wants it.
pub struct EdgeProxy(pub Arc<Shared>);

impl EdgeProxy {
    /// Sends a reply and notes it.
    async fn refuse(&self, session: &mut Session, ctx: &mut Ctx, reply: &Reply) -> Result<bool> {
        ctx.ending.reason = Some(reply.reason);
        let rpc = match &ctx.request {
            Some(request) => request.rpc_context(),
            None => {
                let head = session.req_header();
                let modern = inbound::era(&head.headers) == Era::Modern;
                let is_rpc = modern || head.method == Method::POST;
                RpcContext {
                    is_rpc,
                    modern,
                    id: None,
                }
            }
        };
        reply::send(session, reply, rpc, &ctx.id).await?;
        Ok(true)
    }

    async fn admit(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Option<Reply>> {
        if self.0.shutdown.stage() > Stage::Serving {
            let reply = Reply::new(Reason::Draining, "the edge is stopping; come back in a moment");
            return Ok(Some(reply.after(Duration::from_secs(1))));
        }
        let state = ctx.state.clone();
        let head = session.req_header();
        let asked = router::Asked {
            path: head.uri.path(),
            host: inbound::authority(head),
            headers: &head.headers,
        };
        let Some(matched) = router::find(&state.config, &asked) else {
            return Ok(Some(Reply::new(
                Reason::NoRoute,
                "no service is served at this path",
            )));
        };
        if !matches!(head.method, Method::GET | Method::POST | Method::DELETE) {
            return Ok(Some(Reply::method_not_allowed("GET, POST, DELETE")));
        }
        let mcp_session = head.headers.get(SESSION_ID).cloned();
        let service = ServiceName::new(matched.service.name.shared());
        let mut request = inbound::view(session, ctx.id.clone(), service, self.0.listener_loopback);
        let pool = state.pools.get(&matched.service.name).cloned();
        let max_body = matched.max_body;
        ctx.matched = Some(matched);

        if request.content_length.is_some_and(|length| length > max_body) {
            ctx.request = Some(request);
            return Ok(Some(Reply::new(
                Reason::BodyTooLarge,
                format!("the body is over {max_body} bytes, this route's limit"),
            )));
        }
        let body = match body::read_head(session, request.content_length).await {
            Ok(body) => body,
            Err(error) => {
                ctx.request = Some(request);
                let Some(reply) = reply::body_error(&error) else {
                    return Err(Error::explain(ErrorType::ConnectionClosed, error.to_string()).into_down());
                };
                return Ok(Some(reply));
            }
        };
        ctx.bytes_in = body.bytes.len() as u64;
        if let Err(reply) = inbound::read_call(&mut request, &session.req_header().headers, &body) {
            ctx.request = Some(request);
            return Ok(Some(reply));
        }
        ctx.held = body.held;
        let verdict = waiting::while_client_stays(session, state.chain.run(&mut request)).await;
        ctx.request = Some(request);
        if let Verdict::Reply(reply) = verdict? {
            return Ok(Some(*reply));
        }
        let Some(pool) = pool else {
            return Ok(Some(Reply::new(
                Reason::NoHealthyUpstream,
                "the service has no runtime",
            )));
        };
        // A request that came a moment too early is worth a short wait: at start all services start at once.
        waiting::while_client_stays(session, tokio::time::timeout(STARTING, pool.settled()))
            .await?
            .ok();
        ctx.dispatch = Some(Dispatch {
            pool,
            session: mcp_session,
            lease: None,
            tried: Vec::new(),
            watch: None,
            sent: None,
        });
        // What was read early passes `request_body_filter` as well, and is counted there.
        ctx.bytes_in = 0;
        self.0.metrics.dispatched(ctx.started.elapsed().as_secs_f64());
        Ok(None)
    }
}

/// A defect: Pingora called a hook of a request that was never admitted.
fn not_admitted() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a request that was not admitted")
}

#[async_trait]
impl ProxyHttp for EdgeProxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(self.0.state.load_full(), self.0.shutdown.begin())
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        ctx.id = inbound::request_id(&session.req_header().headers);
        inbound::drop_edge_headers(session.req_header_mut());
        session.set_read_timeout(Some(CLIENT_READ));
        session.set_write_timeout(Some(CLIENT_WRITE));
        session
            .as_downstream_mut()
            .set_total_drain_timeout(Some(DRAIN_BODY));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        match self.admit(session, ctx).await? {
            Some(reply) => self.refuse(session, ctx, &reply).await,
            None => Ok(false),
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let (Some(dispatch), Some(request), Some(matched)) = (&mut ctx.dispatch, &ctx.request, &ctx.matched)
        else {
            return Err(not_admitted());
        };
        // The lease of a failed attempt goes before the next one is taken.
        dispatch.lease = None;
        let key = PickKey {
            client: request
                .identity
                .as_ref()
                .map_or("", |identity| identity.principal.as_str()),
            session: dispatch.session.as_ref().and_then(|value| value.to_str().ok()),
            tried: &dispatch.tried,
        };
        match dispatch.pool.pick(&key) {
            Ok(lease) => {
                if !dispatch.tried.is_empty() {
                    self.0.metrics.retried();
                }
                dispatch.tried.push(lease.endpoint().id().clone());
                let peer = peer::peer(lease.endpoint(), matched)?;
                dispatch.lease = Some(lease);
                Ok(Box::new(peer))
            }
            Err(none) => {
                ctx.refusal = Some(Box::new(reply::no_endpoint(&none, &matched.service.name)));
                Err(Error::new(ErrorType::HTTPStatus(503)).into_in())
            }
        }
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let (Some(dispatch), Some(matched)) = (&mut ctx.dispatch, &ctx.matched) {
            let (now, limits) = (Instant::now(), &matched.timeouts);
            let total = ctx.started + limits.total;
            dispatch.watch =
                deadline::duplicate(fd).map(|fd| self.0.deadlines.watch(fd, now + limits.first_byte, total));
            dispatch.sent = Some(now);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _s: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let lease = ctx.dispatch.as_ref().and_then(|dispatch| dispatch.lease.as_ref());
        let (Some(lease), Some(request)) = (lease, &ctx.request) else {
            return Err(not_admitted());
        };
        peer::rewrite(head, lease.endpoint(), request)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let (Some(held), Some(next)) = (ctx.held.take(), body.as_ref()) {
            *body = Some([held, next.clone()].concat().into());
        }
        ctx.bytes_in += body.as_ref().map_or(0, Bytes::len) as u64;
        if ctx
            .matched
            .as_ref()
            .is_some_and(|matched| ctx.bytes_in > matched.max_body)
        {
            return Err(Error::new(ErrorType::HTTPStatus(413)).into_down());
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.ending.outcome = head.remove_header(&OUTCOME);
        let content_type = head.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        ctx.ending.event_stream = content_type.is_some_and(|value| value.starts_with(b"text/event-stream"));
        let Some(dispatch) = &ctx.dispatch else {
            return Ok(());
        };
        if let Some(watch) = &dispatch.watch {
            watch.head_arrived();
        }
        let Some(request) = &mut ctx.request else {
            return Ok(());
        };
        head.insert_header(inbound::REQUEST_ID, request.id.as_str())?;
        let seen = ResponseHead {
            status: head.status,
            event_stream: ctx.ending.event_stream,
            mcp_outcome: ctx.ending.outcome.clone(),
            first_byte: dispatch.sent.map_or(Duration::ZERO, |sent| sent.elapsed()),
        };
        ctx.state.chain.on_response(request, &seen);
        for (name, value) in request.response_headers.drain(..) {
            head.insert_header(name, value)?;
        }
        if let Some(lease) = &dispatch.lease {
            // A sidecar that names an outcome has done its part, whatever the answer says.
            if ctx.ending.outcome.is_none() && matches!(head.status.as_u16(), 502..=504) {
                lease.failed();
            } else {
                lease.ok();
            }
        }
        if self.0.shutdown.stage() > Stage::Serving {
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _s: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(dispatch) = &mut ctx.dispatch {
            if let Some(lease) = &dispatch.lease {
                lease.connect_failed();
            }
            // Nothing was sent yet, so any request may go elsewhere.
            error.set_retry(dispatch.tried.len() < ATTEMPTS);
        }
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        _session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        _client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        if error.esource() == &pingora::ErrorSource::Upstream
            && let Some(lease) = ctx.dispatch.as_ref().and_then(|dispatch| dispatch.lease.as_ref())
        {
            lease.failed();
        }
        // The request may have been acted on: a second one could do it twice.
        error.set_retry(false);
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let passed = ctx
            .dispatch
            .as_ref()
            .and_then(|dispatch| dispatch.watch.as_ref())
            .and_then(deadline::Watch::passed);
        let failure = match ctx.refusal.take() {
            Some(reply) => Failure::Refused(*reply),
            None => reply::explain(error, passed),
        };
        let reply = match failure {
            Failure::Client => {
                return FailToProxy {
                    error_code: 0,
                    can_reuse_downstream: false,
                };
            }
            Failure::Refused(reply) => reply,
            Failure::Upstream(reply) => {
                ctx.ending.upstream_failed = true;
                reply
            }
        };
        let error_code = reply.reason.status().as_u16();
        if session.response_written().is_some() {
            // Too late to say anything; the cut connection says that the answer is not whole.
            ctx.ending.reason = Some(reply.reason);
            return FailToProxy {
                error_code,
                can_reuse_downstream: false,
            };
        }
        let sent = self.refuse(session, ctx, &reply).await;
        FailToProxy {
            error_code,
            can_reuse_downstream: sent.is_ok() && session.as_downstream_mut().is_body_done(),
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Ctx) {
        record::ended(&self.0, session, ctx);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        // The access log has the reason; a line more per refused or gone client would only hide other lines.
        true
    }
}
