//! The filter chain of mcp-edge: who may call, how much, in what order.
//!
//! No proxy type, no socket and no file is named here: a filter is a rule about a [`Request`] made
//! of plain values, and is tested with plain values. Time comes from tokio's clock, which tests pause,
//! and from an injected [`clock`].
//!
//! The map:
//! - [`request`] one request's owned parts and what filters add to them; [`call`] what it asks of an
//!   MCP server, read by [`classify`]; [`ids`] the names that cross borders; [`permit`] guards that
//!   give things back.
//! - [`verdict`] what a filter says and how a reply is written; [`reason`] every reason there is.
//! - [`chain`] the `Filter` trait and the pass through the filters, in the order of the next lines.
//! - [`limits`] sizes · [`origin`] Host and Origin · [`jwt_auth`] identity, by the rules of [`jwt`]
//!   ([`token`] makes and explains tokens) · [`rate_limit`] how much in a window · [`concurrency`]
//!   how much at once ([`lane`] says what kind of traffic a request is)

pub mod call;
pub mod chain;
pub mod classify;
pub mod clock;
pub mod concurrency;
pub mod ids;
pub mod jwt;
pub mod jwt_auth;
pub mod lane;
pub mod limits;
pub mod origin;
pub mod permit;
pub mod rate_limit;
pub mod reason;
pub mod request;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
pub mod verdict;

pub use call::{Call, Era, Message, RpcMethod};
pub use chain::{Chain, Filter};
pub use clock::WallClock;
pub use ids::{Principal, RequestId, ServiceName, TierName};
pub use permit::{Permit, PermitCounts, PermitKind, Permits};
pub use reason::Reason;
pub use request::{End, Identity, Outcome, RawJson, Request, ResponseHead};
pub use verdict::{Rendered, Reply, RpcContext, Verdict};
