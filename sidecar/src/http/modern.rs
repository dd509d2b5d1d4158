//! 2026-07-28: every POST stands alone, is answered by JSON or by a stream of its own, and leaving is cancelling.
//!
//! Invariant: what the headers say and what the body says is the same request, or it goes nowhere.

use std::sync::Arc;

use http::request::Parts;

use super::exchange::{Exchange, Undo};
use super::{Accept, App, Refusal, Reply, accepted, mirror, of_no_link, principal, version};
use crate::link::{Era, Party};
use crate::message::{Kind, Message};
use crate::processes::NoLink;
use crate::processes::start::MODERN_VERSION;
use crate::reply::{Fault, Reason};

/// Whether a body is of this era although its header is missing (which is then an error of this era).
pub(super) fn says_so(message: &Message) -> bool {
    // Any version in `_meta` is of this era: the ones before have it in `initialize` alone.
    message.fields().meta.protocol_version.is_some()
}

pub(super) async fn post(
    app: &Arc<App>,
    parts: &Parts,
    message: Message,
    accept: Accept,
) -> Result<Reply, Refusal> {
    let id = message.id();
    let refuse = |fault: Fault| Refusal::of(fault).to(id.clone());
    if message.kind() == Kind::Response {
        let text = "clients of this revision send no responses; retry the request with inputResponses";
        return Err(refuse(Fault::new(Reason::InvalidRequest, text)));
    }
    app.metrics().request("modern", &message.method());
    mirror::check(&parts.headers, &message).map_err(refuse)?;
    check_meta(&message).map_err(refuse)?;
    let no_link = |why: &NoLink| match why {
        NoLink::LegacyOnly => Refusal::FALL_BACK,
        why => Refusal::of(of_no_link(why)).to(id.clone()),
    };
    if app.processes.era().await.map_err(|why| no_link(&why))? == Era::Legacy {
        return Err(Refusal::FALL_BACK);
    }
    let client = principal(&parts.headers);
    let slot = app.processes.modern_place(&client);
    if message.kind() == Kind::Notification {
        // A cancellation names no request here: over HTTP it is the end of the request's own stream.
        if message.method() != "notifications/cancelled"
            && let Some(link) = slot.live()
        {
            link.notify(&message).await;
        }
        return Ok(accepted());
    }
    let link = app.processes.link(&slot).await.map_err(|why| no_link(&why))?;
    if message.method() == "tools/call"
        && let Some(tool) = message.text(message.fields().name)
    {
        let arguments = message.raw(message.fields().arguments);
        let checked = link
            .param_headers
            .check(&link, &tool, arguments, &parts.headers)
            .await;
        checked.map_err(|text| refuse(mirror::mismatch(text)))?;
    }
    let stream = link.shelf().stream(1, false, !accept.events);
    let exchange = Exchange {
        stream: Arc::clone(&stream),
        ids: id.into_iter().collect(),
        batch: false,
        json: accept.json,
        events: accept.events,
        session: None,
        opens: false,
        undo: None,
    };
    let send = async move {
        let ticket = link
            .call(&message, Party::Client(client), &stream)
            .map_err(|down| Fault::of_down(&down))?;
        let number = ticket.number();
        ticket.send().await;
        Ok(Some(Undo::Cancel { link, number }))
    };
    Ok(exchange.run(app, send).await)
}

/// Every request carries its version and its client's capabilities (basic, "Per-request protocol fields").
fn check_meta(message: &Message) -> Result<(), Fault> {
    if message.kind() != Kind::Request {
        return Ok(());
    }
    let meta = &message.fields().meta;
    let missing = |name: &str| {
        let text =
            format!("params._meta[\"io.modelcontextprotocol/{name}\"] is missing; every request needs it");
        Fault::new(Reason::MetaMissing, text)
    };
    let version = message
        .text(meta.protocol_version)
        .ok_or_else(|| missing("protocolVersion"))?;
    if version != MODERN_VERSION {
        return Err(version::unsupported(&version, true));
    }
    match message.raw(meta.client_capabilities) {
        Some(raw) if raw.starts_with(b"{") => Ok(()),
        _ => Err(missing("clientCapabilities")),
    }
}
