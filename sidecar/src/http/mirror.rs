//! What the headers of a modern request must repeat of its body (2026-07-28, "Server Validation").
//!
//! Invariant: whoever routed, limited or refused by these headers decided about the request that runs.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use crate::message::Message;
use crate::reply::{Fault, Reason};

pub(crate) const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// The text of a header value: ASCII as it is, `=?base64?…?=` decoded. None: invalid characters or Base64.
pub(super) fn decoded(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = value.to_str().ok()?;
    let Some(encoded) = text
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    else {
        return Some(Cow::Borrowed(text));
    };
    String::from_utf8(STANDARD.decode(encoded).ok()?)
        .ok()
        .map(Cow::Owned)
}

/// The only value of a header; an error if it is there more than once.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Fault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(mismatch(format!("the {name} header is there more than once"))),
    }
}

/// Holds the headers of a request or notification against its body.
pub(super) fn check(headers: &HeaderMap, message: &Message) -> Result<(), Fault> {
    let fields = message.fields();
    let is_request = message.kind() == crate::message::Kind::Request;
    let version = message.text(fields.meta.protocol_version);
    agree(
        headers,
        VERSION,
        version.as_deref(),
        "the body's _meta protocolVersion",
        is_request,
    )?;
    let method = message.method();
    agree(headers, METHOD, Some(&method), "the body's method", is_request)?;
    let name = match method.as_ref() {
        "tools/call" | "prompts/get" => fields.name,
        "resources/read" => fields.uri,
        "tasks/get" | "tasks/update" | "tasks/cancel" => fields.task_id,
        _ => return Ok(()),
    };
    // Without a name in the body the server itself says what is wrong with the request.
    match message.text(name) {
        Some(name) => agree(headers, NAME, Some(&name), "the name in the body", is_request),
        None => Ok(()),
    }
}

/// Holds what the edge says of a legacy message against the message; a legacy client's own words never come here.
pub(super) fn check_claims(headers: &HeaderMap, message: &Message) -> Result<(), Fault> {
    let fields = message.fields();
    agree(
        headers,
        METHOD,
        Some(&message.method()),
        "the body's method",
        false,
    )?;
    let name = if message.method() == "resources/read" {
        fields.uri
    } else {
        fields.name
    };
    match message.text(name) {
        Some(name) => agree(headers, NAME, Some(&name), "the name in the body", false),
        None => Ok(()),
    }
}

fn agree(
    headers: &HeaderMap,
    header: &str,
    body: Option<&str>,
    what: &str,
    required: bool,
) -> Result<(), Fault> {
    let Some(value) = only(headers, header)? else {
        return if required {
            Err(mismatch(format!("the {header} header is required")))
        } else {
            Ok(())
        };
    };
    let Some(value) = decoded(value) else {
        return Err(mismatch(format!(
            "the {header} header holds invalid characters or invalid Base64"
        )));
    };
    match body {
        Some(body) if body != value => Err(mismatch(format!(
            "the {header} header says {value:?} but {what} is {body:?}"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn mismatch(text: String) -> Fault {
    Fault::new(Reason::HeaderMismatch, format!("Header mismatch: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Sender;
    use bytes::Bytes;

    fn call(name: &str, headers: &[(&'static str, &str)]) -> Result<(), Fault> {
        let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": name, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}});
        let message = Message::parse(Bytes::from(body.to_string()), Sender::Client).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        check(&map, &message)
    }

    #[test]
    fn every_header_must_repeat_the_body() {
        let v = (VERSION, "2026-07-28");
        let m = (METHOD, "tools/call");
        assert!(call("t", &[v, m, (NAME, "t")]).is_ok());
        assert!(call("é", &[v, m, (NAME, "=?base64?w6k=?=")]).is_ok());
        for bad in [
            &[m, (NAME, "t")][..],
            &[v, (NAME, "t")],
            &[v, m],
            &[(VERSION, "2026-07-29"), m, (NAME, "t")],
            &[v, (METHOD, "tools/list"), (NAME, "t")],
            &[v, m, (NAME, "u")],
            &[v, m, (NAME, "t"), (NAME, "t")],
            &[v, m, (NAME, "=?base64?%?=")],
            &[v, m, (NAME, "\u{e9}")],
        ] {
            let fault = call("t", bad).unwrap_err();
            assert_eq!((fault.status(), fault.code()), (400, -32020), "{bad:?}");
        }
    }
}
