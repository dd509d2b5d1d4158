//! A session spoken to directly: one server process, one JSON-RPC message a line. The floor of all figures.

use std::io;
use std::process::Stdio;

use memchr::memmem;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

pub(crate) struct Link {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    line: Vec<u8>,
}

impl Link {
    pub(crate) fn open(command: &[String]) -> io::Result<Self> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| io::Error::other("no command and no --http"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the server has no pipes"));
        };
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
            line: Vec::new(),
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends one message; for a request reads its answer and says whether it contains `expect`.
    pub(crate) async fn send(&mut self, message: &str, expect: Option<&str>) -> io::Result<bool> {
        let mut line = String::with_capacity(message.len() + 1);
        line.push_str(message);
        line.push('\n');
        self.input.write_all(line.as_bytes()).await?;
        let Some(expect) = expect else { return Ok(true) };
        self.line.clear();
        if self.output.read_until(b'\n', &mut self.line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(memmem::find(&self.line, expect.as_bytes()).is_some())
    }
}
