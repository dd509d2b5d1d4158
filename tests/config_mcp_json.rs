//! Without a file: the `.mcp.json` of the folder, else the demo server; on loopback, with no token needed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use mcp_edge::config::{Examined, Input, ServiceRuntime, Source, examine};
use secrecy::ExposeSecret;

fn variables(name: &str) -> Option<String> {
    (name == "HOME_DIR").then(|| "/home/ann".to_owned())
}

fn run(json: Option<&str>) -> (Examined, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".mcp.json");
    if let Some(json) = json {
        std::fs::write(&path, json).unwrap();
    }
    let examined = examine(&Input::Folder(dir.path().to_owned()), &variables);
    let text = examined
        .report
        .to_string()
        .replace(&path.display().to_string(), ".mcp.json");
    (examined, text)
}

#[test]
fn the_file_of_an_ai_client_is_served() {
    let (examined, text) = run(Some(
        r#"{
	"mcpServers": {
		"files": {
			"type": "stdio",
			"command": "/bin/sh",
			"args": ["-c", "serve ${HOME_DIR}/x ${PORT:-80} $${file:/etc/passwd}"],
			"env": {"TOKEN": "abc-${HOME_DIR}", "COUNT": 5},
			"autoApprove": ["read"]
		},
		"My Server": {"command": "/bin/sh"},
		"web": {"type": "http", "url": "https://mcp.example.com/mcp?key=CANARY", "headers": {"X": "${NOT_SET}"}}
	},
	"other": {"anything": "${NOT_SET}"}
}"#,
    ));
    let config = examined.config.unwrap_or_else(|| panic!("{text}"));
    assert!(matches!(config.source, Source::McpJson(_)));
    let names: Vec<&str> = config.services.keys().map(|n| n.as_str()).collect();
    assert_eq!(names, ["files", "my-server"]);
    let ServiceRuntime::Process {
        command, env, port, ..
    } = &config.services["files"].runtime
    else {
        panic!("process")
    };
    assert_eq!(
        command,
        &["/bin/sh", "-c", "serve /home/ann/x 80 $${file:/etc/passwd}"]
    );
    assert_eq!(env["TOKEN"].expose_secret(), "abc-/home/ann");
    assert_eq!(env["COUNT"].expose_secret(), "5");
    assert!(port.is_none());
    assert!(config.edge.listen.ip().is_loopback() && config.edge.admin.ip().is_loopback());
    assert_eq!(
        config.auth.anonymous.as_ref().map(|t| t.as_str()),
        Some("enterprise"),
        "no token is needed"
    );
    assert!(
        text.contains(".mcp.json:10:3: warning: server `My Server` is served as `my-server`"),
        "{text}"
    );
    assert!(
        text.contains(".mcp.json:11:3: warning: server `web` is reached by a `url`"),
        "{text}"
    );
    assert!(!text.contains("CANARY"), "{text}");
}

#[test]
fn its_mistakes_have_their_places() {
    let (examined, text) = run(Some(
        r#"{"mcpServers": {
  "a": {"command": "/bin/sh", "args": "x"},
  "b": {"command": "${NOT_SET}"},
  "c": {},
  "d": {"command": "no-such-program"},
  "E!": {"command": "/bin/sh"},
  "e": {"command": "/bin/sh"},
  "?": {"command": "/bin/sh"}
}}"#,
    ));
    assert!(examined.config.is_none());
    for expected in [
        ".mcp.json:2:39: error: `args` must be a list, but is a text",
        ".mcp.json:3:20: error: the environment variable `NOT_SET` is not set",
        ".mcp.json:4:3: error: server `c` has neither `command` nor `url`",
        ".mcp.json:5:3: warning: the program `no-such-program` is not found on PATH",
        ".mcp.json:7:3: error: servers `E!` and `e` would both be served as `e`",
        ".mcp.json:8:3: error: no name for a service can be made from `?`",
    ] {
        assert!(text.contains(expected), "lacks {expected}\n{text}");
    }
}

#[test]
fn a_file_that_serves_nothing_is_an_error() {
    for json in [
        r#"{"mcpServers": {}}"#,
        r#"{"mcpServers": {"a": {"url": "https://x"}}}"#,
    ] {
        let (examined, text) = run(Some(json));
        assert!(examined.config.is_none());
        assert!(text.contains("no server of this file can be served"), "{text}");
    }
    assert!(run(Some("{}")).1.contains("lacks the key `mcpServers`"));
    assert!(run(Some("{\"mcpServers\": ")).1.contains("not valid"));
}

#[test]
fn without_a_file_the_demo_server_is_served() {
    let (examined, text) = run(None);
    let config = examined.config.unwrap_or_else(|| panic!("{text}"));
    assert_eq!((config.source, text.as_str()), (Source::Demo, ""));
    let ServiceRuntime::Process { command, .. } = &config.services["demo"].runtime else {
        panic!("process")
    };
    let own = std::env::current_exe().unwrap();
    assert_eq!(command, &[own.to_str().unwrap(), "demo"]);
    assert!(config.auth.anonymous.is_some() && config.edge.listen.ip().is_loopback());
}
