//! A YAML document as a tree in which every node knows where it was written.
//!
//! serde stops at the first mistake and forgets positions; an operator wants all mistakes at once, each with its line.
//! So a document is read into this tree first, and everything that can complain (substitution, shape, meaning) works
//! on it. A scalar keeps its text exactly as written: whether `1.10` is a number or a text is decided by the key that
//! wants it, not here.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// Where something was written. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) line: u32,
    pub(super) column: u32,
    /// Length in characters, on the first line; at least 1.
    pub(super) len: u32,
    /// Lines that it takes; at least 1.
    pub(super) lines: u32,
}

/// One step from a node to one below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// One value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Scalar(Scalar),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a mapping. Keys may repeat: that is a mistake somebody has to report.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) class: Class,
}

/// What the YAML 1.2 core schema takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Null,
    Bool,
    Int,
    Float,
    Text,
    /// The result of a substitution: text from outside the file, which the key that wants it may read as a number.
    Substituted,
    /// A text whose substitution failed, which has been reported: nothing more is to be said of it.
    Broken,
}

impl Node {
    /// A document with nothing in it.
    pub(super) fn empty() -> Self {
        let span = Span {
            line: 1,
            column: 1,
            len: 1,
            lines: 1,
        };
        Self {
            span,
            kind: Kind::Map(Vec::new()),
        }
    }

    /// Reads one document.
    ///
    /// # Errors
    /// What the YAML parser says of the first place it cannot get past.
    pub(super) fn parse(source: &str) -> Result<Self, serde_saphyr::Error> {
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
            strict_booleans: true,
            reject_unsupported_tags: true,
            non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
            with_snippet: false,
        };
        let raw: RawNode = serde_saphyr::from_str_with_options(source, options)?;
        Ok(raw.settle(source))
    }

    /// Where a value was written: a scalar's own place, the key of a mapping or list. When the value is not in the
    /// document (a default), the nearest thing around it that is; `None` when that is the whole document.
    pub(super) fn locate(&self, path: &[Step<'_>]) -> Option<Span> {
        let mut node = self;
        let mut found = None;
        for step in path {
            let next = match (step, &node.kind) {
                (Step::Key(key), _) => node.get(key).map(|e| (e.key_span, &e.value)),
                (Step::Index(index), Kind::Seq(items)) => items.get(*index).map(|n| (n.span, n)),
                _ => None,
            };
            let Some((key, value)) = next else { break };
            node = value;
            found = Some(if matches!(node.kind, Kind::Scalar(_)) {
                node.span
            } else {
                key
            });
        }
        found
    }

    /// True for a document without content.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(s) if s.class == Class::Null)
    }

    /// The value under a key of a mapping; the first one when the key repeats.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }
}

/// A node as serde-saphyr hands it over, still without the text of numbers.
struct RawNode(Spanned<RawKind>);

enum RawKind {
    Null,
    Bool,
    Int,
    Float,
    Text(String),
    Seq(Vec<RawNode>),
    Map(Vec<(Spanned<String>, RawNode)>),
}

impl RawNode {
    fn settle(self, source: &str) -> Node {
        let Spanned {
            value,
            referenced,
            defined,
        } = self.0;
        let scalar = |class, text| Kind::Scalar(Scalar { class, text });
        // A number's text is where it was defined, also when an alias refers to it.
        let written = || slice(source, defined).unwrap_or_default().to_owned();
        let kind = match value {
            RawKind::Null => scalar(Class::Null, String::new()),
            RawKind::Bool => scalar(Class::Bool, written()),
            RawKind::Int => scalar(Class::Int, written()),
            RawKind::Float => scalar(Class::Float, written()),
            RawKind::Text(text) => scalar(Class::Text, text),
            RawKind::Seq(items) => Kind::Seq(items.into_iter().map(|n| n.settle(source)).collect()),
            RawKind::Map(entries) => Kind::Map(entries.into_iter().map(|e| entry(source, e)).collect()),
        };
        let mut span = span(source, referenced);
        if !matches!(kind, Kind::Scalar(_)) {
            // A collection reaches to its end; a caret under its first character says enough.
            (span.len, span.lines) = (1, 1);
        }
        Node { span, kind }
    }
}

fn entry(source: &str, (key, value): (Spanned<String>, RawNode)) -> Entry {
    let key_span = span(source, key.referenced);
    let mut value = value.settle(source);
    if value.is_null() {
        // What is not written has no place of its own.
        value.span = key_span;
    }
    Entry {
        key: key.value,
        key_span,
        value,
    }
}

fn slice(source: &str, at: Location) -> Option<&str> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let len = usize::try_from(at.span().byte_len()?).ok()?;
    source.get(start..start.checked_add(len)?).map(str::trim)
}

pub(super) fn span(source: &str, at: Location) -> Span {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    let text = slice(source, at).unwrap_or_default();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Span {
        line: number(at.line()),
        column: number(at.column()),
        len: count(text.lines().next().unwrap_or_default().chars().count()),
        lines: count(text.lines().count()),
    }
}

impl<'de> Deserialize<'de> for RawNode {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(RawNode)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<RawKind, D::Error> {
        RawKind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawKind, E> {
        Ok(RawKind::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawKind, E> {
        Ok(RawKind::Int)
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawKind, E> {
        Ok(RawKind::Int)
    }

    fn visit_i128<E>(self, _: i128) -> Result<RawKind, E> {
        Ok(RawKind::Int)
    }

    fn visit_u128<E>(self, _: u128) -> Result<RawKind, E> {
        Ok(RawKind::Int)
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawKind, E> {
        Ok(RawKind::Float)
    }

    fn visit_str<E>(self, text: &str) -> Result<RawKind, E> {
        Ok(RawKind::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawKind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(RawKind::Seq(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawKind, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            list.push(entry);
        }
        Ok(RawKind::Map(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(node: &Node, out: &mut String, depth: usize) {
        use std::fmt::Write;
        let pad = " ".repeat(depth);
        let s = node.span;
        match &node.kind {
            Kind::Scalar(v) => writeln!(
                out,
                "{pad}{:?} {:?} @{}:{}+{}",
                v.class, v.text, s.line, s.column, s.len
            )
            .unwrap(),
            Kind::Seq(items) => {
                writeln!(out, "{pad}seq @{}:{}", s.line, s.column).unwrap();
                for i in items {
                    dump(i, out, depth + 1);
                }
            }
            Kind::Map(entries) => {
                writeln!(out, "{pad}map @{}:{}", s.line, s.column).unwrap();
                for e in entries {
                    let k = e.key_span;
                    writeln!(out, "{pad} {:?} @{}:{}+{}", e.key, k.line, k.column, k.len).unwrap();
                    dump(&e.value, out, depth + 2);
                }
            }
        }
    }

    #[test]
    fn every_value_knows_its_place_and_numbers_keep_their_text() {
        let source = "a: 1.10\nb:\n  - ünï: \"q\"\n    c: 0x10   # hi\n  - [true, ~, off, 007]\ng: |\n  one\n  two\n1: y\n";
        let mut out = String::new();
        dump(&Node::parse(source).unwrap(), &mut out, 0);
        let expected = "\
map @1:1
 \"a\" @1:1+1
  Float \"1.10\" @1:4+4
 \"b\" @2:1+1
  seq @3:3
   map @3:5
    \"ünï\" @3:5+3
     Text \"q\" @3:10+3
    \"c\" @4:5+1
     Int \"0x10\" @4:8+4
   seq @5:5
    Bool \"true\" @5:6+4
    Null \"\" @5:12+1
    Text \"off\" @5:15+3
    Float \"007\" @5:20+3
 \"g\" @6:1+1
  Text \"one\\ntwo\\n\" @7:3+3
 \"1\" @9:1+1
  Text \"y\" @9:4+1
";
        assert_eq!(out, expected);
    }

    #[test]
    fn an_alias_is_where_it_is_used() {
        let root = Node::parse("d: &x {port: 80, port: 81}\ne: *x\n").unwrap();
        assert_eq!(
            root.get("e").unwrap().value.get("port").unwrap().value.span.line,
            2
        );
        let Kind::Map(entries) = &root.get("d").unwrap().value.kind else {
            panic!("a mapping")
        };
        assert_eq!(
            entries.len(),
            2,
            "a repeated key is kept for the one who reports it"
        );
    }

    #[test]
    fn json_with_tabs_is_yaml_enough() {
        let root = Node::parse("{\n\t\"a\": {\"b\": [1,\t2]}\n}\n").unwrap();
        assert_eq!(
            root.locate(&[Step::Key("a"), Step::Key("b"), Step::Index(1)])
                .map(|s| (s.line, s.column)),
            Some((3 - 1, 17))
        );
    }

    #[test]
    fn an_empty_document_is_null() {
        for source in ["", "# only a comment\n", "---\n"] {
            assert!(Node::parse(source).unwrap().is_null(), "{source:?}");
        }
    }

    #[test]
    fn what_is_not_written_is_found_at_what_is_around_it() {
        let root = Node::parse("edge:\n  listen: x\nlist: [1, {k: v}]\n").unwrap();
        let at = |path: &[Step<'_>]| root.locate(path).map(|s| (s.line, s.column));
        use Step::{Index, Key};
        assert_eq!(at(&[Key("edge"), Key("listen")]), Some((2, 11)));
        assert_eq!(at(&[Key("edge"), Key("admin")]), Some((1, 1)));
        assert_eq!(at(&[Key("mcp"), Key("services")]), None);
        assert_eq!(at(&[Key("list"), Index(1), Key("k")]), Some((3, 15)));
        assert_eq!(at(&[Key("list"), Index(1), Key("z")]), Some((3, 11)));
        assert_eq!(at(&[Key("list"), Index(7)]), Some((3, 1)));
    }
}
