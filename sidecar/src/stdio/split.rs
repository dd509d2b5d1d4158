//! Splits a byte stream at newlines, within bounds.
//!
//! Problem: answers of 16 MiB and lines that never end, on a reader that must stay small. Invariants:
//! - O(n): every byte is searched for a newline once, and a line is split off its buffer, never copied.
//! - Memory: at most about twice `max_line` while one line is read; after a line over [`KEEP`] the buffer is small again.
//!   A line over `max_line` costs no more than [`PREFIX`] bytes once it is known to be.
//! - [`Splitter::next`] may be cancelled at any await without losing a byte.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept of a line that is too long: enough to find the id in its first members.
pub const PREFIX: usize = 4 * 1024;

/// Most bytes taken by one read: what a pipe holds by default.
const READ: usize = 64 * 1024;
/// A buffer that held a line longer than this is given back. Not below [`READ`]: see `take_line`.
pub(super) const KEEP: usize = READ;
/// First size of a buffer, and the least that it grows by.
const BLOCK: usize = 16 * 1024;
/// A read is worth a system call from this much room on.
const MIN_ROOM: usize = 4 * 1024;

/// A line as it came, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RawLine {
    Whole(Bytes),
    /// Over the limit: its first bytes (at most [`PREFIX`]) and its whole length.
    Cut {
        prefix: Bytes,
        len: u64,
    },
}

/// A line over the limit that is being skipped.
#[derive(Debug, Default)]
struct Skipped {
    prefix: Vec<u8>,
    len: u64,
}

impl Skipped {
    fn and(mut self, more: &[u8]) -> Self {
        let wanted = PREFIX.saturating_sub(self.prefix.len());
        self.prefix.extend_from_slice(more.get(..wanted).unwrap_or(more));
        self.len += more.len() as u64;
        self
    }

    fn end(self) -> RawLine {
        RawLine::Cut {
            prefix: self.prefix.into(),
            len: self.len,
        }
    }
}

/// See the module's invariants.
#[derive(Debug)]
pub(super) struct Splitter<R> {
    source: R,
    buf: BytesMut,
    /// This much of `buf` holds no newline.
    searched: usize,
    skipped: Option<Skipped>,
    max_line: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Splitter<R> {
    /// `max_line`: longest line in bytes, without its newline.
    pub(super) fn new(source: R, max_line: usize) -> Self {
        Self {
            source,
            buf: BytesMut::new(),
            searched: 0,
            skipped: None,
            max_line,
            ended: false,
        }
    }

    /// The next line; `None` at the end of the stream, which an error of the stream is too. A last line without a
    /// newline counts if it is not empty.
    pub(super) async fn next(&mut self) -> Option<RawLine> {
        loop {
            if let Some(line) = self.take_line() {
                return Some(line);
            }
            if self.ended {
                return self.take_rest();
            }
            self.make_room();
            match self.source.read_buf(&mut (&mut self.buf).limit(READ)).await {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "reading from the server failed");
                    self.ended = true;
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// The next whole line in the buffer, if there is one.
    fn take_line(&mut self) -> Option<RawLine> {
        let newline = self
            .buf
            .get(self.searched..)
            .and_then(|fresh| memchr(b'\n', fresh));
        match (newline, self.skipped.take()) {
            (Some(at), None) => {
                let len = self.searched + at;
                let mut line = self.buf.split_to(len + 1).freeze();
                self.searched = 0;
                if len > KEEP {
                    // Give the large buffer back with the line. The copied rest is short: the newline was found in the
                    // bytes of the last read.
                    self.buf = BytesMut::from(&*self.buf);
                }
                line.truncate(len);
                let too_long = len > self.max_line;
                Some(if too_long {
                    Skipped::default().and(&line).end()
                } else {
                    RawLine::Whole(line)
                })
            }
            (Some(at), Some(skipped)) => {
                let line = self.buf.split_to(at + 1);
                Some(skipped.and(line.get(..at).unwrap_or_default()).end())
            }
            (None, None) if self.buf.len() > self.max_line => {
                self.skipped = Some(Skipped::default().and(&self.buf));
                self.buf = BytesMut::new();
                self.searched = 0;
                None
            }
            (None, None) => {
                self.searched = self.buf.len();
                None
            }
            (None, Some(skipped)) => {
                self.skipped = Some(skipped.and(&self.buf));
                self.buf.clear();
                None
            }
        }
    }

    /// What the stream ended with, if it did not end with a newline.
    fn take_rest(&mut self) -> Option<RawLine> {
        self.searched = 0;
        if let Some(skipped) = self.skipped.take() {
            return Some(skipped.end());
        }
        let rest = std::mem::take(&mut self.buf);
        (!rest.is_empty()).then(|| RawLine::Whole(rest.freeze()))
    }

    /// Room for a read. A buffer that holds part of a line doubles, but not far beyond the longest line allowed.
    fn make_room(&mut self) {
        let len = self.buf.len();
        if self.buf.capacity() - len < MIN_ROOM {
            let to_limit = self.max_line.saturating_sub(len).saturating_add(READ);
            self.buf.reserve(len.min(to_limit).max(BLOCK));
        }
    }
}
