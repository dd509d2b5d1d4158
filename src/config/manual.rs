//! `docs/configuration.md`, written from the schema.
//!
//! One table for each mapping, in the order of the file. A test says when the page in the repository is not this one.

use std::fmt::Write;

use serde_json::Value;

use super::{later, schema};

const HEAD: &str = "\
# Configuration

<!-- Written by `mcp-edge schema --markdown` from the types in src/config/spec. Do not edit. -->

`mcp-edge -c FILE` reads one YAML file; `mcp-edge check -c FILE` says everything that is wrong with it, with line and
column, and starts nothing. `conf/edge.yaml` has every key with its default. A named file that is missing, an unknown
key, a name that refers to nothing and a value of the wrong type are errors (exit code 2): nothing falls back silently.

Without `-c`, the `.mcp.json` of the working directory is served if there is one, else the built-in demo server, in both
cases on loopback and to everyone on this machine (`auth.anonymous` with the tier `enterprise`).

**Values.** A duration is a whole number with a unit: `500ms`, `10s`, `5m`, `2h`, `1d`. A size is bytes, or a whole number
with a unit: `64KiB`, `512MB`, `2GiB`. A relative path starts at the working directory. Anchors, aliases and merge keys
of YAML work.

**Substitution.** In values, not in keys, `${VAR}` is the value of an environment variable (unset is an error),
`${VAR:-default}` has a default for an unset or empty one, `${file:/path}` is the content of a file without its last line
break, and `$$` is a `$`. What comes in that way is one text: it never changes the structure of the file. Inside `{}` or
`[]`, YAML wants such a value in quotes.

**The older form.** A file with the `mcp:` block of earlier deployments (`services` with `name`, `wrapper`, `port`,
`health_check_path` and `resource_limits`, `clients` with `tier`, `rate_limit` and `concurrent_requests`) loads unchanged.

Keys marked *later* are read and checked, and take effect with a later version; a file that has some gets one warning
that names them. *Required* keys have no default.
";

/// The manual page as Markdown.
pub fn manual() -> String {
    let mut out = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = section(&mut out, schema::json_schema(), "");
    out
}

fn section(out: &mut String, mapping: &Value, path: &str) -> std::fmt::Result {
    let Some(properties) = mapping.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    let title = if path.is_empty() {
        "The file".to_owned()
    } else {
        format!("`{path}`")
    };
    writeln!(out, "\n## {title}\n")?;
    if let Some(text) = mapping.get("description").and_then(Value::as_str) {
        writeln!(out, "{}\n", one_line(text))?;
    }
    writeln!(out, "| key | value | default | meaning |\n|---|---|---|---|")?;
    let required = mapping.get("required").and_then(Value::as_array);
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    for (key, property) in properties {
        let needed = required.is_some_and(|keys| keys.iter().any(|k| k == key));
        let default = if needed {
            "*required*".to_owned()
        } else {
            default_of(property)
        };
        let text = property
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mark = if later::is_later(&join(key)) {
            " *Later.*"
        } else {
            ""
        };
        let (kind, text) = (kind_of(property), one_line(text));
        writeln!(
            out,
            "| `{key}` | {kind} | {default} | {text}{}{mark} |",
            choices_of(property)
        )?;
    }
    for (key, property) in properties {
        let path = join(key);
        section(out, property, &path)?;
        if let Some(items) = property.get("items") {
            section(out, items, &format!("{path}[]"))?;
        }
        if let Some(values) = property.get("additionalProperties") {
            section(out, values, &format!("{path}.*"))?;
        }
    }
    Ok(())
}

fn kind_of(schema: &Value) -> String {
    let text = |key| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = match (text("format"), text("type")) {
        ("duration" | "duration-not-zero", _) => "duration",
        ("duration-or-never", _) => "duration or `never`",
        ("size", _) => "size",
        ("limit", _) => "whole number or -1",
        ("secret", _) => "secret",
        ("socket-address", _) => "`IP:port`",
        ("host-port", _) => "`host:port`",
        ("path-pattern" | "url-path", _) => "path",
        ("service-name" | "tier-name", _) => "name",
        ("host", _) => "host",
        ("origin", _) => "origin",
        (_, "object") if schema.get("properties").is_some() => "mapping",
        (_, "object") => "mapping by name",
        (_, "integer") => return range(schema, "whole number"),
        (_, "number") => return range(schema, "number"),
        (_, "boolean") => "`true`, `false`",
        (_, "array") => {
            let items = schema.get("items").map(kind_of).unwrap_or_default();
            return format!("list of {items}");
        }
        _ if schema::choices(schema).is_some() => "word",
        _ => "text",
    };
    kind.to_owned()
}

fn range(schema: &Value, kind: &str) -> String {
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(min), Some(max)) => format!("{kind}, {min} to {max}"),
        (Some(min), None) => format!("{kind} from {min}"),
        _ => kind.to_owned(),
    }
}

fn choices_of(schema: &Value) -> String {
    let mut out = String::new();
    let variants = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for variant in variants {
        let text = |key| variant.get(key).and_then(Value::as_str).unwrap_or_default();
        let _ = write!(out, " `{}`: {}", text("const"), one_line(text("description")));
    }
    if let (true, Some(choices)) = (out.is_empty(), schema::choices(schema)) {
        let quoted: Vec<String> = choices.iter().map(|c| format!("`{c}`")).collect();
        let _ = write!(out, " One of {}.", quoted.join(", "));
    }
    out
}

fn default_of(schema: &Value) -> String {
    match schema.get("default") {
        None => String::new(),
        // A mapping has a table of its own, with the default of each key.
        Some(Value::Object(_)) if schema.get("properties").is_some() => String::new(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{}`", flow(value)),
    }
}

/// A value as YAML on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}: {}", flow(v))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if text.contains(['{', '}', ',', '"', '#']) => format!("\"{text}\""),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
