//! A server runs with the inherited environment and the given one, in the given directory, with signals as a fresh
//! program expects them, and in a session and a group of its own.

mod stdio_support;

use std::collections::BTreeMap;

use stdio_support::*;

const REPORT: &str = r#"
import json, os, signal, sys
status = dict(line.rstrip().split(":\t") for line in open("/proc/self/status") if ":\t" in line)
print(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "args": sys.argv[1:],
    "group": os.getpgid(0) == os.getpid(), "session": os.getsid(0) == os.getppid(),
    "blocked": int(status["SigBlk"], 16),
}), flush=True)
"#;

#[tokio::test]
async fn is_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command("python3", &["-c", REPORT, "--", "-x", "", "a b"]);
    command.cwd = Some(dir.path().canonicalize().unwrap());
    command.env = vec![
        ("MCP_TEST_ONE".into(), "1 ü\n".into()),
        ("HOME".into(), "/elsewhere".into()),
    ];
    let mut started = start(&command, &patient());
    let report = message(&mut started.stdout).await;

    let env: BTreeMap<String, String> = serde_json::from_value(report["env"].clone()).unwrap();
    let mut expected: BTreeMap<String, String> = std::env::vars().collect();
    expected.extend(command.env.clone());
    // Set by the Python launcher of some systems, and by its locale coercion (PEP 538).
    let by_python = |name: &str| matches!(name, "LC_CTYPE" | "__PYVENV_LAUNCHER__");
    let strip = |env: BTreeMap<String, String>| -> BTreeMap<_, _> {
        env.into_iter().filter(|(name, _)| !by_python(name)).collect()
    };
    assert_eq!(strip(env), strip(expected));
    assert_eq!(report["cwd"], command.cwd.unwrap().to_str().unwrap());
    assert_eq!(report["args"], serde_json::json!(["--", "-x", "", "a b"]));
    assert_eq!(report["group"], true);
    assert_eq!(report["session"], true);
    assert_eq!(report["blocked"], 0);
}
