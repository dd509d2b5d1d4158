//! One pass over JSON text that skips what it does not need.
//!
//! Skipping checks the structure (strings, brackets, depth), not the grammar of every number: a body
//! that is no JSON is refused by the sidecar, and cannot make the scan see a method that is not there,
//! because keys are only read in an object whose structure was followed from its start.

use std::borrow::Cow;

use crate::call::{Message, RpcMethod};

/// Deepest nesting that is followed.
const MAX_DEPTH: u32 = 128;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text ended in the middle.
    End,
    /// Not JSON, or JSON that could be read in two ways.
    Odd,
    /// More elements than allowed.
    TooMany,
}

pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

/// The members of a message that matter, each seen at most once.
#[derive(Default)]
struct Seen<'a> {
    method: Option<Cow<'a, str>>,
    id: Option<&'a str>,
    params: bool,
    name: Option<Cow<'a, str>>,
    uri: Option<Cow<'a, str>>,
    result: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Reads one message. With `prefix` the text may end before the message does; what counts must
    /// have been read by then.
    pub(super) fn message(&mut self, prefix: bool) -> Option<(Message, Option<&'a str>)> {
        let mut seen = Seen::default();
        let ended = match self.object(|scan, key| scan.member(key, &mut seen)) {
            Ok(()) => true,
            Err(Stop::End) if prefix => false,
            Err(_) => return None,
        };
        seen.into_message(ended)
    }

    fn member(&mut self, key: &str, seen: &mut Seen<'a>) -> Result<(), Stop> {
        match key {
            "method" => once(&mut seen.method, self.string()?),
            "id" => {
                let id = self.raw()?;
                once(&mut seen.id, id)
            }
            "params" if std::mem::replace(&mut seen.params, true) => Err(Stop::Odd),
            "params" if self.peek()? == b'{' => self.object(|scan, key| match key {
                "name" => once(&mut seen.name, scan.text_or_skip()?),
                "uri" => once(&mut seen.uri, scan.text_or_skip()?),
                _ => scan.skip(),
            }),
            "result" | "error" => {
                seen.result = true;
                self.skip()
            }
            _ => self.skip(),
        }
    }

    /// A string, or an empty name for any other value (which no server accepts there).
    fn text_or_skip(&mut self) -> Result<Cow<'a, str>, Stop> {
        if self.peek()? == b'"' {
            self.string()
        } else {
            self.skip().map(|()| Cow::Borrowed(""))
        }
    }

    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            return self.expect(b']');
        }
        loop {
            element(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Ok(()),
                _ => return Err(Stop::Odd),
            }
        }
    }

    fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<(), Stop>) -> Result<(), Stop> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let key = self.raw_string()?;
            // An escaped key may spell `method`: not worth telling, so not accepted.
            if memchr::memchr(b'\\', key).is_some() {
                return Err(Stop::Odd);
            }
            let key = std::str::from_utf8(key).map_err(|_| Stop::Odd)?;
            self.expect(b':')?;
            member(self, key)?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(Stop::Odd),
            }
        }
    }

    /// Whether only white space is left.
    pub(super) fn at_end(&mut self) -> bool {
        self.peek() == Err(Stop::End)
    }

    fn peek(&mut self) -> Result<u8, Stop> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Stop::End),
            }
        }
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Stop> {
        if self.next()? == wanted {
            Ok(())
        } else {
            Err(Stop::Odd)
        }
    }

    /// What stands between the quotes, escapes as written.
    fn raw_string(&mut self) -> Result<&'a [u8], Stop> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            let rest = self.text.get(self.at..).ok_or(Stop::End)?;
            let found = memchr::memchr2(b'"', b'\\', rest).ok_or(Stop::End)?;
            let end = self.at + found;
            if self.text.get(end) == Some(&b'"') {
                self.at = end + 1;
                return self.text.get(start..end).ok_or(Stop::End);
            }
            self.at = end + 2;
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Stop> {
        self.peek()?;
        let start = self.at;
        let raw = self.raw_string()?;
        if raw.len() > super::MAX_NAME {
            return Err(Stop::Odd);
        }
        if memchr::memchr(b'\\', raw).is_none() && raw.iter().all(|b| *b >= b' ') {
            return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| Stop::Odd);
        }
        let quoted = self.text.get(start..self.at).ok_or(Stop::End)?;
        serde_json::from_slice::<String>(quoted)
            .map(Cow::Owned)
            .map_err(|_| Stop::Odd)
    }

    /// The text of a value.
    fn raw(&mut self) -> Result<&'a str, Stop> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        let raw = self.text.get(start..self.at).ok_or(Stop::End)?;
        std::str::from_utf8(raw).map_err(|_| Stop::Odd)
    }

    /// Passes over one value.
    fn skip(&mut self) -> Result<(), Stop> {
        let mut depth = 0u32;
        loop {
            match self.peek()? {
                b'"' => {
                    self.raw_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(Stop::Odd);
                    }
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(Stop::Odd)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b'-' | b'0'..=b'9' | b'a'..=b'z' => self.literal()?,
                _ => return Err(Stop::Odd),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// A number, `true`, `false` or `null`. It ends with a delimiter, or else the text was cut.
    fn literal(&mut self) -> Result<(), Stop> {
        loop {
            match self.text.get(self.at) {
                Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E') => self.at += 1,
                Some(_) => return Ok(()),
                None => return Err(Stop::End),
            }
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Stop> {
    if place.replace(value).is_some() {
        Err(Stop::Odd)
    } else {
        Ok(())
    }
}

impl<'a> Seen<'a> {
    fn into_message(self, ended: bool) -> Option<(Message, Option<&'a str>)> {
        let Some(method) = self.method else {
            return (ended && self.result).then_some((Message::Response, None));
        };
        let method = RpcMethod::new(&method);
        let name = match method.as_str() {
            "tools/call" | "prompts/get" => self.name,
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => self.uri,
            _ => None,
        };
        let named = matches!(method.as_str(), "tools/call" | "prompts/get" | "resources/read");
        // A cut body may still hold a second `name`; the sidecar, which sees all of it, refuses
        // duplicates, so that what was read here is what runs.
        if named && name.is_none() && !ended {
            return None;
        }
        if method.as_str().starts_with("notifications/") || (ended && self.id.is_none()) {
            return Some((Message::Notification { method }, None));
        }
        let name = name.map(|name| name.as_ref().into());
        Some((Message::Request { method, name }, self.id))
    }
}
