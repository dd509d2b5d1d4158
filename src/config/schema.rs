//! The JSON Schema of the configuration file, made from the spec types.
//!
//! It is what `mcp-edge schema` prints for editors, what the walk over a document is led by, and what the manual is
//! written from. It holds no `$ref`: the configuration does not recurse, and a schema in one piece is easy to walk.

use std::sync::OnceLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::spec::Spec;

/// The JSON Schema (draft 2020-12) of the configuration file.
pub fn json_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(of::<Spec>)
}

/// The schema of one type in the form that the walk expects.
pub(super) fn of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    forbid_null(&mut schema);
    schema
}

/// An `Option` in a type means that the key may be left out, not that it may be `null`: a key without a value is
/// mostly a slip, and is reported as one.
fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            if let Some(only) = only_alternative(object) {
                object.remove("anyOf");
                for (key, value) in only {
                    // The description of the field is nearer than that of its type.
                    object.entry(key).or_insert(value);
                }
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if let Some(Value::Array(choices)) = object.get_mut("enum") {
                choices.retain(|c| !c.is_null());
            }
            object.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        _ => {}
    }
}

/// The one alternative of `anyOf` that is not `null`.
fn only_alternative(object: &Map<String, Value>) -> Option<Map<String, Value>> {
    let alternatives = object.get("anyOf")?.as_array()?;
    let mut real = alternatives
        .iter()
        .filter(|a| a.get("type").is_none_or(|t| t != "null"));
    match (real.next(), real.next()) {
        (Some(Value::Object(only)), None) => Some(only.clone()),
        _ => None,
    }
}

/// The allowed texts of an enumeration, whichever of JSON Schema's forms it has.
pub(super) fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        return Some(choices.iter().filter_map(Value::as_str).collect());
    }
    let variants = schema.get("oneOf").and_then(Value::as_array)?;
    let mut found = Vec::new();
    for variant in variants {
        match variant.get("const").and_then(Value::as_str) {
            Some(choice) => found.push(choice),
            None => found.extend(choices(variant)?),
        }
    }
    Some(found)
}

/// Where else a key is known: `edge.listen` for `listen`. Empty when it is known nowhere.
pub(super) fn places_of(key: &str) -> Vec<String> {
    let mut found = Vec::new();
    visit(json_schema(), "", &mut |path, _| {
        if path.rsplit('.').next() == Some(key) {
            found.push(path.to_owned());
        }
    });
    found
}

/// Calls `see` with every key: `mcp.services[].port`, and `mcp.tiers.*` for keys that the operator chooses.
pub(super) fn visit<'a>(schema: &'a Value, path: &str, see: &mut dyn FnMut(&str, &'a Value)) {
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (key, property) in properties {
            let path = join(key);
            see(&path, property);
            visit(property, &path, see);
        }
    }
    if let Some(items) = schema.get("items") {
        visit(items, &format!("{path}[]"), see);
    }
    if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
        visit(values, &join("*"), see);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_be_null_and_nothing_refers() {
        let text = json_schema().to_string();
        assert!(!text.contains("null"), "{text}");
        assert!(!text.contains("$ref"));
    }

    #[test]
    fn every_key_has_a_description_and_every_mapping_is_closed() {
        let mut keys = 0;
        visit(json_schema(), "", &mut |path, schema| {
            keys += 1;
            let text = schema
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default();
            assert!(text.len() > 5, "{path} has no description");
            if schema.get("properties").is_some() {
                assert_eq!(
                    schema.get("additionalProperties"),
                    Some(&Value::Bool(false)),
                    "{path}"
                );
            }
        });
        assert!(keys > 80, "only {keys} keys seen");
    }

    #[test]
    fn a_key_is_found_where_it_belongs() {
        assert_eq!(places_of("listen"), ["edge.listen"]);
        assert_eq!(places_of("wrapper"), ["mcp.services[].wrapper"]);
        assert!(places_of("nonsense").is_empty());
    }
}
