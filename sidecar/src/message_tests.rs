//! What counts as a message, what is found in it, and that rewriting touches nothing else.

use super::*;
use proptest::prelude::*;

fn client(text: &str) -> Result<Message, ScanError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), Sender::Client)
}

#[test]
fn kinds() {
    let kind = |text| client(text).map(|m| m.kind());
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        Ok(Kind::Request)
    );
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#),
        Ok(Kind::Request)
    );
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":-1.5,"method":"ping"}"#),
        Ok(Kind::Request)
    );
    assert_eq!(kind(r#"{"jsonrpc":"2.0","method":"n"}"#), Ok(Kind::Notification));
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        Ok(Kind::Response)
    );
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#),
        Ok(Kind::Response)
    );
}

#[test]
fn what_is_not_a_message_is_refused() {
    for text in [
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{},"result":{}}"#,
        "42",
        "\"text\"",
        "null",
    ] {
        assert!(matches!(client(text), Err(ScanError::Shape { .. })), "{text}");
    }
}

#[test]
fn a_key_that_occurs_twice_is_refused_also_when_escaped() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","meth\u006fd":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{},"params":{"name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
    ] {
        assert!(matches!(client(text), Err(ScanError::Duplicate { .. })), "{text}");
    }
    // Where nobody decides by a key, repetition is the server's business.
    let harmless = r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"arguments":{"a":1,"a":2}}}"#;
    assert!(client(harmless).is_ok());
}

#[test]
fn servers_may_leave_jsonrpc_out() {
    let line = Bytes::from_static(br#"{"id":1,"result":{"isError":true}}"#);
    let message = Message::parse(line, Sender::Server).unwrap();
    assert_eq!(message.raw(message.fields().is_error), Some(&b"true"[..]));
}

#[test]
fn batches() {
    let text = br#"[ {"jsonrpc":"2.0","id":1,"method":"a"} ,{"jsonrpc":"2.0","method":"b"}]"#;
    let Ok(Incoming::Batch(batch)) = Incoming::parse(Bytes::from_static(text), Sender::Client) else {
        panic!("a batch");
    };
    assert_eq!(
        batch.iter().map(|m| m.method().into_owned()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    for bad in [
        "[]".to_owned(),
        "[1]".to_owned(),
        format!("[{}1]", "1,".repeat(100)),
    ] {
        assert!(
            Incoming::parse(Bytes::from(bad.clone()), Sender::Client).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn rewriting_touches_ids_and_tokens_only() {
    let text = r#"{"jsonrpc":"2.0", "id":"x","method":"tools/call",
 "params":{"name":"t","big":123456789012345678901234567890,"_meta":{"progressToken":"p","z":null}}}"#;
    let message = client(text).unwrap();
    let ours = Bytes::from_static(b"17");
    let sent = message.with([
        (message.id_span(), &ours),
        (message.fields().meta.progress_token, &ours),
    ]);
    let expected = text
        .replace("\"x\"", "17")
        .replace("\"p\"", "17")
        .replace('\n', " ");
    assert_eq!(sent.parts().concat(), expected.into_bytes());
}

#[test]
fn ids_compare_by_text() {
    assert!(same_id(b"\"a\"", b"\"\\u0061\""));
    assert!(same_id(b"1", b"1"));
    assert!(!same_id(b"1", b"\"1\""));
    assert_eq!(our_number(b"12"), Some(12));
    assert_eq!(our_number(b"\"12\""), Some(12));
    assert_eq!(our_number(b"1.5"), None);
    assert_eq!(our_number(b"-1"), None);
}

proptest! {
    #[test]
    fn never_panics_and_keeps_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::parse(Bytes::from(bytes.clone()), Sender::Server) {
            prop_assert_eq!(message.bytes().as_ref(), bytes.as_slice());
        }
    }

    #[test]
    fn finds_what_serde_json_finds(id in any::<i64>(), method in "[a-z/]{1,12}", name in ".{0,12}", extra in ".{0,20}") {
        let value = serde_json::json!({
            "extra": extra, "id": id, "jsonrpc": "2.0", "method": method,
            "params": {"arguments": {"name": extra}, "name": name},
        });
        let message = client(&value.to_string()).unwrap();
        prop_assert_eq!(message.id().unwrap(), id.to_string().into_bytes());
        prop_assert_eq!(message.method().into_owned(), method);
        prop_assert_eq!(message.text(message.fields().name).unwrap().into_owned(), name);
    }
}
