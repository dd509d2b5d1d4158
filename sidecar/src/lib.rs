//! mcp-sidecar: one stdio MCP server on one side, Streamable HTTP on the other.
//!
//! The way of a message: [`http`] reads a request and decides by its era · [`session`] a legacy client's session ·
//! [`processes`] which server process serves it, started under [`stdio`]'s guard · [`link`] that process's calls,
//! with ids spliced into the bytes of [`message`]s · [`stream`] what comes back, until a client reads it.
//! [`audience`] who shares a process · [`reply`] the sidecar's own answers · [`cli`] the program.
//!
//! Everything runs on one thread: a message costs no wake-up of another core, and a server's parent-death signal is
//! tied to the thread that started it, which must be the one that lives as long as the process.

mod audience;
pub mod cli;
mod http;
mod link;
mod message;
mod metrics;
mod processes;
mod reply;
mod scan;
mod serve;
mod session;
mod splice;
pub mod stdio;
mod stream;
