//! One request's state, from its first hook to its drop.
//!
//! Pingora calls no hook when a filter panics or its runtime ends, so nothing here is given back by a hook: the
//! filters' permits (in [`Request`]), the endpoint's lease, the deadline's registration and the count of requests
//! under way are guards. Invariant: dropping a `Ctx` gives everything back, whatever happened before.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderValue;
use mcp_edge_filters::{Reason, Reply, Request, RequestId};

use super::deadline::Watch;
use super::router::Matched;
use super::state::State;
use crate::shutdown::UnderWay;
use crate::upstream::{EndpointId, Lease, Pool};

/// What a request carries through Pingora's hooks.
pub struct Ctx {
    pub(super) started: Instant,
    /// The tracking id: in the answer, in the log and at the sidecar the same.
    pub(super) id: RequestId,
    /// The configuration of this request: a reload never changes a request under way.
    pub(super) state: Arc<State>,
    pub(super) request: Option<Request>,
    pub(super) matched: Option<Matched>,
    pub(super) dispatch: Option<Dispatch>,
    /// Body bytes that must go before the next chunk (see `body`).
    pub(super) held: Option<Bytes>,
    pub(super) bytes_in: u64,
    /// What the client is to be told, when Pingora asks after a failure.
    pub(super) refusal: Option<Box<Reply>>,
    pub(super) ending: Ending,
    /// Last, so that the request counts until all else is given back.
    pub(super) _under_way: UnderWay,
}

/// A request's way to an upstream.
pub(super) struct Dispatch {
    pub(super) pool: Arc<Pool>,
    /// The legacy session, as sent: its prefix names the endpoint.
    pub(super) session: Option<HeaderValue>,
    pub(super) lease: Option<Lease>,
    pub(super) tried: Vec<EndpointId>,
    pub(super) watch: Option<Watch>,
    /// When the current attempt was sent.
    pub(super) sent: Option<Instant>,
}

/// How the request ended, as far as is known.
#[derive(Default)]
pub(super) struct Ending {
    /// The edge's own reason, if it answered or the upstream failed.
    pub(super) reason: Option<Reason>,
    /// The upstream failed (else a `reason` is a refusal).
    pub(super) upstream_failed: bool,
    /// `x-mcp-edge-outcome`, as the sidecar sent it.
    pub(super) outcome: Option<HeaderValue>,
    pub(super) event_stream: bool,
}

impl Ctx {
    pub(super) fn new(state: Arc<State>, under_way: UnderWay) -> Self {
        Self {
            started: Instant::now(),
            // Known once the headers are, in the first hook.
            id: RequestId::new("-"),
            state,
            request: None,
            matched: None,
            dispatch: None,
            held: None,
            bytes_in: 0,
            refusal: None,
            ending: Ending::default(),
            _under_way: under_way,
        }
    }
}
