//! Reading the head of a request's body before an upstream is chosen.
//!
//! Pingora sends upstream only what it kept in its retry buffer, 64 KiB at most, and what it reads afterwards; bytes
//! that were read early without fitting there are lost. So the rules here are narrow:
//!
//! - a declared length within the buffer: read whole, so that a client that leaves while it waits is seen at once;
//! - a larger declared length: one read, which always fits; the rest streams;
//! - an unknown length: read until there is enough to tell what is called. If that overran the buffer, the chunks
//!   are put before the next ones ([`Head::held`]); if the body also ended there, it cannot be forwarded any more.
//!
//! Invariant: after [`read_head`] returned `Ok`, every byte of the body reaches the upstream exactly once.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::proxy::Session;

/// Pingora's retry buffer: the most that may be read before an upstream is chosen.
pub(crate) const MAX_EARLY: u64 = 64 * 1024;

/// With this much of a body of unknown length, its method and name have been seen, or the message is an odd one.
const ENOUGH: usize = 1024;

/// How long a small body may take to arrive. Longer than any sane client needs, short for one that trickles.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// What was read of a body before an upstream is chosen.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The first bytes, for classification.
    pub(crate) bytes: Bytes,
    /// True if `bytes` is the whole body.
    pub(crate) complete: bool,
    /// Bytes that Pingora no longer has and that must go before the next chunk.
    pub(crate) held: Option<Bytes>,
}

/// Why a body's head could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client left, or broke the framing.
    #[error("reading the request body failed: {0}")]
    Client(#[source] Box<pingora::Error>),
    /// It trickled.
    #[error("the request body did not arrive within 30 s")]
    Slow,
    /// A chunked body a little over 64 KiB, all of it read at once: see the module's rules.
    #[error("a chunked body over 64 KiB arrived in one piece; send Content-Length")]
    Unforwardable,
}

/// Reads what may be read of the body; `declared` is its Content-Length.
///
/// # Errors
/// See [`BodyError`]; the request cannot go on.
pub(crate) async fn read_head(session: &mut Session, declared: Option<u64>) -> Result<Head, BodyError> {
    if session.as_downstream_mut().is_body_empty() {
        return Ok(Head {
            complete: true,
            ..Head::default()
        });
    }
    tokio::time::timeout(ARRIVES_WITHIN, read(session, declared))
        .await
        .map_err(|_| BodyError::Slow)?
}

async fn read(session: &mut Session, declared: Option<u64>) -> Result<Head, BodyError> {
    let session = session.as_downstream_mut();
    session.enable_retry_buffering();
    if expects_continue(session.req_header()) {
        session
            .write_continue_response()
            .await
            .map_err(BodyError::Client)?;
    }
    let mut chunks = Chunks::default();
    let complete = loop {
        let enough = match declared {
            Some(length) if length <= MAX_EARLY => false,
            Some(_) => !chunks.is_empty(),
            None => chunks.len() >= ENOUGH,
        };
        if enough {
            break session.is_body_done();
        }
        match session.read_request_body().await.map_err(BodyError::Client)? {
            Some(chunk) => chunks.push(chunk),
            None => break true,
        }
    };
    let bytes = chunks.into_bytes();
    if !session.retry_buffer_truncated() {
        return Ok(Head {
            bytes,
            complete,
            held: None,
        });
    }
    if complete {
        return Err(BodyError::Unforwardable);
    }
    Ok(Head {
        held: Some(bytes.clone()),
        bytes,
        complete,
    })
}

/// RFC 9110 section 10.1.1: the client waits for our word before it sends the body.
fn expects_continue(request: &pingora::http::RequestHeader) -> bool {
    let expect = request.headers.get(http::header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Chunks in order; the usual single one is never copied.
#[derive(Default)]
enum Chunks {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(chunk),
            Self::One(first) => {
                let mut all = BytesMut::with_capacity(first.len() + chunk.len());
                all.extend_from_slice(&first);
                all.extend_from_slice(&chunk);
                Self::Many(all)
            }
            Self::Many(mut all) => {
                all.extend_from_slice(&chunk);
                Self::Many(all)
            }
        };
    }

    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(chunk) => chunk.len(),
            Self::Many(all) => all.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::One(chunk) => chunk,
            Self::Many(all) => all.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_their_order() {
        let mut chunks = Chunks::default();
        assert!(chunks.is_empty());
        for part in ["a", "bc", "", "def"] {
            chunks.push(Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(chunks.len(), 6);
        assert_eq!(chunks.into_bytes(), "abcdef");
    }
}
