//! mcp-edge: a front proxy for Model Context Protocol (MCP) servers.
//!
//! - [`config`]: what the operator wrote, checked, with every mistake reported in one run.
//! - [`cli`]: one file per command.

pub mod cli;
pub mod config;
