//! What a request asks, told from its headers (modern era) or from one pass over the first bytes of its body (legacy).
//!
//! The pass looks at the members of the message and of its `params`, skips every other value by its brackets, and
//! allocates nothing but the names. Invariant: whatever is named here was read unambiguously. A member that is there
//! twice or has an escaped name could be read in two ways, so such a message is [`Call::Unknown`]. The sidecar holds
//! what was told from headers or from a part of a body against the whole body.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::call::{Call, Message, RpcMethod};
use crate::request::RawJson;

/// Most elements of a batch.
pub const MAX_BATCH: usize = 50;

/// What was read of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub call: Call,
    /// The id, for error replies.
    pub id: Option<RawJson>,
}

/// Why a request is refused for its form alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClassifyError {
    #[error("a batch has at most 50 elements and 64 KiB; send them one by one")]
    BatchTooLarge,
    #[error("the header Mcp-Method is missing")]
    NoMethod,
    #[error("the header Mcp-Name is missing; tools/call, resources/read and prompts/get need it")]
    NoName,
    #[error("the header Mcp-Name is not valid: visible ASCII, or =?base64?…?= of UTF-8")]
    BadName,
}

/// Reads a legacy body's first bytes; `complete` if they are the whole body.
///
/// # Errors
/// A batch over its limits. Everything else that is odd is [`Call::Unknown`].
pub fn legacy(body: &[u8], complete: bool) -> Result<Read, ClassifyError> {
    let mut scanner = Scanner { bytes: body, at: 0 };
    scanner.blanks();
    if scanner.peek() == Some(b'[') {
        return batch(&mut scanner, complete).map(|call| Read { call, id: None });
    }
    let (fields, end) = scanner.message();
    Ok(Read {
        call: fields.call(end, complete),
        id: fields.id.and_then(|id| RawJson::id(id)),
    })
}

/// Reads a modern request's headers; `is_notification` as its body says.
///
/// # Errors
/// A required header is missing or unreadable.
pub fn modern(
    method: Option<&str>,
    name: Option<&str>,
    is_notification: bool,
) -> Result<Call, ClassifyError> {
    let method = RpcMethod::new(method.ok_or(ClassifyError::NoMethod)?);
    if is_notification {
        return Ok(Call::Single(Message::Notification { method }));
    }
    let needs_name = matches!(method.as_str(), "tools/call" | "resources/read" | "prompts/get");
    let name = match name {
        Some(name) => Some(decode_name(name)?),
        None if needs_name => return Err(ClassifyError::NoName),
        None => None,
    };
    Ok(Call::Single(Message::Request { method, name }))
}

/// `Mcp-Name`: as it is, or base64 of UTF-8 (2026-07-28, streamable-http, "Value Encoding").
fn decode_name(value: &str) -> Result<Arc<str>, ClassifyError> {
    let Some(encoded) = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    else {
        return Ok(value.into());
    };
    let bytes = STANDARD.decode(encoded).map_err(|_| ClassifyError::BadName)?;
    String::from_utf8(bytes)
        .map(Into::into)
        .map_err(|_| ClassifyError::BadName)
}

fn batch(scanner: &mut Scanner<'_>, complete: bool) -> Result<Call, ClassifyError> {
    if !complete {
        return Err(ClassifyError::BatchTooLarge);
    }
    scanner.at += 1;
    let mut messages = Vec::new();
    loop {
        scanner.blanks();
        match scanner.peek() {
            Some(b']') => return Ok(Call::Batch(messages)),
            Some(b',') => scanner.at += 1,
            Some(b'{') => {
                if messages.len() == MAX_BATCH {
                    return Err(ClassifyError::BatchTooLarge);
                }
                let (fields, end) = scanner.message();
                match fields.call(end, true) {
                    Call::Single(message) => messages.push(message),
                    _ => return Ok(Call::Unknown),
                }
            }
            _ => return Ok(Call::Unknown),
        }
    }
}

/// Members of a message, as their JSON text.
#[derive(Default)]
struct Fields<'a> {
    method: Option<&'a str>,
    id: Option<&'a str>,
    name: Option<&'a str>,
    uri: Option<&'a str>,
    answers: bool,
    ambiguous: bool,
}

/// How a pass ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The bytes ended first.
    Early,
    Malformed,
}

impl Fields<'_> {
    fn call(&self, end: End, complete: bool) -> Call {
        if self.ambiguous || end == End::Malformed || (end == End::Early && complete) {
            return Call::Unknown;
        }
        let text = |json: &str| {
            serde_json::from_str::<Cow<'_, str>>(json)
                .ok()
                .map(|text| text.into_owned())
        };
        let Some(method) = self.method else {
            return if end == End::Whole && self.answers {
                Call::Single(Message::Response)
            } else {
                Call::Unknown
            };
        };
        let Some(method) = text(method).map(|method| RpcMethod::new(&method)) else {
            return Call::Unknown;
        };
        if self.id.is_none() {
            // Of a part, it is not known whether the id still comes.
            return if end == End::Whole {
                Call::Single(Message::Notification { method })
            } else {
                Call::Unknown
            };
        }
        let named = if method.as_str() == "resources/read" {
            self.uri
        } else {
            self.name
        };
        let needs_name = matches!(method.as_str(), "tools/call" | "resources/read" | "prompts/get");
        let name = match named.map(text) {
            Some(Some(name)) => Some(name.into()),
            Some(None) => return Call::Unknown,
            None if needs_name && end == End::Early => return Call::Unknown,
            None => None,
        };
        Call::Single(Message::Request { method, name })
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Reads a message, as far as it is there.
    fn message(&mut self) -> (Fields<'a>, End) {
        let mut fields = Fields::default();
        let end = self.read_message(&mut fields).err().unwrap_or(End::Whole);
        (fields, end)
    }

    fn read_message(&mut self, fields: &mut Fields<'a>) -> Result<(), End> {
        self.expect(b'{')?;
        let (mut first, mut params_seen) = (true, false);
        while let Some(key) = self.key(&mut first)? {
            match key {
                "method" => self.field(&mut fields.method, &mut fields.ambiguous)?,
                "id" => self.field(&mut fields.id, &mut fields.ambiguous)?,
                "params" => {
                    fields.ambiguous |= params_seen;
                    params_seen = true;
                    self.read_params(fields)?;
                }
                other => {
                    fields.answers |= matches!(other, "result" | "error");
                    fields.ambiguous |= other.contains('\\');
                    self.value()?;
                }
            }
        }
        Ok(())
    }

    fn read_params(&mut self, fields: &mut Fields<'a>) -> Result<(), End> {
        if self.peek() != Some(b'{') {
            return self.value().map(drop);
        }
        self.expect(b'{')?;
        let mut first = true;
        while let Some(key) = self.key(&mut first)? {
            match key {
                "name" => self.field(&mut fields.name, &mut fields.ambiguous)?,
                "uri" => self.field(&mut fields.uri, &mut fields.ambiguous)?,
                other => {
                    fields.ambiguous |= other.contains('\\');
                    self.value()?;
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, slot: &mut Option<&'a str>, ambiguous: &mut bool) -> Result<(), End> {
        let value = self.value()?;
        *ambiguous |= slot.replace(value).is_some();
        Ok(())
    }

    /// The next member's name as written, without its quotes, with the scanner before its value; `None` at the end.
    fn key(&mut self, first: &mut bool) -> Result<Option<&'a str>, End> {
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
            self.blanks();
        }
        let quoted = self.string()?;
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        quoted
            .get(1..quoted.len().saturating_sub(1))
            .map(Some)
            .ok_or(End::Malformed)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), End> {
        match self.peek() {
            Some(found) if found == wanted => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(End::Malformed),
            None => Err(End::Early),
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a str, End> {
        let start = self.at;
        self.expect(b'"')?;
        self.rest_of_string()?;
        self.text(start)
    }

    /// Moves behind the closing quote.
    fn rest_of_string(&mut self) -> Result<(), End> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                self.at = self.bytes.len();
                return Err(End::Early);
            };
            let closing = rest.get(found) == Some(&b'"');
            // A backslash takes the character behind it along.
            self.at += found + if closing { 1 } else { 2 };
            if closing {
                return Ok(());
            }
        }
    }

    /// Any value as it is written. Brackets are only counted: the sidecar and the server read what is in them.
    fn value(&mut self) -> Result<&'a str, End> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek().ok_or(End::Early)? {
                b'"' => {
                    self.at += 1;
                    self.rest_of_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth == 0 => return Err(End::Malformed),
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                // Between values.
                _ if depth > 0 => self.at += 1,
                _ => self.scalar()?,
            }
            if depth == 0 {
                return self.text(start);
            }
        }
    }

    /// A number, `true`, `false` or `null`; what it is exactly does not matter here.
    fn scalar(&mut self) -> Result<(), End> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let length = rest.iter().position(ends).ok_or(End::Early)?;
        self.at += length;
        if length == 0 { Err(End::Malformed) } else { Ok(()) }
    }

    fn text(&self, start: usize) -> Result<&'a str, End> {
        let bytes = self.bytes.get(start..self.at).ok_or(End::Early)?;
        std::str::from_utf8(bytes).map_err(|_| End::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &str) -> Call {
        legacy(body.as_bytes(), true).unwrap().call
    }

    fn request(method: &str, name: Option<&str>) -> Call {
        Call::Single(Message::Request {
            method: RpcMethod::new(method),
            name: name.map(Into::into),
        })
    }

    #[test]
    fn the_usual_messages_are_told_apart() {
        let cases = [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
                request("tools/list", None),
            ),
            (
                r#" { "method" : "tools/call" , "params" : { "arguments" : {"name":"x","a":[1,{"b":"]}"}]} , "name" : "echo" } , "id" : "a" } "#,
                request("tools/call", Some("echo")),
            ),
            (
                r#"{"id":1,"method":"tools\/call","params":{"name":"e\u0063ho"}}"#,
                request("tools/call", Some("echo")),
            ),
            (
                r#"{"id":1,"method":"resources/read","params":{"uri":"file:///a","name":"n"}}"#,
                request("resources/read", Some("file:///a")),
            ),
            (
                r#"{"method":"notifications/initialized"}"#,
                Call::Single(Message::Notification {
                    method: RpcMethod::new("notifications/initialized"),
                }),
            ),
            (r#"{"id":3,"result":{}}"#, Call::Single(Message::Response)),
        ];
        for (body, wanted) in cases {
            assert_eq!(call(body), wanted, "{body}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_unknown() {
        for body in [
            r#"{"id":1,"method":"ping","method":"tools/call"}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}"#,
            r#"{"id":1,"method":"ping","meth\u006fd":"tools/call"}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
            r#"{"id":1,"method":7}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":["x"]}}"#,
            "{",
            "{}",
            "",
            "nonsense",
            "\u{0}",
            r#"{"id":1 "method":"x"}"#,
            r#"{"method":}"#,
        ] {
            assert_eq!(call(body), Call::Unknown, "{body}");
        }
        assert_eq!(
            legacy(b"{\"id\":1,\"method\":\"\xff\"}", true).unwrap().call,
            Call::Unknown
        );
    }

    #[test]
    fn a_part_is_enough_when_method_id_and_name_are_in_it() {
        let body = format!(
            r#"{{"id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{}"#,
            "x".repeat(100)
        );
        assert_eq!(
            legacy(body.as_bytes(), false).unwrap().call,
            request("tools/call", Some("echo"))
        );
        for part in [
            r#"{"id":1,"method":"tools/call","params":{"arguments":{"#,
            r#"{"method":"tools/call","params":{"name":"echo""#,
        ] {
            assert_eq!(
                legacy(part.as_bytes(), false).unwrap().call,
                Call::Unknown,
                "{part}"
            );
        }
        assert_eq!(
            legacy(body.as_bytes(), true).unwrap().call,
            Call::Unknown,
            "a whole body that ends early is broken"
        );
    }

    #[test]
    fn a_batch_is_its_elements_and_bounded() {
        let one = r#"{"id":1,"method":"tools/call","params":{"name":"a"}}"#;
        let of = |n: usize| format!("[{}]", vec![one; n].join(","));
        let Call::Batch(messages) = call(&of(50)) else {
            panic!("no batch")
        };
        assert_eq!((messages.len(), messages[49].tool()), (50, Some("a")));
        assert_eq!(legacy(of(51).as_bytes(), true), Err(ClassifyError::BatchTooLarge));
        assert_eq!(legacy(b"[{", false), Err(ClassifyError::BatchTooLarge));
        assert_eq!(call("[1]"), Call::Unknown);
    }

    #[test]
    fn the_id_is_kept_for_error_replies() {
        let id = |body: &str| {
            legacy(body.as_bytes(), true)
                .unwrap()
                .id
                .map(|id| id.as_str().to_owned())
        };
        assert_eq!(id(r#"{"id":"x","method":"m"}"#).as_deref(), Some("\"x\""));
        assert_eq!(id(r#"{"id":-7.5,"method":"m"}"#).as_deref(), Some("-7.5"));
        assert_eq!(id(r#"{"id":null,"method":"m"}"#), None);
        assert_eq!(id(r#"{"id":{"a":1},"method":"m"}"#), None);
    }

    #[test]
    fn modern_headers_are_held_to_the_specification() {
        assert_eq!(
            modern(Some("tools/call"), Some("echo"), false),
            Ok(request("tools/call", Some("echo")))
        );
        assert_eq!(
            modern(Some("tools/call"), Some("=?base64?w6Q=?="), false),
            Ok(request("tools/call", Some("ä")))
        );
        assert_eq!(
            modern(Some("tools/list"), None, false),
            Ok(request("tools/list", None))
        );
        assert_eq!(modern(None, None, false), Err(ClassifyError::NoMethod));
        assert_eq!(
            modern(Some("tools/call"), None, false),
            Err(ClassifyError::NoName)
        );
        assert_eq!(
            modern(Some("tools/call"), Some("=?base64?!?="), false),
            Err(ClassifyError::BadName)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>, complete: bool) {
            let _ = legacy(&body, complete);
        }

        #[test]
        fn it_agrees_with_a_real_parser(method in "[a-z/]{1,20}", name in "\\PC{0,20}", id: i64, junk in "\\PC{0,40}") {
            let body = serde_json::json!({"x": {"method": junk, "deep": [junk, {"name": 1}]}, "id": id, "method": method,
                "params": {"y": [[junk]], "name": name, "arguments": {"name": junk}}}).to_string();
            let wanted = if method == "resources/read" { None } else { Some(name.as_str()) };
            proptest::prop_assert_eq!(call(&body), request(&method, wanted));
        }
    }
}
