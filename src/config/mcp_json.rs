//! What is served when nobody named a file: the `.mcp.json` of the working directory, else the demo server.
//!
//! The file is the `mcpServers` form that AI clients share. It is read by their rules: `${VAR}` and
//! `${VAR:-default}` are expanded as Claude Code does, and keys that only concern a client are passed over. Both ways
//! listen on loopback only, which is why requests without a token are let in: whoever can connect could as well start
//! the servers himself.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::{Names, Surroundings};
use super::formats::{EnvName, Line, Secret, Table, Text};
use super::load::{Document, Examined, finish};
use super::names::{ServiceName, TierName};
use super::report::Finding;
use super::schema;
use super::shape::Shape;
use super::snapshot::Source;
use super::spec::{AnonymousSpec, ServiceSpec, Spec};
use super::substitute::{Dialect, Variables, substitute};
use super::tree::{Kind, Node, Span, Step};

/// The file's name, where clients look for it too.
pub(super) const FILE_NAME: &str = ".mcp.json";

/// Tier of everybody on the own machine.
const LOCAL_TIER: &str = "enterprise";

/// Name of the demo service.
const DEMO: &str = "demo";

/// The file. Not closed: clients keep other things in it.
#[derive(Debug, Deserialize, JsonSchema)]
struct McpFile {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<String, McpServer>,
}

/// One entry. One with a `url` is a server that already speaks HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
struct McpServer {
    command: Option<Text<Line>>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Table<EnvName, Text<Secret>>,
    cwd: Option<Text<Line>>,
    url: Option<Text<Secret>>,
}

#[derive(Debug, thiserror::Error)]
enum Mistake<'a> {
    #[error("server `{0}` has neither `command` nor `url`")]
    Nothing(&'a str),
    #[error("no name for a service can be made from `{0}`: it has no ASCII letter or digit")]
    NoName(&'a str),
    #[error("servers `{first}` and `{second}` would both be served as `{name}`; rename one of them")]
    SameName {
        first: &'a str,
        second: &'a str,
        name: &'a str,
    },
    #[error("no server of this file can be served: there is none with a `command`")]
    Empty,
}

#[derive(Debug, thiserror::Error)]
enum Notice<'a> {
    #[error("server `{0}` is reached by a `url`, so it needs no translator and is not served")]
    Remote(&'a str),
    #[error("server `{0}` is served as `{1}`")]
    Renamed(&'a str, &'a str),
}

/// Loads a `.mcp.json`.
pub(super) fn examine(path: &Path, variables: Variables<'_>) -> Examined {
    let mut document = match Document::read(path) {
        Ok(document) => document,
        Err(failed) => return *failed,
    };
    let mut findings = Vec::new();
    keep_servers(&mut document.root);
    substitute(&mut document.root, Dialect::ClaudeCode, variables, &mut findings);
    let mut shape = Shape::default();
    let value = shape.walk(&mut document.root, &schema::of::<McpFile>());
    findings.append(&mut shape.findings);
    document.blanks = shape.blanks;
    let file: McpFile = match value.map(serde_json::from_value) {
        Some(Ok(file)) => file,
        Some(Err(error)) => {
            findings.push(Finding::error(None, &error));
            return document.fail(findings);
        }
        None => return document.fail(findings),
    };

    let mut import = Import {
        root: &document.root,
        findings,
        spec: local(),
        keys: Vec::new(),
    };
    for (key, server) in file.servers {
        import.server(key, server);
    }
    let Import {
        mut findings,
        spec,
        keys,
        ..
    } = import;
    if spec.mcp.services.is_empty()
        && findings
            .iter()
            .all(|f| f.severity != super::report::Severity::Error)
    {
        findings.push(Finding::error(
            document.root.locate(&[Step::Key("mcpServers")]),
            &Mistake::Empty,
        ));
    }
    let locate = |path: &[Step<'_>]| locate(&document.root, &keys, path);
    let surroundings = Surroundings {
        locate: &locate,
        variables,
        names: Names::default(),
        source: Source::McpJson(path.to_owned()),
    };
    finish(&document, spec, surroundings, findings)
}

/// The built-in demo server, started from this very program.
pub(super) fn demo(variables: Variables<'_>) -> Examined {
    let document = Document::none();
    let mut spec = local();
    let program = match std::env::current_exe() {
        Ok(program) => program.to_string_lossy().into_owned(),
        Err(error) => {
            let message = format!("cannot find the own program to start the demo server: {error}");
            return document.fail(vec![Finding::error(None, &message)]);
        }
    };
    if let Ok(name) = DEMO.parse::<ServiceName>() {
        spec.mcp
            .services
            .push(ServiceSpec::of_command(name, vec![program, DEMO.to_owned()]));
    }
    let surroundings = Surroundings {
        locate: &|_| None,
        variables,
        names: Names::default(),
        source: Source::Demo,
    };
    finish(&document, spec, surroundings, Vec::new())
}

/// The defaults, and everybody on this machine let in.
fn local() -> Spec {
    let mut spec = Spec::default();
    spec.auth.anonymous = LOCAL_TIER
        .parse::<TierName>()
        .ok()
        .map(|tier| AnonymousSpec { tier: Text(tier) });
    spec
}

/// Takes out of the tree what is not read, so that no variable in it has to be set.
fn keep_servers(root: &mut Node) {
    let Kind::Map(entries) = &mut root.kind else {
        return;
    };
    entries.retain(|entry| entry.key == "mcpServers");
    for entry in entries {
        let Kind::Map(servers) = &mut entry.value.kind else {
            continue;
        };
        for server in servers {
            let remote = server.value.get("url").is_some();
            let Kind::Map(keys) = &mut server.value.kind else {
                continue;
            };
            keys.retain(|e| match e.key.as_str() {
                "url" => true,
                "command" | "args" | "env" | "cwd" => !remote,
                _ => false,
            });
        }
    }
}

/// One run over the entries of a file.
struct Import<'a> {
    root: &'a Node,
    findings: Vec<Finding>,
    spec: Spec,
    /// The key of each service of the spec, in its order.
    keys: Vec<String>,
}

impl Import<'_> {
    fn server(&mut self, key: String, server: McpServer) {
        let at = self
            .root
            .get("mcpServers")
            .and_then(|e| e.value.get(&key))
            .map(|e| e.key_span);
        if server.url.is_some() {
            self.findings.push(Finding::warning(at, &Notice::Remote(&key)));
            return;
        }
        let Some(command) = server.command else {
            // A command that was there and had a mistake has been reported.
            let entry = self.root.get("mcpServers").and_then(|e| e.value.get(&key));
            if entry.is_some_and(|e| e.value.get("command").is_none()) {
                self.findings.push(Finding::error(at, &Mistake::Nothing(&key)));
            }
            return;
        };
        let Some(name) = service_name(&key) else {
            self.findings.push(Finding::error(at, &Mistake::NoName(&key)));
            return;
        };
        let same = self.spec.mcp.services.iter().position(|s| s.name.0 == name);
        if let Some(first) = same.and_then(|index| self.keys.get(index)) {
            let mistake = Mistake::SameName {
                first,
                second: &key,
                name: name.as_str(),
            };
            self.findings.push(Finding::error(at, &mistake));
            return;
        }
        if name.as_str() != key {
            self.findings
                .push(Finding::warning(at, &Notice::Renamed(&key, name.as_str())));
        }
        let mut line = vec![command.0.0];
        line.extend(server.args);
        let mut service = ServiceSpec::of_command(name, line);
        service.env = server.env;
        service.cwd = server.cwd;
        self.spec.mcp.services.push(service);
        self.keys.push(key);
    }
}

/// A service name from a key that may be any text: lower case, everything else a `-`.
fn service_name(key: &str) -> Option<ServiceName> {
    let lower = key.to_ascii_lowercase();
    let mapped: String = lower
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let trimmed: String = mapped.trim_matches('-').chars().take(63).collect();
    trimmed.parse().ok()
}

/// A place of the spec is a place of the entry it was made from.
fn locate(root: &Node, keys: &[String], path: &[Step<'_>]) -> Option<Span> {
    let [
        Step::Key("mcp"),
        Step::Key("services"),
        Step::Index(index),
        rest @ ..,
    ] = path
    else {
        return None;
    };
    let mut there = vec![Step::Key("mcpServers"), Step::Key(keys.get(*index)?)];
    there.extend(rest);
    root.locate(&there)
}
