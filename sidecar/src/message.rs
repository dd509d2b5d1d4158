//! The envelope of a JSON-RPC message, borrowed from its bytes: where the few fields lie that a
//! translator looks at or rewrites.
//!
//! Invariant: the fields found here are the ones any other parser finds. A repeated key among them is
//! refused, because first-wins and last-wins parsers would see two different requests; keys are
//! compared after unescaping.

use std::borrow::Cow;

use bytes::Bytes;

use crate::scan::{ScanError, Scanner, Span, text_of};
use crate::splice::{Edit, Payload, splice};

/// Nesting that is passed on to a server: its parser may be recursive.
const CLIENT_DEPTH: usize = 256;
/// Nesting that is taken from a server; only memory limits it here.
const SERVER_DEPTH: usize = 100_000;
/// Elements of a batch (2025-03-26).
const MAX_BATCH: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Notification,
    Response,
}

/// Who wrote the text: clients are held to the letter, servers only to what can be forwarded safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// One JSON-RPC message with its positions.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Bytes,
    kind: Kind,
    one_line: bool,
    fields: Fields,
}

/// What an HTTP body or a line holds.
#[derive(Debug)]
pub(crate) enum Incoming {
    One(Message),
    Batch(Vec<Message>),
}

/// Spans of raw values, quotes included. Names follow the message's own keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    jsonrpc: Option<Span>,
    id: Option<Span>,
    method: Option<Span>,
    params: Option<Span>,
    result: Option<Span>,
    error: Option<Span>,
    pub(crate) name: Option<Span>,
    pub(crate) uri: Option<Span>,
    pub(crate) task_id: Option<Span>,
    pub(crate) arguments: Option<Span>,
    pub(crate) request_id: Option<Span>,
    /// `params.progressToken` of a progress notification.
    pub(crate) progress_token: Option<Span>,
    /// `protocolVersion` of `initialize`, in its params or its result.
    pub(crate) protocol_version: Option<Span>,
    /// `capabilities` of `initialize`, in its params or its result.
    pub(crate) capabilities: Option<Span>,
    pub(crate) is_error: Option<Span>,
    pub(crate) error_code: Option<Span>,
    pub(crate) meta: Meta,
}

/// `_meta` of the params or of the result.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    whole: Option<Span>,
    pub(crate) progress_token: Option<Span>,
    pub(crate) protocol_version: Option<Span>,
    pub(crate) client_capabilities: Option<Span>,
    pub(crate) log_level: Option<Span>,
    pub(crate) subscription_id: Option<Span>,
}

impl Incoming {
    /// Reads a body or line; fails if it is not one message or a batch of messages.
    pub(crate) fn parse(bytes: Bytes, sender: Sender) -> Result<Self, ScanError> {
        let limit = match sender {
            Sender::Client => CLIENT_DEPTH,
            Sender::Server => SERVER_DEPTH,
        };
        let mut scanner = Scanner::new(&bytes, limit)?;
        if scanner.peek() != Some(b'[') {
            let (_, fields) = Fields::read(&mut scanner)?;
            scanner.finish()?;
            let one_line = scanner.has_breaks();
            return Message::build(bytes.clone(), fields, one_line, sender).map(Self::One);
        }
        let mut spans = Vec::new();
        scanner.array(|s| {
            if spans.len() == MAX_BATCH {
                return Err(ScanError::Shape {
                    what: "the batch has more than 100 messages",
                });
            }
            s.value().map(|span| spans.push(span))
        })?;
        scanner.finish()?;
        if spans.is_empty() {
            return Err(ScanError::Shape {
                what: "the batch is empty",
            });
        }
        let element = |span: Span| {
            let part = bytes.slice(span.start..span.end);
            let mut scanner = Scanner::new(&part, limit)?;
            let (_, fields) = Fields::read(&mut scanner)?;
            let one_line = scanner.has_breaks();
            Message::build(part.clone(), fields, one_line, sender)
        };
        spans
            .into_iter()
            .map(element)
            .collect::<Result<_, _>>()
            .map(Self::Batch)
    }
}

impl Message {
    fn build(bytes: Bytes, fields: Fields, one_line: bool, sender: Sender) -> Result<Self, ScanError> {
        let shape = |what| Err(ScanError::Shape { what });
        let is_string = |span: Span| span.of(&bytes).starts_with(b"\"");
        if sender == Sender::Client && fields.jsonrpc.is_none_or(|span| span.of(&bytes) != b"\"2.0\"") {
            return shape("`jsonrpc` must be \"2.0\"");
        }
        let id_ok = fields
            .id
            .is_some_and(|id| matches!(id.of(&bytes).first(), Some(b'"' | b'-' | b'0'..=b'9')));
        let kind = match (fields.method, fields.result.is_some() || fields.error.is_some()) {
            (Some(_), true) => return shape("it has a method and a result or error"),
            (Some(method), false) => {
                if !is_string(method) || text_of(method.of(&bytes)).is_none() {
                    return shape("`method` must be a string");
                }
                match fields.id {
                    None => Kind::Notification,
                    Some(_) if id_ok => Kind::Request,
                    Some(_) => return shape("the id of a request must be a string or a number"),
                }
            }
            (None, true) => {
                if fields.result.is_some() && fields.error.is_some() {
                    return shape("it has both a result and an error");
                }
                if fields.result.is_some() && !id_ok {
                    return shape("the id of a response must be a string or a number");
                }
                Kind::Response
            }
            (None, false) => return shape("it has neither a method nor a result nor an error"),
        };
        Ok(Self {
            bytes,
            kind,
            one_line,
            fields,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The id as raw JSON.
    pub(crate) fn id(&self) -> Option<Bytes> {
        self.fields.id.map(|span| self.slice(span))
    }

    /// Empty for responses.
    pub(crate) fn method(&self) -> Cow<'_, str> {
        self.text(self.fields.method).unwrap_or_default()
    }

    /// The `error` member as raw JSON.
    pub(crate) fn error(&self) -> Option<&[u8]> {
        self.fields.error.map(|span| span.of(&self.bytes))
    }

    /// The `result` member as raw JSON.
    pub(crate) fn result(&self) -> Option<Bytes> {
        self.fields.result.map(|span| self.slice(span))
    }

    /// The raw JSON of a span of this message.
    pub(crate) fn raw(&self, span: Option<Span>) -> Option<&[u8]> {
        span.map(|span| span.of(&self.bytes))
    }

    /// The text of a span that is a string.
    pub(crate) fn text(&self, span: Option<Span>) -> Option<Cow<'_, str>> {
        text_of(span?.of(&self.bytes))
    }

    /// A copy-free part of this message.
    pub(crate) fn slice(&self, span: Span) -> Bytes {
        self.bytes.slice(span.start..span.end)
    }

    /// This message on one line, with the given replacements; spans that are absent are skipped.
    pub(crate) fn with<const N: usize>(&self, edits: [(Option<Span>, &Bytes); N]) -> Payload {
        let edits = edits.into_iter();
        let edits = edits.filter_map(|(span, with)| {
            Some(Edit {
                span: span?,
                with: with.clone(),
            })
        });
        splice(&self.bytes, edits.collect(), self.one_line)
    }

    /// The span of the id, for [`Message::with`].
    pub(crate) fn id_span(&self) -> Option<Span> {
        self.fields.id
    }
}

/// Whether two raw JSON ids are the same id: strings by their text, numbers by how they are written.
pub(crate) fn same_id(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((text_of(a), text_of(b)), (Some(a), Some(b)) if a == b)
}

/// The number in a raw id or token of ours; a server may have turned it into a string on the way.
pub(crate) fn our_number(raw: &[u8]) -> Option<u64> {
    let digits = raw
        .strip_prefix(b"\"")
        .and_then(|raw| raw.strip_suffix(b"\""))
        .unwrap_or(raw);
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Fields {
    fn read(scanner: &mut Scanner<'_>) -> Result<(Span, Self), ScanError> {
        if scanner.peek() != Some(b'{') {
            let mut probe = scanner.value().map(|_| ());
            if probe.is_ok() {
                probe = Err(ScanError::Shape {
                    what: "it is not an object",
                });
            }
            return probe.map(|()| (Span { start: 0, end: 0 }, Self::default()));
        }
        let mut fields = Self::default();
        let whole = scanner.object(|s, key| match key {
            "jsonrpc" => put(&mut fields.jsonrpc, "jsonrpc", s.value()?),
            "id" => put(&mut fields.id, "id", s.value()?),
            "method" => put(&mut fields.method, "method", s.value()?),
            "params" => {
                let span = inside(s, |s, key| fields.param(s, key))?;
                put(&mut fields.params, "params", span)
            }
            "result" => {
                let span = inside(s, |s, key| fields.outcome(s, key))?;
                put(&mut fields.result, "result", span)
            }
            "error" => {
                let span = inside(s, |s, key| match key {
                    "code" => put(&mut fields.error_code, "error.code", s.value()?),
                    _ => s.value().map(drop),
                })?;
                put(&mut fields.error, "error", span)
            }
            _ => s.value().map(drop),
        })?;
        Ok((whole, fields))
    }

    fn param(&mut self, s: &mut Scanner<'_>, key: &str) -> Result<(), ScanError> {
        match key {
            "name" => put(&mut self.name, "params.name", s.value()?),
            "uri" => put(&mut self.uri, "params.uri", s.value()?),
            "taskId" => put(&mut self.task_id, "params.taskId", s.value()?),
            "arguments" => put(&mut self.arguments, "params.arguments", s.value()?),
            "requestId" => put(&mut self.request_id, "params.requestId", s.value()?),
            "progressToken" => put(&mut self.progress_token, "params.progressToken", s.value()?),
            "protocolVersion" => put(&mut self.protocol_version, "params.protocolVersion", s.value()?),
            "capabilities" => put(&mut self.capabilities, "params.capabilities", s.value()?),
            "_meta" => self.meta.read(s, "params._meta"),
            _ => s.value().map(drop),
        }
    }

    fn outcome(&mut self, s: &mut Scanner<'_>, key: &str) -> Result<(), ScanError> {
        match key {
            "isError" => put(&mut self.is_error, "result.isError", s.value()?),
            "protocolVersion" => put(&mut self.protocol_version, "result.protocolVersion", s.value()?),
            "capabilities" => put(&mut self.capabilities, "result.capabilities", s.value()?),
            "_meta" => self.meta.read(s, "result._meta"),
            _ => s.value().map(drop),
        }
    }
}

impl Meta {
    fn read(&mut self, s: &mut Scanner<'_>, name: &'static str) -> Result<(), ScanError> {
        let span = inside(s, |s, key| match key {
            "progressToken" => put(&mut self.progress_token, "_meta.progressToken", s.value()?),
            "io.modelcontextprotocol/protocolVersion" => {
                put(&mut self.protocol_version, "_meta protocolVersion", s.value()?)
            }
            "io.modelcontextprotocol/clientCapabilities" => put(
                &mut self.client_capabilities,
                "_meta clientCapabilities",
                s.value()?,
            ),
            "io.modelcontextprotocol/logLevel" => put(&mut self.log_level, "_meta logLevel", s.value()?),
            "io.modelcontextprotocol/subscriptionId" => {
                put(&mut self.subscription_id, "_meta subscriptionId", s.value()?)
            }
            _ => s.value().map(drop),
        })?;
        put(&mut self.whole, name, span)
    }
}

/// Looks into an object; anything else is skipped as a value.
fn inside(
    s: &mut Scanner<'_>,
    member: impl FnMut(&mut Scanner<'_>, &str) -> Result<(), ScanError>,
) -> Result<Span, ScanError> {
    if s.peek() == Some(b'{') {
        s.object(member)
    } else {
        s.value()
    }
}

fn put(slot: &mut Option<Span>, key: &'static str, span: Span) -> Result<(), ScanError> {
    match slot.replace(span) {
        None => Ok(()),
        Some(_) => Err(ScanError::Duplicate { key }),
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
