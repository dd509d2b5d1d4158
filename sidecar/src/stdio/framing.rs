//! Lines from a server: which of them are messages (newline-delimited JSON; MCP, transports, stdio).
//!
//! Problem: real servers print banners, logs and progress bars on stdout. Invariant: one bad line costs itself only;
//! bounds, cost and cancel safety are those of `split`.

use bytes::{Buf, Bytes};
use tokio::io::AsyncRead;
use tokio::process::ChildStdout;

pub use super::split::PREFIX;
use super::split::{RawLine, Splitter};

/// Bytes kept of a junk line, for the log.
pub const JUNK_PREFIX: usize = 200;

/// One line of a server's stdout. Blank lines are never reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Looks like a JSON object or a batch of them (it has not been parsed); trimmed of surrounding white space.
    Message(Bytes),
    /// Anything else a program prints; its first [`JUNK_PREFIX`] bytes.
    Junk(Bytes),
    /// Longer than the limit and skipped.
    TooLong {
        /// Its first bytes, at most [`PREFIX`], so that an id can be looked for.
        prefix: Bytes,
        /// Its whole length in bytes, without the newline.
        len: u64,
    },
}

/// Reads [`Line`]s.
#[derive(Debug)]
pub struct LineReader<R = ChildStdout> {
    lines: Splitter<R>,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// `max_line`: longest line in bytes, without its newline.
    pub fn new(source: R, max_line: usize) -> Self {
        Self {
            lines: Splitter::new(source, max_line),
        }
    }

    /// The next line that is not blank; `None` at the end of the stream (an error of the stream ends it too). A last
    /// line without a newline counts. Cancel safe.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            match self.lines.next().await? {
                RawLine::Cut { prefix, len } => return Some(Line::TooLong { prefix, len }),
                RawLine::Whole(line) => {
                    let line = trim(line);
                    if looks_like_json(&line) {
                        return Some(Line::Message(line));
                    }
                    if !line.is_empty() {
                        // Copied: a junk line that is kept must not keep the whole buffer.
                        let prefix = line.get(..JUNK_PREFIX).unwrap_or(&line);
                        return Some(Line::Junk(Bytes::copy_from_slice(prefix)));
                    }
                }
            }
        }
    }
}

/// Without surrounding JSON white space, the `\r` of `\r\n`, and a byte order mark (some Windows runtimes write one).
fn trim(mut line: Bytes) -> Bytes {
    if line.starts_with(b"\xEF\xBB\xBF") {
        line.advance(3);
    }
    let start = line.len() - line.trim_ascii_start().len();
    line.advance(start);
    let end = line.trim_ascii_end().len();
    line.truncate(end);
    line
}

/// `{` before a key or `}`; `[` before an object. So `[INFO] ready` and `{'python': 1}` are junk at a glance.
fn looks_like_json(line: &[u8]) -> bool {
    let Some((first, rest)) = line.split_first() else {
        return false;
    };
    let second = rest.trim_ascii_start().first();
    match first {
        b'{' => matches!(second, Some(b'"' | b'}')),
        b'[' => matches!(second, Some(b'{')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use proptest::prelude::*;
    use tokio::io::ReadBuf;

    use super::super::split::KEEP;
    use super::*;

    /// Hands out its chunks one read at a time, and is pending once before each.
    struct Chunks {
        chunks: VecDeque<Vec<u8>>,
        ready: bool,
    }

    impl Chunks {
        fn new(chunks: impl IntoIterator<Item = Vec<u8>>) -> Self {
            Self {
                chunks: chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect(),
                ready: false,
            }
        }
    }

    impl AsyncRead for Chunks {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.ready = !self.ready;
            if self.ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(mut chunk) = self.chunks.pop_front() {
                let rest = chunk.split_off(chunk.len().min(buf.remaining()));
                buf.put_slice(&chunk);
                if !rest.is_empty() {
                    self.chunks.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn read_all(chunks: impl IntoIterator<Item = Vec<u8>>, max_line: usize) -> Vec<Line> {
        let mut reader = LineReader::new(Chunks::new(chunks), max_line);
        run(async {
            let mut lines = Vec::new();
            while let Some(line) = reader.next().await {
                lines.push(line);
            }
            lines
        })
    }

    /// The same rules, said naively.
    fn naive(input: &[u8], max_line: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        for line in input.split(|byte| *byte == b'\n') {
            if line.len() > max_line {
                let prefix = Bytes::copy_from_slice(&line[..line.len().min(PREFIX)]);
                lines.push(Line::TooLong {
                    prefix,
                    len: line.len() as u64,
                });
                continue;
            }
            let line = line
                .strip_prefix("\u{feff}".as_bytes())
                .unwrap_or(line)
                .trim_ascii();
            let compact: Vec<u8> = line
                .iter()
                .copied()
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect();
            if compact.starts_with(b"{\"") || compact.starts_with(b"{}") || compact.starts_with(b"[{") {
                lines.push(Line::Message(Bytes::copy_from_slice(line)));
            } else if !line.is_empty() {
                lines.push(Line::Junk(Bytes::copy_from_slice(
                    &line[..line.len().min(JUNK_PREFIX)],
                )));
            }
        }
        lines
    }

    fn message(text: &str) -> Line {
        Line::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn junk(text: &str) -> Line {
        Line::Junk(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn tells_messages_from_junk_and_blank_lines() {
        let input = "\u{feff}{\"a\":1}\r\n\n  \r\n[INFO] up\n{'py': 1}\n [ {\"b\":2}]\nhello\n{}\n{\n[1]\n{\"last\":1}";
        assert_eq!(
            read_all([input.as_bytes().to_vec()], 1000),
            [
                message("{\"a\":1}"),
                junk("[INFO] up"),
                junk("{'py': 1}"),
                message("[ {\"b\":2}]"),
                junk("hello"),
                message("{}"),
                junk("{"),
                junk("[1]"),
                message("{\"last\":1}"),
            ]
        );
    }

    #[test]
    fn a_line_over_the_limit_costs_only_itself() {
        let long = format!("{{\"id\":7,\"x\":\"{}\"}}", "y".repeat(10_000));
        let input = format!("{{\"a\":1}}\n{long}\n{{\"b\":2}}\n");
        for size in [1, 7, 100, 4096, 100_000] {
            let chunks = input.as_bytes().chunks(size).map(<[u8]>::to_vec);
            let lines = read_all(chunks, 5000);
            assert_eq!(lines.len(), 3);
            assert_eq!(
                (&lines[0], &lines[2]),
                (&message("{\"a\":1}"), &message("{\"b\":2}"))
            );
            let Line::TooLong { prefix, len } = &lines[1] else {
                panic!("{:?}", lines[1])
            };
            assert_eq!(*len, long.len() as u64);
            assert_eq!(&prefix[..], &long.as_bytes()[..PREFIX]);
        }
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let line = format!("{{\"{}", "z".repeat(98));
        assert_eq!(
            read_all([format!("{line}\n").into_bytes()], 100),
            [message(&line)]
        );
        assert!(matches!(
            read_all([format!("{line}\n").into_bytes()], 99)[0],
            Line::TooLong { len: 100, .. }
        ));
    }

    #[test]
    fn a_huge_line_does_not_stay_in_the_buffer() {
        let huge = format!("{{\"x\":\"{}\"}}\n{{\"b\":2}}\n{{\"c\"", "y".repeat(3 << 20));
        let chunks = huge
            .as_bytes()
            .chunks(KEEP)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>();
        let mut reader = LineReader::new(Chunks::new(chunks), 16 << 20);
        run(async {
            let Some(Line::Message(line)) = reader.next().await else {
                panic!()
            };
            assert_eq!(line.len(), (3 << 20) + 8);
            assert!(reader.lines.capacity() <= KEEP, "{}", reader.lines.capacity());
            // The buffer is no longer a part of the line's memory.
            assert!(line.is_unique());
            assert_eq!(reader.next().await, Some(message("{\"b\":2}")));
        });
    }

    #[test]
    fn skipping_needs_little_memory() {
        let chunk = vec![b'x'; KEEP];
        let chunks = std::iter::repeat_n(chunk, 64).chain([b"\n{\"b\":2}\n".to_vec()]);
        let mut reader = LineReader::new(Chunks::new(chunks), 100_000);
        run(async {
            assert!(matches!(
                reader.next().await,
                Some(Line::TooLong { len: 4_194_304, .. })
            ));
            assert!(reader.lines.capacity() <= 2 * KEEP, "{}", reader.lines.capacity());
            assert_eq!(reader.next().await, Some(message("{\"b\":2}")));
            assert_eq!(reader.next().await, None);
        });
    }

    #[test]
    fn cancelling_loses_nothing() {
        let input = b"{\"a\":1}\n{\"b\":2}\n";
        let mut reader = LineReader::new(Chunks::new(input.iter().map(|byte| vec![*byte])), 100);
        run(async {
            let mut lines = Vec::new();
            // Every read is pending first, so every poll of a new future is cancelled once.
            for _ in 0..100 {
                tokio::select! {
                    biased;
                    Some(line) = reader.next() => lines.push(line),
                    () = std::future::ready(()) => {}
                }
            }
            assert_eq!(lines, [message("{\"a\":1}"), message("{\"b\":2}")]);
        });
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"\n".to_vec()),
            2 => Just(b"{\"".to_vec()),
            1 => Just(b"\r\n".to_vec()),
            1 => Just(b" ".to_vec()),
            1 => Just(b"\xEF\xBB\xBF".to_vec()),
            1 => Just(b"[ {".to_vec()),
            3 => proptest::collection::vec(any::<u8>(), 0..40),
            1 => proptest::collection::vec(Just(b'x'), 0..9000),
        ];
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_gives_what_a_naive_splitter_gives(
            input in pieces(),
            sizes in proptest::collection::vec(1usize..3000, 1..20),
            max_line in prop_oneof![0usize..60, Just(4096usize), 5000usize..9000],
        ) {
            let mut chunks = Vec::new();
            let mut rest = &input[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, later) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk.to_vec());
                rest = later;
            }
            prop_assert_eq!(read_all(chunks, max_line), naive(&input, max_line));
        }
    }
}
