//! One pass over a JSON text that proves it is JSON and says where things lie, without building values.
//!
//! The translator forwards messages as bytes, so it needs positions, not values. A typed parse would lose
//! unknown fields and big integers, and parsing into raw values would read a large body twice. Invariant:
//! a text that this scanner accepts is exactly one RFC 8259 value in UTF-8, so a child never receives
//! a line that its own parser has to guess about.

use std::borrow::Cow;

/// Half-open byte range of a value in the text that was scanned; a string's span includes its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// The bytes of the span in `text`, which must be the text that was scanned.
    pub(crate) fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// Why a text is not one message. Positions are byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("not JSON: unexpected byte or end at offset {at}")]
    Syntax { at: usize },
    #[error("not UTF-8")]
    Utf8,
    #[error("nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("the key {key:?} occurs twice; two parsers could read two different messages")]
    Duplicate { key: &'static str },
    #[error("not a JSON-RPC 2.0 message: {what}")]
    Shape { what: &'static str },
}

type Scanned<T> = Result<T, ScanError>;

/// Cursor over a text. All methods leave it behind what they read.
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    pos: usize,
    depth: usize,
    limit: usize,
    breaks: bool,
}

impl<'a> Scanner<'a> {
    /// `limit` bounds the nesting, because the receiver's parser may recurse.
    pub(crate) fn new(text: &'a [u8], limit: usize) -> Scanned<Self> {
        std::str::from_utf8(text).map_err(|_| ScanError::Utf8)?;
        Ok(Self {
            text,
            pos: 0,
            depth: 0,
            limit,
            breaks: false,
        })
    }

    /// Whether a line feed or carriage return was met; in JSON both can only be whitespace.
    pub(crate) fn has_breaks(&self) -> bool {
        self.breaks
    }

    /// The next significant byte, not consumed.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.space();
        self.byte()
    }

    /// Fails unless nothing but whitespace is left.
    pub(crate) fn finish(&mut self) -> Scanned<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax()),
        }
    }

    /// Reads an object; `member` must consume the value of each key it is given.
    pub(crate) fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Scanned<()>) -> Scanned<Span> {
        self.space();
        let start = self.pos;
        self.open(b'{')?;
        if self.peek() == Some(b'}') {
            self.close();
            return Ok(Span { start, end: self.pos });
        }
        loop {
            self.space();
            let key = self.string()?;
            self.colon()?;
            match text_of(key.of(self.text)) {
                Some(key) => member(self, &key)?,
                // A key with a lone surrogate is no key that anybody looks for.
                None => self.value().map(drop)?,
            }
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b'}') => break,
                _ => return Err(self.syntax()),
            }
        }
        self.close();
        Ok(Span { start, end: self.pos })
    }

    /// Reads an array; `element` must consume each element.
    pub(crate) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Scanned<()>) -> Scanned<Span> {
        self.space();
        let start = self.pos;
        self.open(b'[')?;
        if self.peek() == Some(b']') {
            self.close();
            return Ok(Span { start, end: self.pos });
        }
        loop {
            element(self)?;
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b']') => break,
                _ => return Err(self.syntax()),
            }
        }
        self.close();
        Ok(Span { start, end: self.pos })
    }

    /// Skips one value of any kind. Iterative: depth costs one bit, never a stack frame.
    pub(crate) fn value(&mut self) -> Scanned<Span> {
        self.space();
        let start = self.pos;
        let mut nest = Nest::default();
        'value: loop {
            match self.byte() {
                Some(b'"') => self.string().map(drop)?,
                Some(b'{') => {
                    self.pos += 1;
                    if self.peek() == Some(b'}') {
                        self.pos += 1;
                    } else {
                        self.nest(&mut nest, true)?;
                        self.key()?;
                        continue 'value;
                    }
                }
                Some(b'[') => {
                    self.pos += 1;
                    if self.peek() == Some(b']') {
                        self.pos += 1;
                    } else {
                        self.nest(&mut nest, false)?;
                        continue 'value;
                    }
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => return Err(self.syntax()),
            }
            loop {
                let Some(in_object) = nest.top() else {
                    return Ok(Span { start, end: self.pos });
                };
                match self.peek() {
                    Some(b',') => {
                        self.pos += 1;
                        if in_object {
                            self.space();
                            self.key()?;
                        } else {
                            self.space();
                        }
                        continue 'value;
                    }
                    Some(b'}') if in_object => nest.pop(),
                    Some(b']') if !in_object => nest.pop(),
                    _ => return Err(self.syntax()),
                }
                self.pos += 1;
            }
        }
    }

    // === tokens

    fn key(&mut self) -> Scanned<()> {
        self.string()?;
        self.colon()?;
        self.space();
        Ok(())
    }

    fn colon(&mut self) -> Scanned<()> {
        match self.peek() {
            Some(b':') => {
                self.pos += 1;
                Ok(())
            }
            _ => Err(self.syntax()),
        }
    }

    fn open(&mut self, bracket: u8) -> Scanned<()> {
        if self.byte() != Some(bracket) {
            return Err(self.syntax());
        }
        self.depth += 1;
        if self.depth > self.limit {
            return Err(ScanError::TooDeep { limit: self.limit });
        }
        self.pos += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.pos += 1;
    }

    fn nest(&mut self, nest: &mut Nest, object: bool) -> Scanned<()> {
        nest.push(object);
        if self.depth + nest.len > self.limit {
            return Err(ScanError::TooDeep { limit: self.limit });
        }
        Ok(())
    }

    fn string(&mut self) -> Scanned<Span> {
        let start = self.pos;
        if self.byte() != Some(b'"') {
            return Err(self.syntax());
        }
        self.pos += 1;
        loop {
            self.pos += plain_prefix(self.text.get(self.pos..).unwrap_or_default());
            match self.byte() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(Span { start, end: self.pos });
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Scanned<()> {
        match self.text.get(self.pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 2,
            Some(b'u') => match self.text.get(self.pos + 2..self.pos + 6) {
                Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => self.pos += 6,
                _ => return Err(self.syntax()),
            },
            _ => return Err(self.syntax()),
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Scanned<()> {
        if self.text.get(self.pos..self.pos + word.len()) != Some(word) {
            return Err(self.syntax());
        }
        self.pos += word.len();
        Ok(())
    }

    fn number(&mut self) -> Scanned<()> {
        if self.byte() == Some(b'-') {
            self.pos += 1;
        }
        match self.byte() {
            Some(b'0') => self.pos += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.syntax()),
        }
        if self.byte() == Some(b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.pos += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scanned<()> {
        let from = self.pos;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.pos += 1;
        }
        if self.pos == from {
            Err(self.syntax())
        } else {
            Ok(())
        }
    }

    fn space(&mut self) {
        while let Some(byte) = self.byte() {
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.breaks = true,
                _ => return,
            }
            self.pos += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    fn syntax(&self) -> ScanError {
        ScanError::Syntax { at: self.pos }
    }
}

/// The text of a JSON string given with its quotes; none if it is no string or holds a lone surrogate.
pub(crate) fn text_of(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some() {
        return serde_json::from_slice::<String>(raw).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// How many bytes at the start need no look: no quote, no backslash, no control character. Eight at a
/// time, because string content is nearly all of a large message.
fn plain_prefix(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Classic zero-byte test: a byte below `n` sets its high bit (bytes ≥ 0x80 are masked out by `!word`).
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let mut at = 0;
    let mut chunks = text.chunks_exact(8);
    for chunk in &mut chunks {
        let Ok(chunk) = <[u8; 8]>::try_from(chunk) else {
            break;
        };
        let word = u64::from_le_bytes(chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let special = (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & HIGH;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = chunks.remainder();
    at + rest
        .iter()
        .position(|&b| b == b'"' || b == b'\\' || b < 0x20)
        .unwrap_or(rest.len())
}

/// The kinds of the open containers, one bit each (1 = object).
#[derive(Default)]
struct Nest {
    len: usize,
    low: u64,
    full: Vec<u64>,
}

impl Nest {
    fn push(&mut self, object: bool) {
        if self.len > 0 && self.len.is_multiple_of(64) {
            self.full.push(self.low);
        }
        self.low = (self.low << 1) | u64::from(object);
        self.len += 1;
    }

    fn top(&self) -> Option<bool> {
        (self.len > 0).then_some(self.low & 1 == 1)
    }

    fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
        self.low >>= 1;
        if self.len > 0
            && self.len.is_multiple_of(64)
            && let Some(low) = self.full.pop()
        {
            self.low = low;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &[u8]) -> Result<(), ScanError> {
        let mut scanner = Scanner::new(text, 100_000)?;
        scanner.value()?;
        scanner.finish()
    }

    #[test]
    fn agrees_with_the_grammar() {
        for good in [
            "{}",
            "[]",
            " [ 1 , -0.5e+7 , \"\\u00e9\\n\" , null , true , false ] ",
            "\"\"",
            "0",
            "-1",
            "{\"a\":{\"b\":[{}]}}",
            "\"\\ud800\"",
            "[[[[]]],{}]",
        ] {
            assert_eq!(scan(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            "1e",
            "+1",
            "nul",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "[1}",
            "{\"a\" 1}",
            "1 2",
            "NaN",
            "\"abc",
            "[1 2]",
            "{\"a\"}",
            "\u{feff}{}",
        ] {
            assert!(scan(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(scan(b"\"\xff\""), Err(ScanError::Utf8));
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert_eq!(scan(&deep), Ok(()));
        let mixed = ["{\"a\":[".repeat(1000), "]}".repeat(1000)].concat();
        assert_eq!(scan(mixed.as_bytes()), Ok(()));
        let mut scanner = Scanner::new(&deep, 64).unwrap();
        assert_eq!(scanner.value(), Err(ScanError::TooDeep { limit: 64 }));
    }

    #[test]
    fn keys_are_compared_as_text_not_as_bytes() {
        let mut keys = Vec::new();
        let text = br#"{"m\u0065thod":1,"\ud800":2}"#;
        let mut scanner = Scanner::new(text, 9).unwrap();
        scanner
            .object(|s, key| {
                keys.push(key.to_owned());
                s.value().map(drop)
            })
            .unwrap();
        assert_eq!(keys, ["method"]);
    }

    #[test]
    fn line_breaks_are_noticed() {
        let mut scanner = Scanner::new(b"[1,\n2]", 9).unwrap();
        scanner.value().unwrap();
        assert!(scanner.has_breaks());
    }

    proptest! {
        #[test]
        fn accepts_exactly_what_serde_json_accepts(text in "[\\[\\]{}\",:0-9a-e.\\-+ \\\\nu\\n\u{e9}]{0,24}") {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(scan(text.as_bytes()).is_ok(), theirs);
        }

        #[test]
        fn plain_prefix_finds_the_first_special_byte(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let slow = bytes.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20).unwrap_or(bytes.len());
            prop_assert_eq!(plain_prefix(&bytes), slow);
        }
    }
}
