//! Changes a few bytes of a message and leaves every other byte as it was.
//!
//! Ids and tokens are rewritten in both directions; nothing else of a message may change, or unknown
//! fields, big integers and key order would be lost. Invariant: the result is the original text with
//! exactly the given spans replaced. A large message is not copied: its unchanged parts are slices.

use bytes::{Bytes, BytesMut};

use crate::scan::Span;

/// Up to here one copy is cheaper than several slices (and frees the read buffer that slices would pin).
const COPY_UP_TO: usize = 16 * 1024;

/// A message as it goes to a peer: one buffer or several in order.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    One(Bytes),
    Parts(Vec<Bytes>),
}

impl Payload {
    pub(crate) fn parts(&self) -> &[Bytes] {
        match self {
            Self::One(bytes) => std::slice::from_ref(bytes),
            Self::Parts(parts) => parts,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.parts().iter().map(Bytes::len).sum()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::One(bytes)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::One(Bytes::from(text))
    }
}

/// One replacement.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) span: Span,
    pub(crate) with: Bytes,
}

/// Applies `edits` (in any order, not overlapping) to `text`. With `one_line` every line break becomes
/// a space: in JSON a raw break can only be whitespace, and both the stdio framing and SSE end a
/// message at one.
pub(crate) fn splice(text: &Bytes, mut edits: Vec<Edit>, one_line: bool) -> Payload {
    edits.sort_unstable_by_key(|edit| edit.span.start);
    let mut parts = Vec::with_capacity(edits.len() * 2 + 1);
    let mut from = 0;
    for edit in edits {
        parts.push(slice(text, from, edit.span.start));
        parts.push(edit.with);
        from = edit.span.end;
    }
    parts.push(slice(text, from, text.len()));
    let len: usize = parts.iter().map(Bytes::len).sum();
    if len > COPY_UP_TO && !one_line {
        return Payload::Parts(parts);
    }
    let mut copy = BytesMut::with_capacity(len);
    for part in &parts {
        copy.extend_from_slice(part);
    }
    if one_line {
        for byte in copy.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
    Payload::One(copy.freeze())
}

fn slice(text: &Bytes, from: usize, to: usize) -> Bytes {
    if from < to && to <= text.len() {
        text.slice(from..to)
    } else {
        Bytes::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(payload: &Payload) -> Vec<u8> {
        payload.parts().concat()
    }

    #[test]
    fn replaces_only_the_spans() {
        let text = Bytes::from_static(b"{\"id\":7,\"x\":[1, 2],\"t\":\"a\"}");
        let edits = vec![
            Edit {
                span: Span { start: 23, end: 26 },
                with: Bytes::from_static(b"99"),
            },
            Edit {
                span: Span { start: 6, end: 7 },
                with: Bytes::from_static(b"1234"),
            },
        ];
        assert_eq!(
            flat(&splice(&text, edits, false)),
            b"{\"id\":1234,\"x\":[1, 2],\"t\":99}"
        );
    }

    #[test]
    fn breaks_become_spaces_on_request() {
        let text = Bytes::from_static(b"{\r\n\"a\":\"\\n\"\n}");
        assert_eq!(flat(&splice(&text, Vec::new(), true)), b"{  \"a\":\"\\n\" }");
    }

    #[test]
    fn a_large_message_is_not_copied() {
        let text = Bytes::from(vec![b'x'; COPY_UP_TO * 2]);
        let edit = Edit {
            span: Span { start: 5, end: 6 },
            with: Bytes::from_static(b"yy"),
        };
        let payload = splice(&text, vec![edit], false);
        assert_eq!(payload.len(), text.len() + 1);
        assert_eq!(payload.parts()[2].as_ptr(), text[6..].as_ptr());
    }

    proptest! {
        #[test]
        fn equals_the_naive_splice(text in "[a-z]{0,60}", at in 0usize..60, len in 0usize..9, with in "[A-Z]{0,9}") {
            let start = at.min(text.len());
            let end = (start + len).min(text.len());
            let expected = format!("{}{with}{}", &text[..start], &text[end..]);
            let edit = Edit { span: Span { start, end }, with: Bytes::from(with) };
            let payload = splice(&Bytes::from(text), vec![edit], false);
            prop_assert_eq!(flat(&payload), expected.into_bytes());
        }
    }
}
