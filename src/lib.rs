//! mcp-edge: a front proxy for Model Context Protocol (MCP) servers.

pub mod access_log;
pub mod admin;
pub mod config;
pub mod demo;
pub mod metrics;
pub mod proxy;
pub mod runtime;
pub mod shutdown;
pub mod upstream;
