//! mcp-edge: a front proxy for Model Context Protocol (MCP) servers.
//!
//! The way of a request, and the modules in the order in which it meets them:
//!
//! - [`cli`]: `mcp-edge run` reads a [`config`], every mistake of it reported in one run, starts what is below, and
//!   prints where each service is ([`keys`] are the secrets that it needs).
//! - [`proxy`]: the only folder that knows Pingora. Its hooks find the service by the routes, read the head of the body,
//!   and pass the request through the chain of the crate `mcp-edge-filters`.
//! - [`upstream`]: the service's pool chooses an endpoint: healthy, the session's own, or the client's by hash.
//! - [`runtime`]: what put that endpoint there: sidecars as child processes, started, watched and restarted by its
//!   supervisor, or addresses that somebody else serves. A sidecar is the crate `mcp-sidecar`.
//! - [`access_log`] and [`metrics`]: what stays of the request when it has ended.
//!
//! Beside the way: [`admin`] tells health, [`shutdown`] drains, [`demo`] is an MCP server to try all this with.

pub mod access_log;
pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
pub mod keys;
pub mod metrics;
pub mod proxy;
pub mod runtime;
pub mod shutdown;
pub mod upstream;
