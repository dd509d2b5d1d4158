//! A server gets descriptors 0, 1 and 2, and nothing else that is open here.

mod stdio_support;

use mcp_sidecar::stdio::Exit;
use stdio_support::*;

#[tokio::test]
async fn only_three() {
    let secret = tempfile::tempfile().unwrap();
    // Without close-on-exec, as a parent process of the sidecar might have left it.
    let left_open = rustix::io::dup(&secret).unwrap();
    assert!(
        !rustix::io::fcntl_getfd(&left_open)
            .unwrap()
            .contains(rustix::io::FdFlags::CLOEXEC)
    );

    let mut first = start(&sh(r#"echo "{\"server\":$$}"; exec cat"#), &patient());
    let mut second = start(&sh(r#"echo "{\"server\":$$}"; exec cat"#), &patient());
    for started in [&mut first, &mut second] {
        let pids = pids(&mut started.stdout).await;
        let open = descriptors(pids["server"]);
        assert_eq!(
            open.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [0, 1, 2],
            "{open:?}"
        );
        assert!(
            open.iter()
                .all(|(_, path)| path.to_string_lossy().starts_with("pipe:")),
            "{open:?}"
        );
        // The guard has let go of the server's stdin and stdout.
        let guard = descriptors(started.process.pid());
        assert!(
            guard[..2].iter().all(|(_, path)| path.as_os_str() == "/dev/null"),
            "{guard:?}"
        );
    }
    // So the end of one's stdin is seen, though another server was started while it was open.
    drop(first.stdin);
    assert_eq!(first.process.stop().await, Exit::Code(0));
    drop(second.stdin);
    assert_eq!(second.process.stop().await, Exit::Code(0));
}
