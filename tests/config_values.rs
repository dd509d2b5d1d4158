//! What comes from the environment and from files becomes a value and nothing else, and secrets stay secret.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use mcp_edge::config::{Examined, Input, IssuerKey, examine};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::Value;

fn run(yaml: &str, variables: &dyn Fn(&str) -> Option<String>) -> Examined {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.yaml");
    std::fs::write(&path, yaml).unwrap();
    examine(&Input::File(path), variables)
}

fn effective(yaml: &str, variables: &dyn Fn(&str) -> Option<String>) -> Value {
    let examined = run(yaml, variables);
    examined
        .effective()
        .unwrap_or_else(|| panic!("{}", examined.report))
        .clone()
}

#[test]
fn a_number_may_come_from_a_variable() {
    let variables = |name: &str| (name == "PORT").then(|| "11107".to_owned());
    let yaml =
        "mcp: {services: [{name: a, command: [/bin/sh], port: \"${PORT}\", stateless: \"${FLAG:-true}\"}]}";
    let service = effective(yaml, &variables)["mcp"]["services"][0].clone();
    assert_eq!(
        (service["port"].as_u64(), service["stateless"].as_bool()),
        (Some(11107), Some(true))
    );
}

#[test]
fn a_bad_value_from_a_variable_is_not_shown() {
    let variables = |_: &str| Some("hunter2-hunter2".to_owned());
    let report = run(
        "mcp: {services: [{name: a, command: [/bin/sh], isolation: \"${X}\", port: \"${X}\"}]}",
        &variables,
    )
    .report;
    assert_eq!(report.to_json()["errors"], 2);
    assert!(!format!("{report} {:?} {}", report, report.to_json()).contains("hunter2"));
}

#[test]
fn a_secret_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    let yaml = format!("auth: {{jwt: [{{secret: \"${{file:{}}}\"}}]}}", path.display());
    let config = run(&yaml, &|_| None).config.unwrap();
    let IssuerKey::Secret(secret) = &config.auth.issuers[0].key else {
        panic!("a secret")
    };
    assert_eq!(secret.expose_secret(), "0123456789abcdef0123456789abcdef");
}

#[test]
fn the_secret_of_the_environment_is_used_and_checked() {
    let with = |secret: &'static str| {
        run("edge: {}", &move |name| {
            (name == "MCP_JWT_SECRET").then(|| secret.to_owned())
        })
    };
    let config = with("0123456789abcdef0123456789abcdef").config.unwrap();
    assert!(matches!(config.auth.issuers[0].key, IssuerKey::Secret(_)));
    let short = with("hunter2").report.to_string();
    assert!(
        short.contains("error: the environment variable MCP_JWT_SECRET has 7 bytes"),
        "{short}"
    );
    assert!(!short.contains("hunter2"));
    let config = run("edge: {state_dir: /var/lib/x}", &|_| None).config.unwrap();
    let IssuerKey::Generated(path) = &config.auth.issuers[0].key else {
        panic!("a file")
    };
    assert_eq!(path.to_str(), Some("/var/lib/x/jwt-secret"));
}

/// Every place a secret can be in, right or wrong, with a mistake on every line so that every line is shown.
#[test]
fn no_secret_is_ever_shown() {
    let canary = "CANARY-7f3a";
    let yaml = format!(
        "edge:
  admin_auth: {{operators: [{canary}], viewers: [\"{canary}\"], nonsense: {canary}}}
mcp:
  services:
    - {{name: a, command: [/bin/sh], env: {{TOKEN: {canary}, T2: [{canary}]}}, isolation: x}}
    - {{name: b, upstreams: [\"h:1\"], token: {canary}, isolation: x}}
    - name: c
      command: [/bin/sh]
      env:
        KEY: |
          {canary}
          {canary}
        =BAD: {canary}
auth:
  jwt:
    - {{secret: {canary}, algorithms: [none]}}
    - {{secrett: {canary}, secret: {{deep: {canary}}}, issuer: 2}}
    - secret: {canary}
      secret: {canary}
"
    );
    let examined = run(&yaml, &|_| None);
    let report = examined.report;
    let (text, json) = (report.to_string(), report.to_json().to_string());
    assert!(text.matches(" error: ").count() >= 9, "{text}");
    assert!(!text.contains(canary), "{text}");
    assert!(!json.contains(canary), "{json}");
    assert!(!format!("{report:?}").contains(canary));

    // A file that cannot be parsed: nobody knows what is secret.
    let broken = run(
        &format!("auth:\n  jwt: [{{secret: {canary}, issuer: [}}]\n"),
        &|_| None,
    )
    .report
    .to_string();
    assert!(
        broken.contains("not valid YAML") && !broken.contains(canary),
        "{broken}"
    );
}

#[test]
fn a_config_in_a_log_shows_no_secret() {
    let canary = "CANARY-7f3a-0123456789abcdef0123456789abcdef";
    let yaml = format!(
        "mcp: {{services: [{{name: a, command: [/bin/sh], env: {{T: {canary}}}}}, {{name: b, upstreams: [\"h:1\"], token: {canary}}}]}}
auth: {{jwt: [{{secret: {canary}}}]}}\n"
    );
    let examined = run(&yaml, &|_| None);
    let debug = format!("{examined:?}");
    assert!(debug.contains("h") && !debug.contains("CANARY"), "{debug}");
    assert!(!examined.effective().unwrap().to_string().contains("CANARY"));
}

const TEMPLATE: &str = "\
mcp:
  services:
    - name: a
      command: [/bin/sh, \"${X}\", '${X}', -c]
      env: {K: \"${X}\"}
    - name: b
      command:
        - /bin/sh
        - ${X}
        - pre-${X}-post
";

proptest! {
    /// Whatever a variable holds, the document keeps its structure: the text lands where the reference stood, and
    /// everything else is as it was.
    #[test]
    fn substitution_never_changes_structure(value in any::<String>().prop_filter("no NUL", |s| !s.contains('\0'))) {
        let base = effective(TEMPLATE, &|_| Some("MARK".to_owned()));
        let got = effective(TEMPLATE, &|_| Some(value.clone()));
        let mut expected = base;
        let services = &mut expected["mcp"]["services"];
        services[0]["command"][1] = Value::from(value.clone());
        services[0]["command"][2] = Value::from(value.clone());
        services[1]["command"][1] = Value::from(value.clone());
        services[1]["command"][2] = Value::from(format!("pre-{value}-post"));
        prop_assert_eq!(got, expected);
    }

    /// YAML's own syntax in a value stays text too.
    #[test]
    fn yaml_in_a_value_stays_text(value in "[-:{}\\[\\],&*#?|<>=!%@`'\"\\\\ \n\ta-c$]{0,40}") {
        let got = effective(TEMPLATE, &|_| Some(value.clone()));
        prop_assert_eq!(&got["mcp"]["services"][0]["command"][1], &Value::from(value));
        prop_assert_eq!(got["mcp"]["services"].as_array().unwrap().len(), 2);
    }

    /// No text makes the loader panic, and each failure has a report.
    #[test]
    fn any_text_is_a_config_or_a_report(text in "[-a-e:{}\\[\\],&*#|>!'\" \n$]{0,80}") {
        let examined = run(&text, &|_| None);
        prop_assert_eq!(examined.config.is_some(), examined.report.is_ok());
    }
}
