//! A server runs with the inherited environment and the given one, in the given directory, with signals as a fresh
//! program expects them, and in a session and a group of its own.

mod stdio_support;

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, getpgid, getsid};
use stdio_support::*;

#[tokio::test]
async fn is_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    // `cat` says nothing by itself and changes nothing in its environment; `-` are its arguments.
    let mut command = command("cat", &["-u", "--", "-", ""]);
    command.cwd = Some(dir.path().canonicalize().unwrap());
    command.env = vec![
        ("MCP_TEST".into(), "first".into()),
        ("MCP_TEST".into(), "1 ü\n".into()),
        ("HOME".into(), "/elsewhere".into()),
    ];
    let mut started = start(&command, &patient());
    started.stdin.write(&["{}".into()]).await.unwrap();
    message(&mut started.stdout).await;
    let guard = started.process.pid();
    let [(server, _)] = children(guard)[..] else {
        panic!("not one child")
    };
    let proc = |file: &str| fs::read(format!("/proc/{server}/{file}")).unwrap();

    let environment = proc("environ");
    let environment: BTreeMap<String, String> = environment
        .split(|byte| *byte == 0)
        .filter_map(|pair| std::str::from_utf8(pair).unwrap().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut expected: BTreeMap<String, String> = std::env::vars().collect();
    expected.extend(command.env.clone());
    assert_eq!(environment, expected);
    assert_eq!(environment["MCP_TEST"], "1 ü\n");

    assert_eq!(
        fs::read_link(format!("/proc/{server}/cwd")).unwrap(),
        command.cwd.unwrap()
    );
    assert_eq!(proc("cmdline"), b"cat\0-u\0--\0-\0\0");
    let status = String::from_utf8(proc("status")).unwrap();
    for mask in ["SigBlk", "SigIgn"] {
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let find = |text: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(mask))
                .unwrap()
                .to_owned();
            // Signals 1 to 31; the C library plays with some real-time ones when it starts a process.
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap() & 0x7fff_ffff
        };
        // SIGPIPE (13), which every Rust program ignores, is as usual again; nothing else is added.
        let inherited = find(&own) & !(1 << 12);
        assert_eq!(
            find(&status),
            if mask == "SigBlk" { 0 } else { inherited },
            "{mask}"
        );
    }
    let pid = |raw: u32| Pid::from_raw(i32::try_from(raw).unwrap());
    assert_eq!(getpgid(pid(server)).unwrap(), pid(server).unwrap());
    assert_eq!(getsid(pid(server)).unwrap(), pid(guard).unwrap());
}
