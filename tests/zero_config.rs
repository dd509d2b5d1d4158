//! `mcp-edge` with no file: the built-in demo server, or the servers of `./.mcp.json`.

mod support;

use std::process::Command;

use serde_json::json;
use support::mcp::{Session, text};
use support::{Edge, binary, eventually};

fn start(mcp_json: Option<&str>) -> Edge {
    let dir = tempfile::tempdir().unwrap();
    if let Some(text) = mcp_json {
        std::fs::write(dir.path().join(".mcp.json"), text).unwrap();
    }
    let mut command = Command::new(binary());
    command
        .args(["run", "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"])
        .current_dir(dir.path())
        .env("RUST_LOG", "info");
    let edge = Edge::spawn(command, dir);
    edge.wait_ready();
    edge
}

#[test]
fn without_any_file_the_demo_server_answers_without_a_token() {
    let edge = start(None);
    let session = Session::open(edge.public, "/mcp/demo");
    assert_eq!(
        text(&session.call(1, "add", json!({"a": 2, "b": 40})).json()),
        "42"
    );
    let url = format!("http://{}/mcp/demo", edge.public);
    eventually("the greeting", || {
        let text = edge.stderr();
        let shown = text.contains(&format!("claude mcp add --transport http demo {url}"))
            && text.contains(&format!("codex mcp add demo --url {url}"));
        shown.then_some(())
    });
}

#[test]
fn mcp_json_names_the_services_and_their_environment() {
    let config = json!({"mcpServers": {
        "one": {"command": binary(), "args": ["demo"]},
        "two": {"command": binary(), "args": ["demo"], "env": {"ANY": "thing"}},
    }});
    let edge = start(Some(&config.to_string()));
    for name in ["one", "two"] {
        let session = Session::open(edge.public, &format!("/mcp/{name}"));
        assert_eq!(text(&session.call(1, "echo", json!({"text": name})).json()), name);
    }
}
