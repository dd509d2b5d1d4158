//! The stdio side: one MCP server program, its whole process tree, and its lines.
//!
//! Problem: a stdio server is rarely one process (`npx` → `sh` → `node`), prints what it likes on both outputs, and
//! must never outlive the translator that started it, however that one ends.
//!
//! Invariant: every process below a [`Process`] is dead and reaped soon after the [`Process`] is dropped, after the
//! server itself ends, or after the translator is killed; and nothing a server prints can make the translator grow.
//!
//! ```text
//! sidecar ── guard (subreaper, own session) ── server (own process group) ── whatever it starts
//!    │ stdin, stdout, stderr: pipes that go straight to the server
//! ```
//!
//! | file | what |
//! |---|---|
//! | `process` | starts, signals, stops and reaps the guard; the API of this folder |
//! | `guard` | the hidden `guard` command: kills and reaps every descendant |
//! | `exec` | the guard's child on its way to become the server |
//! | `proctree` | who descends from whom, read from `/proc` |
//! | `orphans` | what the sidecar adopts when a guard itself is killed |
//! | `exit` | how a server ended, in words |
//! | `split`, `framing`, `input` | lines from and to the server |
//! | `stderr` | the server's log output: into `tracing` and a ring |
//! | `backoff` | when to start it again (pure) |

pub mod backoff;
mod exec;
pub mod exit;
pub mod framing;
pub mod guard;
pub mod input;
pub mod orphans;
pub mod process;
mod proctree;
mod split;
pub mod stderr;

pub use backoff::{Backoff, CrashLoop, RestartAt};
pub use exit::Exit;
pub use framing::{Line, LineReader};
pub use guard::guard_main;
pub use input::ServerInput;
pub use process::{Process, ProcessLimits, ServerCommand, SpawnError, Started};
