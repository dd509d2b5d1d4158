//! The files that come with the edge load, and say what the edge does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use mcp_edge::config::{
    Config, Examined, Input, IssuerKey, RateLimit, RouteTarget, ServiceRuntime, Source, examine, json_schema,
    manual,
};
use serde_json::Value;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The environment of the examples: the files of TLS are made by the caller.
fn run_with(path: &Path, pem: Option<&Path>) -> Examined {
    let variables = |name: &str| match name {
        "MCP_JWT_SECRET" | "FILES_SIDECAR_TOKEN" => Some(SECRET.to_owned()),
        "TLS_CERT" => pem.map(|dir| dir.join("cert.pem").display().to_string()),
        "TLS_KEY" => pem.map(|dir| dir.join("key.pem").display().to_string()),
        _ => None,
    };
    examine(&Input::File(path.to_owned()), &variables)
}

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn load(name: &str) -> Config {
    let examined = run_with(&root(name), None);
    examined.config.unwrap_or_else(|| panic!("{}", examined.report))
}

/// The effective configuration of a text.
fn effective(yaml: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.yaml");
    std::fs::write(&path, yaml).unwrap();
    let examined = run_with(&path, None);
    examined
        .effective()
        .unwrap_or_else(|| panic!("{}", examined.report))
        .clone()
}

#[test]
fn the_annotated_file_is_the_defaults() {
    let annotated = std::fs::read_to_string(root("conf/edge.yaml")).unwrap();
    let least = "mcp: {services: [{name: files, command: [npx, -y, \"@modelcontextprotocol/server-filesystem\", .]}]}";
    assert_eq!(effective(&annotated), effective(least));
}

#[test]
fn the_annotated_file_has_every_key() {
    let annotated = std::fs::read_to_string(root("conf/edge.yaml")).unwrap();
    let mut keys = Vec::new();
    collect_keys(json_schema(), &mut keys);
    assert!(keys.len() > 80, "only {} keys", keys.len());
    for key in keys {
        let there = annotated.match_indices(&key).any(|(at, _)| {
            let before = annotated[..at].chars().next_back();
            let after = annotated[at + key.len()..].chars().next();
            before.is_none_or(|c| " {\n".contains(c)) && after.is_some_and(|c| ":,\n".contains(c))
        });
        assert!(there, "conf/edge.yaml lacks {key}");
    }
}

fn collect_keys(schema: &Value, keys: &mut Vec<String>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        keys.push(key.clone());
        collect_keys(property, keys);
    }
    for below in ["items", "additionalProperties"] {
        collect_keys(&schema[below], keys);
    }
}

#[test]
fn the_manual_is_current() {
    let page = std::fs::read_to_string(root("docs/configuration.md")).unwrap();
    assert!(
        page == manual(),
        "run `mcp-edge schema --markdown > docs/configuration.md`"
    );
}

#[test]
fn every_example_is_tested() {
    let mut names: Vec<String> = std::fs::read_dir(root("conf/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let tested = [
        "fixed-upstreams.yaml",
        "legacy-block.yaml",
        "minimal.yaml",
        "own-routes.yaml",
        "team.yaml",
        "tls.yaml",
    ];
    assert_eq!(names, tested, "add a test for the new one below");
}

#[test]
fn minimal() {
    let config = load("conf/examples/minimal.yaml");
    assert_eq!(config.source, Source::File(root("conf/examples/minimal.yaml")));
    assert!(config.edge.listen.ip().is_loopback());
    assert!(config.auth.anonymous.is_none(), "a file lets nobody in unasked");
    assert!(
        matches!(config.auth.issuers[0].key, IssuerKey::Secret(_)),
        "MCP_JWT_SECRET is set"
    );
    assert_eq!(config.routes.len(), 1);
    assert_eq!(
        config.routes[0]
            .matcher
            .path
            .matches("/mcp/files")
            .unwrap()
            .service,
        Some("files")
    );
}

#[test]
fn team() {
    let config = load("conf/examples/team.yaml");
    assert_eq!(config.edge.public_url.as_deref(), Some("https://mcp.example.com"));
    assert!(
        config.edge.allowed_hosts.iter().any(|h| h == "mcp.example.com"),
        "the host clients use is allowed"
    );
    assert_eq!(config.services.len(), 4);
    assert_eq!(config.services["files"].replicas.min, 2);
    assert!(config.services["time"].stateless);
    assert_eq!(
        config.services["time"].timeouts.first_byte,
        Duration::from_secs(10)
    );
    assert_eq!(config.services["time"].timeouts.idle, Duration::from_secs(300));
    assert_eq!(config.clients["codex"].tier.as_str(), "pro");
    let tiers: Vec<&str> = config.tiers.keys().map(|name| name.as_str()).collect();
    assert_eq!(tiers, ["enterprise", "free", "pro"]);
}

#[test]
fn fixed_upstreams() {
    let config = load("conf/examples/fixed-upstreams.yaml");
    let ServiceRuntime::Fixed { upstreams, token } = &config.services["postgres"].runtime else {
        panic!("fixed")
    };
    let printed: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["10.0.0.7:8080", "10.0.0.8:8080", "[fd00::9]:8080"]);
    assert!(token.is_none());
    let ServiceRuntime::Fixed { token, .. } = &config.services["files"].runtime else {
        panic!("fixed")
    };
    assert!(token.is_some());
}

#[test]
fn tls() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cert.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    std::fs::write(dir.path().join("key.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    let examined = run_with(&root("conf/examples/tls.yaml"), Some(dir.path()));
    let config = examined.config.unwrap_or_else(|| panic!("{}", examined.report));
    assert_eq!(config.edge.tls.unwrap().cert, dir.path().join("cert.pem"));
    assert_eq!(config.edge.allowed_origins, ["https://app.example.com"]);

    let without = run_with(&root("conf/examples/tls.yaml"), None);
    assert_eq!(
        without.report.to_json()["errors"],
        2,
        "both files are missing\n{}",
        without.report
    );
}

#[test]
fn own_routes() {
    let config = load("conf/examples/own-routes.yaml");
    assert_eq!(config.routes.len(), 5);
    let [host, canary, git, storage, default] = config.routes.as_slice() else {
        panic!("five routes")
    };
    assert_eq!(host.matcher.host.as_deref(), Some("git.mcp.example.com"));
    assert_eq!(
        host.matcher.path.matches("/x").unwrap().rest,
        "/x",
        "a host alone takes every path"
    );
    assert_eq!(
        canary.matcher.headers,
        [("x-canary".parse().unwrap(), HeaderValue::from_static("1"))]
    );
    assert_eq!(git.target, RouteTarget::Service("git".parse().unwrap()));
    assert_eq!(git.max_body, Some(1 << 20));
    let limits = git.timeouts.apply(config.services["git"].timeouts);
    assert_eq!(
        (limits.total, limits.idle),
        (Duration::from_secs(120), Duration::from_secs(300))
    );
    assert_eq!(storage.target, RouteTarget::FromPath);
    assert!(storage.matcher.tags.contains("storage"));
    assert_eq!(default.matcher.path.to_string(), "/mcp/{service}");
}

#[test]
fn the_older_block_loads_unchanged() {
    let config = load("conf/examples/legacy-block.yaml");
    let ServiceRuntime::Process { command, port, .. } = &config.services["postgres"].runtime else {
        panic!("process")
    };
    assert_eq!(command, &["/scripts/mcp/wrappers/postgres.sh"]);
    assert_eq!(*port, Some(11101));
    let client = &config.clients["claude-code"];
    assert_eq!(client.tier.as_str(), "enterprise");
    assert_eq!(
        (client.rate_limit, client.concurrent_requests),
        (Some(RateLimit::PerMinute(1000)), Some(50))
    );
    let later: Vec<_> = config
        .warnings
        .iter()
        .filter(|w| w.contains("without effect"))
        .collect();
    assert_eq!(later.len(), 1, "one warning for all of them");
    assert!(
        later[0].contains("`mcp.services[].resource_limits`, `mcp.clients.*.rate_limit`"),
        "{later:?}"
    );
}

#[test]
fn what_is_in_force_can_be_read_again() {
    for name in ["team", "own-routes", "fixed-upstreams", "legacy-block"] {
        let first = run_with(&root(&format!("conf/examples/{name}.yaml")), None)
            .effective()
            .unwrap()
            .clone();
        let yaml = serde_yaml::to_string(&first)
            .unwrap()
            .replace("'[redacted]'", SECRET);
        assert_eq!(effective(&yaml), first, "{name}");
    }
}
