//! Does a document have the shape that the schema asks for?
//!
//! serde would say no at the first mistake. This walk goes on: it reports every unknown, repeated or missing key and
//! every value of the wrong type, leaves those out, and returns the rest, which then fits the schema. The caller can
//! go on with that and find what else is wrong in the same run.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::formats::{self, Format, Secret};
use super::report::{Blank, Finding};
use super::schema;
use super::suggest::did_you_mean;
use super::tree::{Class, Entry, Kind, Node, Scalar, Span};

/// One way in which a document differs from the schema.
#[derive(Debug, thiserror::Error)]
enum Mistake<'a> {
    #[error("unknown key `{0}`")]
    UnknownKey(&'a str),
    #[error("`{key}` is given twice; the first is on line {first}")]
    RepeatedKey { key: &'a str, first: u32 },
    #[error("{owner} lacks the key `{key}`")]
    MissingKey { owner: &'a str, key: &'a str },
    #[error("{0} has no value: give it one or remove the key")]
    NoValue(&'a str),
    #[error("{key} must be {wanted}, but is {found}")]
    WrongType {
        key: &'a str,
        wanted: &'a str,
        found: &'static str,
    },
    #[error("{key} must be one of {choices}{found}")]
    NotAChoice {
        key: &'a str,
        choices: String,
        found: String,
    },
    #[error("{key} must be {bounds}")]
    OutOfRange { key: &'a str, bounds: String },
    #[error("{key} has {count} entries; {bounds}")]
    Length {
        key: &'a str,
        count: usize,
        bounds: String,
    },
    #[error("{key}: {why}")]
    Format { key: &'a str, why: String },
    #[error("`{key}` is no good key of {owner}: {why}")]
    BadKey {
        owner: &'a str,
        key: &'a str,
        why: String,
    },
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) findings: Vec<Finding>,
    /// Places of secrets and of what might be one.
    pub(super) blanks: Vec<Blank>,
}

impl Shape {
    /// Walks a whole document. Entries of lists that do not fit are taken out of the tree too, so that the indexes of
    /// the tree and of the returned value stay the same. `None` when nothing is left.
    pub(super) fn walk(&mut self, root: &mut Node, schema: &Value) -> Option<Value> {
        if root.is_null() {
            root.kind = Kind::Map(Vec::new());
        }
        self.value(root, schema, "the document")
    }

    fn complain(&mut self, at: Span, mistake: &Mistake<'_>, hint: Option<String>) {
        self.findings
            .push(Finding::error(Some(at), mistake).with_hint(hint));
    }

    fn value(&mut self, node: &mut Node, schema: &Value, label: &str) -> Option<Value> {
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        if format == Secret::NAME {
            self.blank(node);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => return self.object(node, schema, label),
            Some("array") => return self.array(node, schema, label),
            _ => {}
        }
        let scalar = self.scalar(node, schema, label)?;
        if let Some(checked) = formats::check(format, &scalar.text) {
            return match checked {
                Ok(()) => Some(Value::String(scalar.text)),
                Err(why) => {
                    self.complain(node.span, &Mistake::Format { key: label, why }, None);
                    None
                }
            };
        }
        if let Some(choices) = schema::choices(schema) {
            return self.choice(node.span, scalar, &choices, label);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("integer") => self.number(node.span, &scalar, schema, label, true),
            Some("number") => self.number(node.span, &scalar, schema, label, false),
            Some("boolean") => self.boolean(node.span, &scalar, label),
            _ => Some(Value::String(scalar.text)),
        }
    }

    fn object(&mut self, node: &mut Node, schema: &Value, label: &str) -> Option<Value> {
        let span = node.span;
        let Kind::Map(entries) = &mut node.kind else {
            self.wrong_type(node, "a mapping of keys to values", label);
            return None;
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let free = schema.get("additionalProperties");
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut fit = Map::new();
        for entry in entries {
            if let Some(first) = seen.get(&entry.key) {
                let mistake = Mistake::RepeatedKey {
                    key: &entry.key,
                    first: *first,
                };
                self.complain(entry.key_span, &mistake, None);
                self.blank(&entry.value);
                continue;
            }
            seen.insert(entry.key.clone(), entry.key_span.line);
            let value = match (properties.and_then(|p| p.get(&entry.key)), free) {
                (Some(property), _) => self.value(&mut entry.value, property, &format!("`{}`", entry.key)),
                (None, Some(values @ Value::Object(_))) => self.free_entry(entry, schema, values, label),
                (None, Some(Value::Bool(false))) => {
                    self.unknown(entry, properties);
                    None
                }
                // An open mapping of somebody else's format: what it holds beside is not our business.
                _ => {
                    self.blank(&entry.value);
                    None
                }
            };
            if let Some(value) = value {
                fit.insert(entry.key.clone(), value);
            }
        }
        let required = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut complete = true;
        for key in required.filter_map(Value::as_str) {
            if !seen.contains_key(key) {
                self.complain(span, &Mistake::MissingKey { owner: label, key }, None);
            }
            complete &= fit.contains_key(key);
        }
        complete.then_some(Value::Object(fit))
    }

    fn free_entry(
        &mut self,
        entry: &mut Entry,
        schema: &Value,
        values: &Value,
        label: &str,
    ) -> Option<Value> {
        let format = schema
            .pointer("/propertyNames/format")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let bad_key = formats::check(format, &entry.key).and_then(Result::err);
        if let Some(why) = bad_key.clone() {
            let mistake = Mistake::BadKey {
                owner: label,
                key: &entry.key,
                why,
            };
            self.complain(entry.key_span, &mistake, None);
        }
        // The value is walked in any case: it may hold further mistakes.
        let value = self.value(&mut entry.value, values, &format!("`{}`", entry.key));
        if bad_key.is_some() { None } else { value }
    }

    fn unknown(&mut self, entry: &Entry, properties: Option<&Map<String, Value>>) {
        let names = properties.into_iter().flatten().map(|(name, _)| name.as_str());
        let hint =
            did_you_mean(&entry.key, names).or_else(|| match schema::places_of(&entry.key).as_slice() {
                [only] => Some(format!("did you mean `{only}`?")),
                _ => None,
            });
        self.complain(entry.key_span, &Mistake::UnknownKey(&entry.key), hint);
        self.blank(&entry.value);
    }

    fn array(&mut self, node: &mut Node, schema: &Value, label: &str) -> Option<Value> {
        let span = node.span;
        let Kind::Seq(items) = &mut node.kind else {
            self.wrong_type(node, "a list", label);
            return None;
        };
        let count = items.len();
        let bound = |key| {
            schema
                .get(key)
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
        };
        let bounds = match (bound("minItems"), bound("maxItems")) {
            (Some(min), _) if count < min => Some(format!("at least {min}")),
            (_, Some(max)) if count > max => Some(format!("at most {max}")),
            _ => None,
        };
        if let Some(bounds) = bounds {
            self.complain(
                span,
                &Mistake::Length {
                    key: label,
                    count,
                    bounds,
                },
                None,
            );
        }
        let item_label = format!("an entry of {label}");
        let mut fit = Vec::new();
        let of_items = schema.get("items").unwrap_or(&Value::Null);
        items.retain_mut(|item| {
            let value = self.value(item, of_items, &item_label);
            let keep = value.is_some();
            fit.extend(value);
            keep
        });
        Some(Value::Array(fit))
    }

    fn scalar(&mut self, node: &Node, schema: &Value, label: &str) -> Option<Scalar> {
        match &node.kind {
            Kind::Scalar(scalar) if scalar.class == Class::Null => {
                self.complain(node.span, &Mistake::NoValue(label), None);
                None
            }
            Kind::Scalar(scalar) if scalar.class == Class::Broken => None,
            Kind::Scalar(scalar) => Some(scalar.clone()),
            _ => {
                let wanted = match schema.get("type").and_then(Value::as_str) {
                    Some("integer") => "a whole number",
                    Some("number") => "a number",
                    Some("boolean") => "`true` or `false`",
                    _ => "a text",
                };
                self.wrong_type(node, wanted, label);
                None
            }
        }
    }

    fn choice(&mut self, at: Span, scalar: Scalar, choices: &[&str], label: &str) -> Option<Value> {
        if choices.contains(&scalar.text.as_str()) {
            return Some(Value::String(scalar.text));
        }
        let found = match scalar.class {
            Class::Substituted => String::new(),
            _ => format!(", not `{}`", scalar.text),
        };
        let quoted: Vec<String> = choices.iter().map(|c| format!("`{c}`")).collect();
        let hint = did_you_mean(&scalar.text, choices.iter().copied());
        self.complain(
            at,
            &Mistake::NotAChoice {
                key: label,
                choices: quoted.join(", "),
                found,
            },
            hint,
        );
        None
    }

    fn boolean(&mut self, at: Span, scalar: &Scalar, label: &str) -> Option<Value> {
        let typed = matches!(scalar.class, Class::Bool | Class::Substituted);
        match scalar.text.to_ascii_lowercase().as_str() {
            "true" if typed => Some(Value::Bool(true)),
            "false" if typed => Some(Value::Bool(false)),
            _ => {
                let mistake = Mistake::WrongType {
                    key: label,
                    wanted: "`true` or `false`",
                    found: kind_name(scalar),
                };
                self.complain(at, &mistake, None);
                None
            }
        }
    }

    fn number(
        &mut self,
        at: Span,
        scalar: &Scalar,
        schema: &Value,
        label: &str,
        whole: bool,
    ) -> Option<Value> {
        let parsed = if whole {
            scalar.text.parse::<i64>().ok().map(Number::from)
        } else {
            scalar.text.parse::<f64>().ok().and_then(Number::from_f64)
        };
        let typed = matches!(scalar.class, Class::Int | Class::Float | Class::Substituted);
        let Some(number) = parsed.clone().filter(|_| typed) else {
            let wanted = if whole { "a whole number" } else { "a number" };
            let hint = parsed.map(|_| "remove the quotes".to_owned());
            let mistake = Mistake::WrongType {
                key: label,
                wanted,
                found: kind_name(scalar),
            };
            self.complain(at, &mistake, hint);
            return None;
        };
        let bound = |key| schema.get(key).and_then(Value::as_f64);
        let (min, max) = (bound("minimum"), bound("maximum"));
        let value = number.as_f64().unwrap_or(f64::NAN);
        if min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max) {
            let bounds = match (min, max) {
                (Some(min), Some(max)) => format!("from {min} to {max}"),
                (Some(min), None) => format!("at least {min}"),
                (_, max) => format!("at most {}", max.unwrap_or_default()),
            };
            self.complain(at, &Mistake::OutOfRange { key: label, bounds }, None);
            return None;
        }
        Some(Value::Number(number))
    }

    fn wrong_type(&mut self, node: &Node, wanted: &str, label: &str) {
        let mistake = match &node.kind {
            Kind::Scalar(scalar) if scalar.class == Class::Null => Mistake::NoValue(label),
            Kind::Scalar(scalar) => Mistake::WrongType {
                key: label,
                wanted,
                found: kind_name(scalar),
            },
            Kind::Seq(_) => Mistake::WrongType {
                key: label,
                wanted,
                found: "a list",
            },
            Kind::Map(_) => Mistake::WrongType {
                key: label,
                wanted,
                found: "a mapping",
            },
        };
        self.complain(node.span, &mistake, None);
    }

    /// Keeps everything under a node out of the report.
    fn blank(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar(_) => self.blanks.push(Blank::Value {
                at: node.span,
                lines: node.span.lines,
            }),
            Kind::Seq(items) => items.iter().for_each(|item| self.blank(item)),
            Kind::Map(entries) => entries.iter().for_each(|entry| self.blank(&entry.value)),
        }
    }
}

fn kind_name(scalar: &Scalar) -> &'static str {
    match scalar.class {
        Class::Null => "empty",
        Class::Bool => "a truth value",
        Class::Int => "a whole number",
        Class::Float => "a number",
        Class::Text | Class::Broken => "a text",
        Class::Substituted => "another text after substitution",
    }
}
