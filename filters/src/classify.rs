//! Reads what a request asks, without parsing it whole.
//!
//! Modern requests say it in headers (2026-07-28, streamable-http, "Standard Request Headers"), which
//! the sidecar checks against the body. Legacy requests say it in the body: one pass over at most
//! 64 KiB finds `method`, `id` and `params.name` / `params.uri`, and allocates only those.
//!
//! Invariant: what is returned as a method or name is what every JSON parser would read there. Keys
//! that are repeated or written with escapes, names with escapes that cannot be read, and bodies that
//! end too early give [`Call::Unknown`], never a guess.

mod scan;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use std::sync::Arc;

use crate::call::{Call, Era, Message, RpcMethod};
use crate::reason::Reason;
use crate::request::RawJson;
use crate::verdict::Reply;

/// First revision whose requests stand alone.
const MODERN: &str = "2026-07-28";
/// Most bytes of a body that are looked at.
pub const MAX_INSPECTED: usize = 64 * 1024;
/// Most elements of a batch.
pub const MAX_BATCH: usize = 50;
/// Longest method or name in bytes.
const MAX_NAME: usize = 1024;

/// The era that the `MCP-Protocol-Version` header tells. Revisions are dates, so text order is date
/// order; anything that is not a date is legacy, and the sidecar refuses it there.
pub fn era(version: Option<&str>) -> Era {
    let is_date = |v: &&str| {
        v.len() == 10
            && v.bytes().enumerate().all(|(i, b)| {
                if matches!(i, 4 | 7) {
                    b == b'-'
                } else {
                    b.is_ascii_digit()
                }
            })
    };
    match version.filter(is_date) {
        Some(version) if version >= MODERN => Era::Modern,
        _ => Era::Legacy,
    }
}

/// Reads `Mcp-Method` and `Mcp-Name` of a modern request; a required one that is missing, repeated or
/// malformed is 400 `header_mismatch` (-32020).
pub fn modern(headers: &HeaderMap) -> Result<Call, Reply> {
    let refuse = |text: &'static str| Reply::new(Reason::HeaderMismatch, text);
    let one = |name: &str, missing: &'static str| {
        let mut all = headers.get_all(name).iter();
        match (all.next(), all.next()) {
            (Some(value), None) => value.to_str().map(Some).map_err(|_| refuse(missing)),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(refuse("Mcp-Method or Mcp-Name was sent more than once")),
        }
    };
    let method = one("mcp-method", "the Mcp-Method header has invalid characters")?
        .filter(|method| !method.is_empty() && method.len() <= MAX_NAME)
        .ok_or_else(|| refuse("the Mcp-Method header is missing or empty; modern requests need it"))?;
    let method = RpcMethod::new(method);
    if method.as_str().starts_with("notifications/") {
        return Ok(Call::Single(Message::Notification { method }));
    }
    let name = match one("mcp-name", "the Mcp-Name header has invalid characters")? {
        Some(value) => Some(
            decode_name(value).ok_or_else(|| refuse("the Mcp-Name header is not a valid encoded value"))?,
        ),
        None => None,
    };
    if name.is_none() && matches!(method.as_str(), "tools/call" | "resources/read" | "prompts/get") {
        return Err(refuse(
            "the Mcp-Name header is missing; tools/call, resources/read and prompts/get need it",
        ));
    }
    Ok(Call::Single(Message::Request { method, name }))
}

/// Plain text, or `=?base64?…?=` of UTF-8 (2026-07-28, streamable-http, "Value Encoding").
fn decode_name(value: &str) -> Option<Arc<str>> {
    if value.is_empty() || value.len() > 2 * MAX_NAME {
        return None;
    }
    match value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?)
            .ok()
            .map(Into::into),
        None => Some(value.into()),
    }
}

/// What was read from a legacy body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What is asked.
    pub call: Call,
    /// The id of a single request, for error replies.
    pub id: Option<RawJson>,
}

impl Envelope {
    const UNKNOWN: Self = Self {
        call: Call::Unknown,
        id: None,
    };
}

/// Reads a body, or the first part of one (`complete` is false). At most [`MAX_INSPECTED`] bytes are
/// looked at. A batch that is too long, or that is not there whole, is 413.
pub fn legacy(body: &[u8], complete: bool) -> Result<Envelope, Reply> {
    let (body, complete) = match body.get(..MAX_INSPECTED) {
        Some(prefix) => (prefix, complete && body.len() == MAX_INSPECTED),
        None => (body, complete),
    };
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[') => batch(body, complete),
        Some(b'{') => Ok(single(body, complete)),
        // No JSON-RPC message: the sidecar says so in detail.
        _ => Ok(Envelope::UNKNOWN),
    }
}

/// The id alone, for the error reply to a modern request whose body is at hand.
pub fn rpc_id(body: &[u8]) -> Option<RawJson> {
    legacy(body, true).ok()?.id
}

fn single(body: &[u8], complete: bool) -> Envelope {
    let mut scan = scan::Scan::new(body);
    let Some((message, id)) = scan.message(!complete) else {
        return Envelope::UNKNOWN;
    };
    // A whole body must also end as one message; two parsers may differ about what follows it.
    if complete && !scan.at_end() {
        return Envelope::UNKNOWN;
    }
    Envelope {
        call: Call::Single(message),
        id: id.and_then(RawJson::id),
    }
}

fn batch(body: &[u8], complete: bool) -> Result<Envelope, Reply> {
    let too_large = || {
        let text =
            format!("a batch may have {MAX_BATCH} messages and {MAX_INSPECTED} bytes; send it in parts");
        Err(Reply::new(Reason::BodyTooLarge, text))
    };
    if !complete {
        return too_large();
    }
    let mut scan = scan::Scan::new(body);
    let mut messages = Vec::new();
    let read = scan.array(|scan| {
        if messages.len() >= MAX_BATCH {
            return Err(scan::Stop::TooMany);
        }
        messages.push(scan.message(false).ok_or(scan::Stop::Odd)?.0);
        Ok(())
    });
    match read {
        Ok(()) if scan.at_end() => Ok(Envelope {
            call: Call::Batch(messages),
            id: None,
        }),
        Err(scan::Stop::TooMany) => too_large(),
        _ => Ok(Envelope::UNKNOWN),
    }
}

#[cfg(test)]
mod tests;
