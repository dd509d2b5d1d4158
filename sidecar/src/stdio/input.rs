//! Lines to a server: one message, one line, whole or not at all.
//!
//! Problem: HTTP bodies are JSON texts that may be laid out over several lines, they arrive in pieces, and the task that
//! writes one may be cancelled halfway. Invariants:
//! - What is written between two newlines is one whole message: line breaks inside it become spaces (in JSON they can
//!   only be white space between tokens; RFC 8259, 2 and 7), and `\r` too, which some readers take for a line's end.
//! - After a write that was cut short nothing more is written: the server would read two messages as one.

use std::borrow::Cow;
use std::io::{self, IoSlice};

use bytes::Bytes;
use memchr::memchr2;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::process::ChildStdin;

/// The server's stdin. Dropping it is the server's end of input.
#[derive(Debug)]
pub struct ServerInput<W = ChildStdin> {
    sink: W,
    torn: bool,
}

impl<W: AsyncWrite + Unpin> ServerInput<W> {
    /// Writes whole lines to `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink, torn: false }
    }

    /// Writes one message, given in parts that follow each other, and its newline. Waits as long as the server does
    /// not read; the caller bounds the time.
    ///
    /// # Errors
    /// The server has closed its stdin, or an earlier write failed or was cancelled within a message. Both are final:
    /// stop the process.
    pub async fn write(&mut self, parts: &[Bytes]) -> io::Result<()> {
        if self.torn {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "an earlier message to the server was cut short; it cannot take another",
            ));
        }
        let parts: Vec<Cow<'_, [u8]>> = parts.iter().map(|part| one_line(part)).collect();
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        slices.push(IoSlice::new(b"\n"));
        let mut left = &mut slices[..];
        // Only reset when all is written: an error or a dropped future leaves it set.
        self.torn = true;
        // Drops empty parts at the front, so that a write of nothing is never tried.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let written = self.sink.write_vectored(left).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        self.sink.flush().await?;
        self.torn = false;
        Ok(())
    }
}

fn one_line(part: &[u8]) -> Cow<'_, [u8]> {
    if memchr2(b'\n', b'\r', part).is_none() {
        return Cow::Borrowed(part);
    }
    Cow::Owned(
        part.iter()
            .map(|byte| {
                if matches!(byte, b'\n' | b'\r') {
                    b' '
                } else {
                    *byte
                }
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    fn parts(texts: &[&'static str]) -> Vec<Bytes> {
        texts
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect()
    }

    #[tokio::test]
    async fn parts_become_one_line() {
        let (near, mut far) = duplex(1000);
        let mut input = ServerInput::new(near);
        input
            .write(&parts(&["{\"id\":", "", "7", ",\r\n\"x\":1\n}"]))
            .await
            .unwrap();
        input.write(&parts(&["{}"])).await.unwrap();
        input.write(&[]).await.unwrap();
        drop(input);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "{\"id\":7,  \"x\":1 }\n{}\n\n");
    }

    #[tokio::test]
    async fn a_large_message_goes_through_a_small_pipe() {
        let (near, mut far) = duplex(7);
        let mut input = ServerInput::new(near);
        let body = Bytes::from(vec![b'x'; 100_000]);
        let mut received = Vec::new();
        let (written, read) = tokio::join!(
            async {
                let written = input
                    .write(&[Bytes::from_static(b"{"), body.clone(), Bytes::from_static(b"}")])
                    .await;
                drop(input);
                written
            },
            far.read_to_end(&mut received)
        );
        written.unwrap();
        read.unwrap();
        assert_eq!(received.len(), 100_003);
        assert!(received.starts_with(b"{xx") && received.ends_with(b"x}\n"));
    }

    #[tokio::test]
    async fn nothing_follows_a_message_that_was_cut_short() {
        let (near, mut far) = duplex(4);
        let mut input = ServerInput::new(near);
        let long = parts(&["{\"long\":1}"]);
        tokio::select! {
            biased;
            _ = input.write(&long) => panic!("nobody reads"),
            () = std::future::ready(()) => {}
        }
        let error = input.write(&parts(&["{}"])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        drop(input);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "{\"lo");
    }

    #[tokio::test]
    async fn a_closed_pipe_is_an_error_and_stays_one() {
        let (near, far) = duplex(4);
        drop(far);
        let mut input = ServerInput::new(near);
        assert!(input.write(&parts(&["{}"])).await.is_err());
        assert!(input.write(&parts(&["{}"])).await.is_err());
    }
}
