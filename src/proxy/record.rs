//! What stays of a request when it has ended: a line in the access log, a place in the metrics.

use std::time::Duration;

use http::StatusCode;
use mcp_edge_filters::{End, Era, Outcome, Reason};
use pingora::proxy::Session;

use super::ctx::Ctx;
use super::service::Shared;
use crate::access_log::{Entry, now_ms};
use crate::metrics::Ended;

/// Label of a request that matched no service, had no verified client, or was answered by no sidecar.
const NONE: &str = "-";

/// Notes the end of a request everywhere it is noted.
pub(super) fn ended(shared: &Shared, session: &Session, ctx: &Ctx) {
    let status = session.response_written().map(|head| head.status);
    let elapsed = ctx.started.elapsed();
    if let Some(request) = &ctx.request {
        ctx.state.chain.on_end(
            request,
            &Outcome {
                status,
                end: end(ctx, status),
                elapsed,
            },
        );
    }
    log(shared, session, ctx, status, elapsed);
}

fn end(ctx: &Ctx, status: Option<StatusCode>) -> End {
    match (ctx.ending.reason, status) {
        (Some(reason), _) if ctx.ending.upstream_failed => End::UpstreamFailed(reason),
        (Some(reason), _) => End::Refused(reason),
        (None, Some(_)) => End::Complete,
        (None, None) => End::ClientGone,
    }
}

fn log(shared: &Shared, session: &Session, ctx: &Ctx, status: Option<StatusCode>, elapsed: Duration) {
    let head = session.req_header();
    let request = ctx.request.as_ref();
    let identity = request.and_then(|request| request.identity.as_deref());
    let message = request.and_then(|request| request.call.messages().first());
    let dispatch = ctx.dispatch.as_ref();
    let service = ctx.matched.as_ref().map(|matched| matched.service.name.as_str());
    let status = status.map_or(0, |status| status.as_u16());
    let reason = ctx.ending.reason.map(Reason::as_str);
    let outcome = match (reason, &ctx.ending.outcome) {
        (Some(reason), _) => reason,
        (None, Some(outcome)) => outcome.to_str().unwrap_or(NONE),
        (None, None) if ctx.ending.event_stream => "stream",
        (None, None) if status == 0 => "client_gone",
        (None, None) => "ok",
    };
    shared.access_log.put(&Entry {
        time_ms: now_ms(),
        request_id: ctx.id.as_str(),
        client: identity.map(|identity| identity.principal.as_str()),
        tier: identity.map(|identity| identity.tier.as_str()),
        service,
        endpoint: dispatch
            .and_then(|d| d.lease.as_ref())
            .map(|lease| lease.endpoint().id().as_str()),
        era: match request.map(|request| request.era) {
            Some(Era::Modern) => "modern",
            _ => "legacy",
        },
        http_method: head.method.as_str(),
        path: head.uri.path(),
        method: message.and_then(|message| message.method()),
        name: message.and_then(|message| message.tool()),
        status,
        outcome,
        duration_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        bytes_in: ctx.bytes_in,
        bytes_out: session.body_bytes_sent() as u64,
        attempts: dispatch.map_or(0, |d| u32::try_from(d.tried.len()).unwrap_or(u32::MAX)),
    });
    shared.metrics.ended(&Ended {
        service: service.unwrap_or(NONE),
        tier: identity.map_or(NONE, |identity| identity.tier.as_str()),
        method: request.map_or(NONE, |request| request.call.label()),
        status,
        seconds: elapsed.as_secs_f64(),
        reason,
    });
}
