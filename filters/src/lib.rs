//! The filter chain of mcp-edge: who may call, how much, in what order.
//!
//! No proxy type, no socket and no file is named here: a filter is a rule about a [`Request`] made
//! of plain values, and is tested with plain values. Time comes from tokio's clock, which tests pause.
//!
//! The map:
//! - [`request`] one request's owned parts and what filters add to them; [`call`] what it asks of an
//!   MCP server; [`ids`] the names that cross borders; [`permit`] guards that give things back.
//! - [`verdict`] what a filter says and how a reply is written; [`reason`] every reason there is.
//! - [`chain`] the `Filter` trait and the pass through the filters.

pub mod call;
pub mod chain;
pub mod clock;
pub mod chain;
