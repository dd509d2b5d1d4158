//! A stdio MCP server inside the binary, so that `mcp-edge` answers real calls on a machine that has no MCP
//! server yet, and so that benchmarks have a server that costs next to nothing.
//!
//! It speaks both eras on one process: `initialize` up to 2025-11-25, and 2026-07-28 by `_meta` alone.
//! Invariant: one line in, one line out; nothing but JSON-RPC ever reaches standard output. A slow call runs on
//! a thread of its own, so that it delays no other call, and there are never more than [`MAX_SLOW`] of them.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The newest handshake revision, answered to clients that ask for one this server does not know.
const NEWEST_LEGACY: &str = "2025-11-25";
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST_LEGACY];
const MODERN: &str = "2026-07-28";

/// Bounds of the tools' arguments: a demonstration must not become a way to exhaust the host.
const MAX_SLOW: usize = 64;
const MAX_STEPS: u64 = 1_000;
const MAX_SLOW_MS: u64 = 600_000;
const MAX_BIG_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

/// What a request comes to.
enum Answer {
    Result(Value),
    Error(i64, String),
    /// Answered later, by a thread.
    Later,
}

type Output = Arc<Mutex<io::Stdout>>;

/// Serves standard input until it ends.
///
/// # Errors
/// Reading standard input failed; a closed standard output ends the loop without an error.
pub fn serve() -> io::Result<()> {
    let output: Output = Arc::new(Mutex::new(io::stdout()));
    let slow = Arc::new(AtomicUsize::new(0));
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let Ok(message) = serde_json::from_slice::<Message<'_>>(&line) else {
            continue;
        };
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else {
            continue;
        };
        let params = message.params.map_or("{}", RawValue::get);
        let params: Value = serde_json::from_str(params).unwrap_or(Value::Null);
        let modern = params
            .pointer("/_meta/io.modelcontextprotocol~1protocolVersion")
            .is_some();
        let written = match answer(method, &params, modern, id, &output, &slow) {
            Answer::Result(result) => reply(&output, id, "result", &complete(result, method, modern)),
            Answer::Error(code, message) => {
                reply(&output, id, "error", &json!({"code": code, "message": message}))
            }
            Answer::Later => Ok(()),
        };
        if written.is_err() {
            return Ok(());
        }
    }
}

fn answer(
    method: &str,
    params: &Value,
    modern: bool,
    id: &RawValue,
    output: &Output,
    slow: &Arc<AtomicUsize>,
) -> Answer {
    match method {
        "initialize" => Answer::Result(initialize(params)),
        "server/discover" if modern => Answer::Result(json!({
            "supportedVersions": [MODERN],
            "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": about()},
        })),
        "ping" if !modern => Answer::Result(json!({})),
        "tools/list" => Answer::Result(json!({"tools": tools()})),
        "tools/call" => call(params, modern, id, output, slow),
        _ => Answer::Error(-32601, format!("Method not found: {method}")),
    }
}

/// Adds what 2026-07-28 asks of a result: `resultType`, and caching hints on what may be cached.
fn complete(mut result: Value, method: &str, modern: bool) -> Value {
    if let (true, Some(object)) = (modern, result.as_object_mut()) {
        object.insert("resultType".into(), json!("complete"));
        if matches!(method, "server/discover" | "tools/list") {
            object.insert("ttlMs".into(), json!(3_600_000));
            object.insert("cacheScope".into(), json!("public"));
        }
    }
    result
}

fn about() -> Value {
    json!({"name": "mcp-edge-demo", "version": env!("CARGO_PKG_VERSION")})
}

fn initialize(params: &Value) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let version = asked.filter(|v| LEGACY.contains(v)).unwrap_or(NEWEST_LEGACY);
    json!({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about()})
}

fn tools() -> Value {
    let number = json!({"type": "number"});
    let tool = |name: &str, description: &str, properties: Value, required: Value, read_only: bool| {
        json!({
            "name": name,
            "description": description,
            "inputSchema": {"type": "object", "properties": properties, "required": required},
            "annotations": {"readOnlyHint": read_only},
        })
    };
    json!([
        tool(
            "echo",
            "Answers with the text it was given",
            json!({"text": {"type": "string"}}),
            json!(["text"]),
            true
        ),
        tool(
            "add",
            "Adds two numbers",
            json!({"a": number, "b": number}),
            json!(["a", "b"]),
            true
        ),
        tool(
            "slow",
            "Takes `ms` milliseconds in `steps` steps and reports progress after each",
            json!({"ms": {"type": "integer"}, "steps": {"type": "integer"}}),
            json!([]),
            true
        ),
        tool(
            "big",
            "Answers with `bytes` bytes of text",
            json!({"bytes": {"type": "integer"}}),
            json!(["bytes"]),
            true
        ),
        tool(
            "crash",
            "Ends this server process with exit code 3",
            json!({}),
            json!([]),
            false
        ),
    ])
}

fn call(params: &Value, modern: bool, id: &RawValue, output: &Output, slow: &Arc<AtomicUsize>) -> Answer {
    let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
    let arguments = params.get("arguments").unwrap_or(&Value::Null);
    let count = |key: &str, or: u64| arguments.get(key).and_then(Value::as_u64).unwrap_or(or);
    match name {
        "echo" => match arguments.get("text").and_then(Value::as_str) {
            Some(text) => Answer::Result(text_result(text)),
            None => Answer::Result(tool_error("echo needs `text`, a string")),
        },
        "add" => {
            let number = |key: &str| arguments.get(key).and_then(Value::as_f64);
            match (number("a"), number("b")) {
                (Some(a), Some(b)) => Answer::Result(text_result(&(a + b).to_string())),
                _ => Answer::Result(tool_error("add needs `a` and `b`, two numbers")),
            }
        }
        "slow" => {
            let token = params.pointer("/_meta/progressToken").cloned();
            let time = Duration::from_millis(count("ms", 1_000).min(MAX_SLOW_MS));
            let steps = count("steps", 4).clamp(1, MAX_STEPS);
            later(
                Slow {
                    id: id.to_owned(),
                    token,
                    time,
                    steps,
                    modern,
                },
                output,
                slow,
            )
        }
        "big" => {
            let bytes = count("bytes", 0).min(MAX_BIG_BYTES);
            Answer::Result(text_result(&"x".repeat(usize::try_from(bytes).unwrap_or(0))))
        }
        "crash" => {
            eprintln!("demo server: crash was called, leaving with exit code 3");
            std::process::exit(3)
        }
        _ => Answer::Error(-32602, format!("Unknown tool: {name}")),
    }
}

struct Slow {
    id: Box<RawValue>,
    token: Option<Value>,
    time: Duration,
    steps: u64,
    modern: bool,
}

fn later(call: Slow, output: &Output, slow: &Arc<AtomicUsize>) -> Answer {
    if slow.fetch_add(1, Ordering::Relaxed) >= MAX_SLOW {
        slow.fetch_sub(1, Ordering::Relaxed);
        return Answer::Result(tool_error("too many slow calls at once"));
    }
    let (output, slow) = (output.clone(), slow.clone());
    thread::spawn(move || {
        let pause = call.time / u32::try_from(call.steps).unwrap_or(u32::MAX);
        for step in 1..=call.steps {
            thread::sleep(pause);
            let Some(token) = &call.token else { continue };
            let params = json!({"progressToken": token, "progress": step, "total": call.steps});
            let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
            if write_line(&output, note.to_string()).is_err() {
                break;
            }
        }
        let text = format!("slept {} ms in {} steps", call.time.as_millis(), call.steps);
        let result = complete(text_result(&text), "tools/call", call.modern);
        // A closed output means the reader is gone; the input loop sees the same and ends the process.
        reply(&output, &call.id, "result", &result).ok();
        slow.fetch_sub(1, Ordering::Relaxed);
    });
    Answer::Later
}

fn text_result(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn tool_error(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": true})
}

fn reply(output: &Output, id: &RawValue, key: &str, value: &Value) -> io::Result<()> {
    write_line(
        output,
        format!(r#"{{"jsonrpc":"2.0","id":{},"{key}":{value}}}"#, id.get()),
    )
}

fn write_line(output: &Output, mut line: String) -> io::Result<()> {
    line.push('\n');
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    output.write_all(line.as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_revision_is_answered_with_the_newest_and_a_known_one_with_itself() {
        let version = |asked: &str| initialize(&json!({"protocolVersion": asked}))["protocolVersion"].clone();
        assert_eq!(version("2025-03-26"), "2025-03-26");
        assert_eq!(version("1999-01-01"), NEWEST_LEGACY);
    }

    #[test]
    fn only_modern_lists_carry_caching_hints() {
        let modern = complete(json!({}), "tools/list", true);
        assert_eq!(
            (&modern["resultType"], &modern["cacheScope"]),
            (&json!("complete"), &json!("public"))
        );
        assert_eq!(complete(json!({}), "tools/list", false), json!({}));
        assert_eq!(
            complete(json!({}), "tools/call", true),
            json!({"resultType": "complete"})
        );
    }
}
