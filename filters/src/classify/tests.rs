use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn call(text: &str) -> Call {
    legacy(text.as_bytes(), true).unwrap().call
}

fn request(method: &str, name: Option<&str>) -> Call {
    Call::Single(Message::Request {
        method: RpcMethod::new(method),
        name: name.map(Into::into),
    })
}

#[test]
fn eras_are_dates() {
    for legacy in [
        None,
        Some(""),
        Some("2025-11-25"),
        Some("2026-07-27"),
        Some("DRAFT"),
        Some("9999"),
        Some("2026-7-28x"),
    ] {
        assert_eq!(era(legacy), Era::Legacy, "{legacy:?}");
    }
    for modern in ["2026-07-28", "2027-01-01"] {
        assert_eq!(era(Some(modern)), Era::Modern);
    }
}

#[test]
fn legacy_messages_are_read() {
    let text = r#" {"jsonrpc":"2.0","params":{"arguments":{"name":"no","a":[1,{"b":"]}"}]},"name":"echo"},"id":"x-1","method":"tools/call"} "#;
    let read = legacy(text.as_bytes(), true).unwrap();
    assert_eq!(read.call, request("tools/call", Some("echo")));
    assert_eq!(read.id.unwrap().as_str(), "\"x-1\"");
    assert_eq!(
        call(r#"{"method":"resources/read","id":1,"params":{"uri":"file:///a","name":"b"}}"#),
        request("resources/read", Some("file:///a"))
    );
    assert_eq!(
        call(r#"{"method":"tools/list","id":1}"#),
        request("tools/list", None)
    );
    assert_eq!(
        call(r#"{"method":"notifications/initialized"}"#),
        Call::Single(Message::Notification {
            method: RpcMethod::new("notifications/initialized")
        })
    );
    assert_eq!(
        call(r#"{"id":1,"result":{"method":"x"}}"#),
        Call::Single(Message::Response)
    );
    assert_eq!(
        call(r#"{"method":"tools/call","id":1,"params":{"name":"caf\u00e9"}}"#),
        request("tools/call", Some("café"))
    );
}

#[test]
fn what_could_be_read_in_two_ways_is_unknown() {
    for odd in [
        r#"{"method":"tools/list","method":"tools/call","id":1}"#,
        r#"{"method":"tools/list","\u006dethod":"tools/call","id":1}"#,
        r#"{"method":"tools/call","id":1,"params":{"name":"a","name":"b"}}"#,
        r#"{"method":"tools/call","id":1,"params":{"name":"a","n\u0061me":"b"}}"#,
        r#"{"method":"tools/call","id":1,"params":{"name":"a"},"params":{"name":"b"}}"#,
        r#"{"method":"tools/list","id":1,"id":2}"#,
        r#"{"method":"tools/list","id":1}{"method":"tools/call"}"#,
        r#"{"method":"tools/list","id":1"#,
        r#"{"method":1}"#,
        r#"{}"#,
        "",
        "null",
        "x",
        "[1]",
        r#"{"method":"a" "id":1}"#,
    ] {
        assert_eq!(call(odd), Call::Unknown, "{odd}");
    }
    let long = format!(
        r#"{{"method":"tools/call","id":1,"params":{{"name":"{}"}}}}"#,
        "x".repeat(2000)
    );
    assert_eq!(call(&long), Call::Unknown);
    let deep = format!(
        r#"{{"a":{}1{},"method":"ping","id":1}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    assert_eq!(call(&deep), Call::Unknown);
}

#[test]
fn a_large_call_is_read_from_its_prefix_if_the_names_come_first() {
    let argument = "y".repeat(2 * MAX_INSPECTED);
    let front = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"a":"{argument}"}}}}}}"#
    );
    let read = legacy(front.as_bytes(), true).unwrap();
    assert_eq!(read.call, request("tools/call", Some("echo")));
    assert_eq!(read.id.unwrap().as_str(), "1");
    let back = format!(
        r#"{{"id":1,"method":"tools/call","params":{{"arguments":{{"a":"{argument}"}},"name":"echo"}}}}"#
    );
    assert_eq!(legacy(back.as_bytes(), true).unwrap().call, Call::Unknown);
    assert_eq!(
        legacy(&front.as_bytes()[..60], false).unwrap().call,
        Call::Unknown,
        "name not there yet"
    );
}

#[test]
fn batches_are_counted_and_bounded() {
    let list = |n: usize| {
        let element = r#"{"method":"tools/call","id":1,"params":{"name":"a"}}"#;
        format!("[{}]", vec![element; n].join(","))
    };
    assert_eq!(call(&list(50)).messages().len(), 50);
    assert_eq!(
        legacy(list(51).as_bytes(), true).unwrap_err().reason,
        Reason::BodyTooLarge
    );
    assert_eq!(
        legacy(list(2).as_bytes(), false).unwrap_err().reason,
        Reason::BodyTooLarge
    );
    assert_eq!(call("[]"), Call::Batch(vec![]));
    assert_eq!(call(r#"[{"method":"ping","id":1},2]"#), Call::Unknown);
}

#[test]
fn modern_requests_say_it_in_headers() {
    let read = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        modern(&headers).map_err(|reply| reply.reason)
    };
    assert_eq!(
        read(&[("mcp-method", "tools/call"), ("mcp-name", "echo")]),
        Ok(request("tools/call", Some("echo")))
    );
    assert_eq!(
        read(&[
            ("mcp-method", "tools/call"),
            ("mcp-name", "=?base64?SGVsbG8sIOS4lueVjA==?=")
        ]),
        Ok(request("tools/call", Some("Hello, 世界")))
    );
    assert_eq!(
        read(&[("mcp-method", "tools/list")]),
        Ok(request("tools/list", None))
    );
    for bad in [
        &[][..],
        &[("mcp-method", "")],
        &[("mcp-method", "tools/call")],
        &[("mcp-method", "tools/call"), ("mcp-name", "")],
        &[("mcp-method", "tools/call"), ("mcp-name", "a"), ("mcp-name", "b")],
        &[("mcp-method", "tools/call"), ("mcp-method", "ping")],
        &[("mcp-method", "tools/call"), ("mcp-name", "=?base64?!!?=")],
    ] {
        assert_eq!(read(bad), Err(Reason::HeaderMismatch), "{bad:?}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}|method|id|name|params", inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A whole parser is the oracle: what the scan reads is what the parser reads.
    #[test]
    fn the_scan_reads_what_a_parser_reads(extra in any_json(), name in ".{0,12}", id in any::<u32>(), pretty: bool) {
        let value = json!({"extra": extra, "id": id, "method": "tools/call", "params": {"x": extra, "name": name, "y": extra}});
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        // serde_json writes escapes in keys only for control characters and quotes, which the keys above lack.
        prop_assert_eq!(call(&text), request("tools/call", Some(&name)));
    }

    /// Any bytes: no panic, and a method that is read is one that a parser finds, if it accepts the text.
    #[test]
    fn the_scan_never_reads_what_is_not_there(value in any_json(), cut in any::<prop::sample::Index>()) {
        let text = value.to_string();
        if let Call::Single(message) = call(&text) {
            prop_assert_eq!(message.method(), value["method"].as_str());
        }
        let bytes = &text.as_bytes()[..cut.index(text.len() + 1)];
        let _ = legacy(bytes, false);
        let _ = legacy(bytes, true);
    }
}
