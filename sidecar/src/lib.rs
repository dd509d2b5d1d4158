//! The translator of mcp-edge: one stdio MCP server on one side, Streamable HTTP on the other.

pub mod stdio;
