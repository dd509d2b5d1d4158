//! Bodies in and out.
//!
//! Invariants: a request body is never held beyond the limit; an answer in parts is sent without being
//! copied together.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::events::Events;
use crate::reply::{Fault, Reason};
use crate::splice::Payload;

/// What is sent back.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// Whole, its length known.
    Whole(VecDeque<Bytes>),
    /// An event stream.
    Events(Box<Events>),
}

impl ReplyBody {
    pub(crate) fn empty() -> Self {
        Self::Whole(VecDeque::new())
    }
}

impl From<Payload> for ReplyBody {
    fn from(payload: Payload) -> Self {
        Self::Whole(match payload {
            Payload::One(bytes) => VecDeque::from([bytes]),
            Payload::Parts(parts) => parts.into(),
        })
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(parts) => Poll::Ready(parts.pop_front().map(|part| Ok(Frame::data(part)))),
            Self::Events(events) => events
                .poll_next(cx)
                .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(parts) if parts.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(parts) => SizeHint::with_exact(parts.iter().map(|part| part.len() as u64).sum()),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// Reads a request body of at most `limit` bytes.
pub(super) async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let too_large = || {
        Fault::new(
            Reason::BodyTooLarge,
            format!("the body is larger than {limit} bytes"),
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Fault::new(
                Reason::BadRequest,
                format!("the body could not be read to its end: {error}"),
            )
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large());
        }
        // Nearly all bodies come in one piece, which is then not copied.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            let whole = usize::try_from(body.size_hint().lower()).unwrap_or_default();
            all.reserve((first.len() + data.len() + whole).min(limit));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
