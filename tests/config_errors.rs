//! Every mistake in a configuration is reported, in one run, where it was made.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::PathBuf;

use mcp_edge::cli::check::{CheckArgs, Format, execute};
use mcp_edge::config::{Examined, Input, examine};

fn no_variables(_: &str) -> Option<String> {
    None
}

/// Examines a file with this content; the report calls it `edge.yaml`.
fn run(yaml: &str) -> (Examined, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.yaml");
    std::fs::write(&path, yaml).unwrap();
    let examined = examine(&Input::File(path.clone()), &no_variables);
    let text = examined
        .report
        .to_string()
        .replace(&path.display().to_string(), "edge.yaml");
    (examined, text)
}

const FIVE: &str = "\
edge:
  listen: 127.0.0.1:8080
  drian: 30s
mcp:
  services:
    - name: files
      command: [/bin/sh]
      port: \"11100\"
    - name: git
      command: [/bin/sh]
      port: 11101
      backup: fils
    - name: memory
      command: [/bin/sh]
      port: 11101
auth:
  jwt:
    - secret: hunter2-too-short
";

#[test]
fn five_different_mistakes_are_five_findings_in_one_run() {
    let (examined, text) = run(FIVE);
    let expected = "\
edge.yaml:3:3: error: unknown key `drian`
  3 |   drian: 30s
    |   ^^^^^ did you mean `drain`?
edge.yaml:8:13: error: `port` must be a whole number, but is a text
  8 |       port: \"11100\"
    |             ^^^^^^^ remove the quotes
edge.yaml:12:15: error: there is no service `fils`
  12 |       backup: fils
     |               ^^^^ did you mean `files`?
edge.yaml:15:13: error: services `git` and `memory` both use port 11101; give one of them another
  15 |       port: 11101
     |             ^^^^^
edge.yaml:18:15: error: `secret` has 17 bytes; it needs at least 32 (`openssl rand -hex 32` makes one)
  18 |     - secret: *****************
     |               ^^^^^^^^^^^^^^^^^
";
    // The value of the unknown key might be a secret with a slip in its name.
    let expected = expected.replace("drian: 30s", "drian: ***");
    // `backup` is one of the keys of a later version.
    let (warning, errors) = text.split_once('\n').unwrap();
    assert!(
        warning.starts_with("edge.yaml: warning: accepted, but without effect"),
        "{warning}"
    );
    assert_eq!(errors, expected);
    assert!(examined.config.is_none());
}

/// One mistake a row: the file, line and column, a part of the message.
const MISTAKES: &[(&str, u64, u64, &str)] = &[
    // Syntax and structure.
    ("edge: {listen: [}", 1, 16, "not valid YAML"),
    ("edge: {}\n---\nmcp: {}\n", 3, 1, "a second document"),
    ("- a\n", 1, 1, "the document must be a mapping"),
    (
        "edge: 5\n",
        1,
        7,
        "`edge` must be a mapping of keys to values, but is a whole number",
    ),
    ("edge:\n", 1, 1, "`edge` has no value"),
    (
        "edge: {drain: 1s}\nedge: {}\n",
        2,
        1,
        "`edge` is given twice; the first is on line 1",
    ),
    ("listen: 127.0.0.1:1\n", 1, 1, "unknown key `listen`"),
    (
        "mcp: {services: [{command: [/bin/sh]}]}",
        1,
        18,
        "lacks the key `name`",
    ),
    // Values.
    (
        "edge: {listen: localhost:80}",
        1,
        16,
        "expected an IP address and a port",
    ),
    ("edge: {drain: 30}", 1, 15, "a duration needs its unit: `30s`"),
    ("edge: {max_body: 12 parsecs}", 1, 18, "expected bytes"),
    (
        "edge: {public_url: \"https://a.example/path\"}",
        1,
        20,
        "expected an origin",
    ),
    (
        "edge: {allowed_hosts: [\"http://x\"]}",
        1,
        24,
        "expected a host name",
    ),
    (
        "mcp: {services: [{name: Files, command: [/bin/sh]}]}",
        1,
        25,
        "lower-case",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], port: 0}]}",
        1,
        54,
        "from 1 to 65535",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], isolation: sharde}]}",
        1,
        59,
        "one of `client`, `shared`",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], stateless: \"yes\"}]}",
        1,
        59,
        "`true` or `false`",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], timeouts: {idle: 0s}}]}",
        1,
        65,
        "longer than 0",
    ),
    (
        "mcp: {tiers: {free: {requests_per_minute: 0}}}",
        1,
        43,
        "-1 for no limit",
    ),
    ("mcp: {tiers: {Free: {weight: 2}}}", 1, 15, "no good key"),
    (
        "mcp: {runtime: dokcer}",
        1,
        16,
        "one of `process`, `docker`, `fixed`",
    ),
    ("routes: [{match: {path: /a/{name}}}]", 1, 28, "not valid YAML"),
    (
        "routes: [{match: {path: \"/a/{name}\"}}]",
        1,
        25,
        "the only placeholder is `{service}`",
    ),
    // Listeners.
    (
        "edge: {admin: 127.0.0.1:8080}",
        1,
        15,
        "`listen` and `admin` both listen on port 8080",
    ),
    (
        "edge: {listen: 127.0.0.1:18081}",
        1,
        16,
        "`listen` and `health` both listen",
    ),
    ("edge: {admin: 0.0.0.0:18080}", 1, 15, "add `edge.admin_auth`"),
    (
        "edge: {admin_auth: {operators: [short]}}",
        1,
        33,
        "`operators` has 5 bytes",
    ),
    (
        "edge: {tls: {cert: /no/such.pem, key: /dev/null}}",
        1,
        20,
        "cannot read `/no/such.pem`",
    ),
    (
        "edge: {tls: {cert: /no/such.pem, key: /dev/null}}",
        1,
        39,
        "no PEM block of a private key",
    ),
    ("edge: {state_dir: /bin/sh}", 1, 19, "is a file"),
    // Services.
    ("mcp: {runtime: docker}", 1, 16, "comes with a later version"),
    (
        "mcp:\n  services:\n  - {name: a, command: [/bin/sh]}\n  - {name: a, command: [/bin/sh]}",
        4,
        12,
        "two services are named `a`; the first is on line 3",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], port: 8080}]}",
        1,
        54,
        "the edge's own (`edge.listen`)",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], port: 18081}]}",
        1,
        54,
        "the edge's own (`edge.health`)",
    ),
    ("mcp: {services: [{name: a}]}", 1, 25, "nothing to start"),
    (
        "mcp: {services: [{name: a, command: [\"\"]}]}",
        1,
        28,
        "cannot be empty",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], wrapper: /bin/sh}]}",
        1,
        57,
        "`command` and `wrapper`",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], token: x}]}",
        1,
        55,
        "`token` is for `upstreams`",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], upstreams: [\"b:1\"]}]}",
        1,
        28,
        "`upstreams` and `command`",
    ),
    (
        "mcp: {services: [{name: a, upstreams: [\"localhost:8080\"]}]}",
        1,
        40,
        "is the edge itself",
    ),
    (
        "mcp: {services: [{name: a, upstreams: [b]}]}",
        1,
        40,
        "expected `host:port`",
    ),
    (
        "mcp: {services: [{name: a, upstreams: [\"b:1\"], port: 5}]}",
        1,
        54,
        "`upstreams` and `port`",
    ),
    (
        "mcp: {runtime: fixed, services: [{name: a, command: [/bin/sh]}]}",
        1,
        41,
        "lacks `upstreams`",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], replicas: {min: 4, max: 2}}]}",
        1,
        48,
        "`replicas.min` (4) is larger",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], processes: {max: 1, warm: 2}}]}",
        1,
        74,
        "`processes.warm` (2)",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], backup: a}]}",
        1,
        56,
        "its own `backup`",
    ),
    (
        "mcp: {clients: {bob: {tier: prp}}}",
        1,
        29,
        "there is no tier `prp`",
    ),
    // Identity.
    (
        "auth: {jwt: [{secret: x, algorithms: [HS257]}]}",
        1,
        39,
        "must be one of `HS256`",
    ),
    (
        "auth: {jwt: [{secret: x, algorithms: [RS256]}]}",
        1,
        39,
        "this one verifies HS256",
    ),
    (
        "auth: {jwt: [{secret: x, algorithms: []}]}",
        1,
        38,
        "has 0 entries; at least 1",
    ),
    (
        "auth: {jwt: [{secret: x}, {secret: x}]}",
        1,
        27,
        "two entries of `auth.jwt` have the issuer `mcp-edge`",
    ),
    ("auth: {jwt: [{issuer: a}]}", 1, 14, "lacks the key `secret`"),
    (
        "auth: {anonymous: {tier: gold}}",
        1,
        26,
        "there is no tier `gold`",
    ),
    (
        "auth: {anonymous: {tier: free}}\nedge: {listen: 0.0.0.0:80}",
        1,
        8,
        "must be a loopback address, not 0.0.0.0:80",
    ),
    // Routes.
    ("routes: []", 1, 1, "`routes` is empty"),
    ("routes: [{match: {path: /git}}]", 1, 25, "names no service"),
    (
        "routes: [{match: {path: \"/{service}\"}, service: a}]",
        1,
        25,
        "names its service twice",
    ),
    (
        "routes: [{match: {path: /git}, service: git}]",
        1,
        41,
        "there is no service `git`",
    ),
    // Substitution.
    (
        "edge: {state_dir: \"${NO_SUCH_VARIABLE}\"}",
        1,
        19,
        "`NO_SUCH_VARIABLE` is not set",
    ),
    (
        "edge: {state_dir: \"${file:/no/such}\"}",
        1,
        19,
        "cannot read the file `/no/such`",
    ),
    ("edge: {state_dir: \"${open\"}", 1, 19, "without a closing `}`"),
];

#[test]
fn every_mistake_is_found_where_it_is() {
    let mut wrong = Vec::new();
    for (yaml, line, column, part) in MISTAKES {
        let (examined, text) = run(yaml);
        let json = examined.report.to_json();
        let hit = json["findings"].as_array().unwrap().iter().any(|f| {
            f["severity"] == "error"
                && f["line"] == *line
                && f["column"] == *column
                && f["message"].as_str().unwrap().contains(part)
        });
        if !hit || examined.config.is_some() {
            wrong.push(format!("{yaml}\nexpected {line}:{column} {part}\ngot\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
}

/// What stops nothing: the file, a part of the warning.
const WARNINGS: &[(&str, &str)] = &[
    ("mcp: {services: []}", "no service is configured"),
    ("", "no service is configured"),
    (
        "mcp: {services: [{name: a, command: [no-such-program]}]}",
        "`no-such-program` is not found on PATH",
    ),
    (
        "mcp: {services: [{name: a, command: [/no/such]}]}",
        "`/no/such` is not there or not executable",
    ),
    (
        "mcp: {services: [{name: a, wrapper: /no/such.sh}]}",
        "`/no/such.sh` is not there or not executable",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], cwd: /no/such}]}",
        "the folder `/no/such` is not there",
    ),
    (
        "edge: {listen: 0.0.0.0:8080}",
        "`allowed_hosts` names only this one",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh]}]}\nroutes: [{match: {path: /a}, service: a}, {match: {path: /a/}, service: a}]",
        "never reached: `routes[0]`",
    ),
    (
        "routes: [{match: {path: \"/{service}\", tags: [x]}}]",
        "no service carries the tag `x`",
    ),
    (
        "mcp: {services: [{name: a, command: [/bin/sh], image: x}]}\naudit: {params: off}",
        "without effect in this version: `mcp.services[].image`, `audit`",
    ),
];

#[test]
fn what_stops_nothing_is_a_warning() {
    for (yaml, part) in WARNINGS {
        let (examined, text) = run(yaml);
        let config = examined.config.unwrap_or_else(|| panic!("{yaml}\n{text}"));
        assert!(config.warnings.iter().any(|w| w.contains(part)), "{yaml}\n{text}");
    }
}

#[test]
fn a_mistake_in_one_service_is_not_reported_again_by_those_who_name_it() {
    let (examined, text) = run(
        "mcp:\n  services:\n    - {name: a, command: [/bin/sh], port: many}\n    - {name: b, command: 5}\n    - \
         {name: c, command: [/bin/sh], backup: b}\n    - {command: [/bin/sh]}\n",
    );
    let json = examined.report.to_json();
    // `port`, `command` of b with what follows from it, and the missing name.
    let lines: Vec<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["severity"] == "error")
        .collect();
    assert!(
        lines
            .iter()
            .all(|f| !f["message"].as_str().unwrap().contains("there is no service")),
        "{text}"
    );
}

#[test]
fn a_key_in_the_wrong_place_is_pointed_to_the_right_one() {
    let (_, text) = run("listen: 127.0.0.1:1\nservices: []\nwrapper: x\n");
    assert!(text.contains("did you mean `edge.listen`?"), "{text}");
    assert!(text.contains("did you mean `mcp.services[].wrapper`?"), "{text}");
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let examined = examine(&Input::File(PathBuf::from("/no/such/edge.yaml")), &no_variables);
    assert!(examined.config.is_none());
    let text = examined.report.to_string();
    assert!(
        text.starts_with("/no/such/edge.yaml: error: cannot read the configuration: "),
        "{text}"
    );
}

fn command(yaml: &str, format: Format, print_effective: bool) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.yaml");
    std::fs::write(&path, yaml).unwrap();
    let args = CheckArgs {
        config: Some(path),
        format,
        print_effective,
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = execute(&args, &no_variables, &mut stdout, &mut stderr).unwrap();
    (
        code,
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn check_exits_with_2_and_prints_to_stderr() {
    let (code, stdout, stderr) = command(FIVE, Format::Human, true);
    assert_eq!(code, 2);
    assert_eq!(stdout, "", "nothing is in force");
    assert!(stderr.ends_with("not ok: 5 errors, 1 warning\n"), "{stderr}");
}

#[test]
fn check_speaks_json() {
    let (code, stdout, stderr) = command(FIVE, Format::Json, false);
    assert_eq!((code, stderr.as_str()), (2, ""));
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (json["ok"].as_bool(), json["errors"].as_u64()),
        (Some(false), Some(5))
    );
    assert_eq!(json["findings"][1]["hint"], "did you mean `drain`?");
}

#[test]
fn check_prints_what_is_in_force() {
    let yaml = "mcp: {services: [{name: a, command: [/bin/sh]}]}\nauth: {jwt: [{secret: 0123456789abcdef0123456789abcdef}]}";
    let (code, stdout, stderr) = command(yaml, Format::Human, true);
    assert_eq!((code, stderr.as_str()), (0, "ok: 1 service, 0 warnings\n"));
    let effective: serde_json::Value = serde_yaml::from_str(&stdout).unwrap();
    assert_eq!(effective["edge"]["listen"], "127.0.0.1:8080");
    assert_eq!(effective["mcp"]["services"][0]["timeouts"]["idle"], "5m");
    assert_eq!(effective["mcp"]["tiers"]["enterprise"]["requests_per_minute"], -1);
    assert_eq!(effective["auth"]["jwt"][0]["secret"], "[redacted]");
    assert!(!stdout.contains("0123456789"));
}
