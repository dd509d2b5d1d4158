//! Pingora's side of the edge: the only folder that knows its request types.
//!
//! A request meets, in this order: [`service`] (the hooks, thin) · [`inbound`] (a filter's view of the request's
//! headers) · [`router`] (which service) · [`body`] (the part that is read early) · the filter chain, given up when the client leaves ([`waiting`]) · [`peer`]
//! (which endpoint, and what is sent to it) · [`deadline`] (limits while the upstream answers) · [`reply`] (what the
//! client gets when there is no answer) · [`record`] (access log and metrics). [`ctx`] is one request's state;
//! [`state`] is what all requests of one configuration share.

mod body;
mod ctx;
mod deadline;
mod inbound;
mod peer;
mod record;
mod reply;
mod router;
mod service;
mod state;
mod waiting;

pub use service::{EdgeProxy, Shared};
pub use state::{State, StateError, issuers};
