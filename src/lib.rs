//! mcp-edge: a front proxy for Model Context Protocol (MCP) servers.
//!
//! - [`config`]: what the operator wrote, checked, with every mistake reported in one run.
//! - [`upstream`]: the endpoints of each service, which of them serve, and the choice of one for a request.
//! - [`runtime`]: what starts the sidecars behind the endpoints, watches them and stops them.
//! - [`cli`]: one file per command.

pub mod cli;
pub mod config;
pub mod runtime;
pub mod upstream;
