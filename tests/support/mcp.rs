//! A legacy MCP client, as thin as a test needs it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{Connection, Request, Response, Stream};

/// An initialised session.
#[derive(Clone)]
pub struct Session {
    pub to: SocketAddr,
    pub path: String,
    pub id: String,
    pub headers: Vec<(String, String)>,
}

/// A JSON-RPC request as text.
pub fn rpc(id: impl Into<Value>, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}).to_string()
}

pub fn initialize_body(version: &str) -> String {
    let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}});
    rpc(0, "initialize", params)
}

impl Session {
    pub fn open(to: SocketAddr, path: &str) -> Self {
        Self::open_with(to, path, &[])
    }

    /// `headers` go with every request.
    pub fn open_with(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut session = Self {
            to,
            path: path.to_owned(),
            id: String::new(),
            headers,
        };
        let answer = session.post(&initialize_body("2025-11-25")).send(to);
        assert_eq!(answer.status, 200, "initialize: {answer:?}");
        session.id = answer.header("mcp-session-id").expect("a session id").to_owned();
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
        assert_eq!(session.post(&done).send(to).status, 202);
        session
    }

    /// A POST of this session, not yet sent.
    pub fn post(&self, body: &str) -> Request {
        self.dress(Request::post(&self.path, body))
    }

    /// Adds the session's headers.
    pub fn dress(&self, mut request: Request) -> Request {
        if !self.id.is_empty() {
            request = request
                .header("Mcp-Session-Id", &self.id)
                .header("MCP-Protocol-Version", "2025-11-25");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    pub fn call_request(&self, id: impl Into<Value>, tool: &str, arguments: Value) -> Request {
        self.post(&rpc(
            id,
            "tools/call",
            json!({"name": tool, "arguments": arguments}),
        ))
    }

    /// A tool call that is answered with one JSON object.
    pub fn call(&self, id: impl Into<Value>, tool: &str, arguments: Value) -> Response {
        self.call_request(id, tool, arguments).send(self.to)
    }

    /// A tool call with a progress token, answered as a stream.
    pub fn stream(&self, id: i64, tool: &str, arguments: Value, token: impl Into<Value>) -> Stream {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": token.into()}});
        self.post(&rpc(id, "tools/call", params)).open(self.to)
    }

    /// The standalone stream.
    pub fn listen(&self) -> Stream {
        self.dress(Request::new("GET", &self.path).header("Accept", "text/event-stream"))
            .open(self.to)
    }

    pub fn connection(&self) -> Connection {
        Connection::open(self.to)
    }
}

/// The text of a tool's result.
pub fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text in {answer}"))
}
