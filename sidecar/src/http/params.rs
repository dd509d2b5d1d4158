//! `Mcp-Param-*`: tool arguments that a modern client mirrors into headers because the tool's `inputSchema`
//! says `x-mcp-header` (2026-07-28, basic/transports/streamable-http, "Custom Headers from Tool Parameters").
//!
//! Invariant: a call of a tool that declares such headers reaches the server only if each header says what
//! the body says, so nobody can be routed or limited by one value and run with another. The declarations
//! are learnt from the process's own `tools/list`, once, and forgotten when that list changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::mirror::decoded;
use crate::link::Link;
use crate::processes::start::own_meta;

/// Longest wait for one page of the list; a server that cannot list its tools is not checked.
const LIST: Duration = Duration::from_secs(5);
/// Pages read at most.
const MAX_PAGES: usize = 50;
/// A list younger than this is not asked for again because of a mismatch.
const FRESH: Duration = Duration::from_secs(1);

/// One `x-mcp-header`: the header's name in lower case, and where the value lies in the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    header: String,
    path: Vec<String>,
}

type Tools = HashMap<String, Vec<Declared>>;

#[derive(Debug, Default)]
pub(crate) struct ParamHeaders {
    known: Mutex<Option<(Instant, Arc<Tools>)>>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(rename = "inputSchema", default)]
    input_schema: Value,
}

impl ParamHeaders {
    /// The list of tools changed.
    pub(crate) fn forget(&self) {
        *self.known.lock() = None;
    }

    /// Checks the headers of one `tools/call`; the error is for the client.
    pub(crate) async fn check(
        &self,
        link: &Link,
        tool: &str,
        arguments: Option<&[u8]>,
        headers: &HeaderMap,
    ) -> Result<(), String> {
        let (learnt, tools) = self.tools(link).await;
        let Err(mismatch) = compare(&tools, tool, arguments, headers) else {
            return Ok(());
        };
        if learnt.elapsed() < FRESH {
            return Err(mismatch);
        }
        self.forget();
        let (_, tools) = self.tools(link).await;
        compare(&tools, tool, arguments, headers)
    }

    async fn tools(&self, link: &Link) -> (Instant, Arc<Tools>) {
        if let Some(known) = self.known.lock().clone() {
            return known;
        }
        let _single = self.fetching.lock().await;
        if let Some(known) = self.known.lock().clone() {
            return known;
        }
        let learnt = (Instant::now(), Arc::new(fetch(link).await));
        *self.known.lock() = Some(learnt.clone());
        learnt
    }
}

async fn fetch(link: &Link) -> Tools {
    let mut tools = Tools::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let at = cursor
            .map(|cursor: String| format!("\"cursor\":{},", Value::from(cursor)))
            .unwrap_or_default();
        let members = format!("\"method\":\"tools/list\",\"params\":{{{at}{}}}", own_meta());
        let Ok(answer) = link.ask(&members, LIST).await else {
            break;
        };
        let Some(page) = answer
            .result()
            .and_then(|raw| serde_json::from_slice::<Page>(&raw).ok())
        else {
            break;
        };
        for tool in page.tools {
            let mut declared = Vec::new();
            collect(&tool.input_schema, &mut Vec::new(), &mut declared);
            if !declared.is_empty() {
                tools.insert(tool.name, declared);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    tools
}

/// Only properties reachable through `properties` alone can declare a header.
fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Declared>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    // A schema is data of the server: its depth must not become ours.
    if path.len() >= 16 {
        return;
    }
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(header) = property.get("x-mcp-header").and_then(Value::as_str) {
            let header = format!("mcp-param-{}", header.to_ascii_lowercase());
            found.push(Declared {
                header,
                path: path.clone(),
            });
        }
        collect(property, path, found);
        path.pop();
    }
}

fn compare(tools: &Tools, tool: &str, arguments: Option<&[u8]>, headers: &HeaderMap) -> Result<(), String> {
    let Some(declared) = tools.get(tool) else {
        return Ok(());
    };
    let arguments: Value = arguments
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .unwrap_or_default();
    for Declared { header, path } in declared {
        let mut value = &arguments;
        for step in path {
            value = value.get(step).unwrap_or(&Value::Null);
        }
        if matches!(value, Value::Null | Value::Array(_) | Value::Object(_)) {
            continue;
        }
        let mut given = headers.get_all(header.as_str()).iter();
        let at = path.join(".");
        let (Some(given), None) = (given.next(), given.next()) else {
            return Err(format!(
                "the body has {at:?}, so exactly one {header} header is required"
            ));
        };
        let Some(given) = decoded(given) else {
            return Err(format!(
                "the {header} header holds invalid characters or invalid Base64"
            ));
        };
        if !equal(&given, value) {
            return Err(format!(
                "the {header} header says {given:?} but the body's {at:?} is {value}"
            ));
        }
    }
    Ok(())
}

/// Numbers are compared as numbers (`42.0` is `42`), everything else as text.
fn equal(given: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text == given,
        Value::Bool(truth) => given == if *truth { "true" } else { "false" },
        Value::Number(number) => {
            if let (Ok(given), Some(number)) = (given.parse::<i64>(), number.as_i64()) {
                return given == number;
            }
            let number = number.as_f64();
            given
                .parse::<serde_json::Number>()
                .is_ok_and(|given| given.as_f64() == number)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use serde_json::json;

    fn tools(schema: &Value) -> Tools {
        let mut declared = Vec::new();
        collect(schema, &mut Vec::new(), &mut declared);
        Tools::from([("t".to_owned(), declared)])
    }

    fn check(schema: &Value, arguments: &Value, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        compare(&tools(schema), "t", Some(arguments.to_string().as_bytes()), &map).is_ok()
    }

    #[test]
    fn headers_must_say_what_the_body_says() {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "n": {"type": "integer", "x-mcp-header": "N"},
            "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
            "items": {"type": "array", "items": {"properties": {"x": {"x-mcp-header": "X"}}}},
        }});
        assert!(check(
            &schema,
            &json!({"region": "eu"}),
            &[("mcp-param-region", "eu")]
        ));
        assert!(check(
            &schema,
            &json!({"region": "é"}),
            &[("mcp-param-region", "=?base64?w6k=?=")]
        ));
        assert!(check(&schema, &json!({"n": 42}), &[("mcp-param-n", "42.0")]));
        assert!(check(
            &schema,
            &json!({"deep": {"on": true}}),
            &[("mcp-param-on", "true")]
        ));
        assert!(check(
            &schema,
            &json!({"region": null, "items": [{"x": "y"}]}),
            &[]
        ));
        assert!(
            check(&schema, &json!({}), &[("mcp-param-region", "eu")]),
            "not expected, so not looked at"
        );
        assert!(!check(&schema, &json!({"region": "eu"}), &[]));
        assert!(!check(
            &schema,
            &json!({"region": "eu"}),
            &[("mcp-param-region", "us")]
        ));
        assert!(!check(
            &schema,
            &json!({"region": "eu"}),
            &[("mcp-param-region", "eu"), ("mcp-param-region", "eu")]
        ));
        assert!(!check(
            &schema,
            &json!({"region": "é"}),
            &[("mcp-param-region", "é")]
        ));
        assert!(!check(
            &schema,
            &json!({"region": "x"}),
            &[("mcp-param-region", "=?base64?!?=")]
        ));
        assert!(!check(&schema, &json!({"n": 42}), &[("mcp-param-n", "43")]));
        assert!(!check(
            &schema,
            &json!({"n": 42}),
            &[("mcp-param-n", "forty-two")]
        ));
    }
}
