//! What a request asks of an MCP server, as far as the edge needs to know it.
//!
//! Invariant: a `Call` never names a method or tool that was not read unambiguously. What is too
//! large or too odd to read is `Unknown`, which every rule treats as the most expensive and least
//! allowed thing it could be.

use std::fmt;
use std::sync::Arc;

/// The protocol family of a client (design, "Words").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Era {
    /// Revisions up to 2025-11-25: `initialize` and sessions.
    #[default]
    Legacy,
    /// Revision 2026-07-28 and later: every request stands alone.
    Modern,
}

/// The method of a JSON-RPC message. Methods that some rule knows are variants, so that the usual
/// request allocates nothing here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum RpcMethod {
    /// One of [`KNOWN`].
    Known(&'static str),
    /// Anything else, as sent.
    Other(Arc<str>),
}

/// The methods of all revisions of the specification that a client may send.
pub const KNOWN: &[&str] = &[
    "initialize",
    "ping",
    "server/discover",
    "tools/call",
    "tools/list",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/get",
    "prompts/list",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
    "tasks/update",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
];

impl RpcMethod {
    /// Finds the known method, or keeps the text.
    pub fn new(text: &str) -> Self {
        KNOWN
            .iter()
            .find(|known| **known == text)
            .map_or_else(|| Self::Other(text.into()), |k| Self::Known(k))
    }

    /// The method as it is written on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(text) => text,
            Self::Other(text) => text,
        }
    }
}

impl fmt::Debug for RpcMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One JSON-RPC message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request: it has an id and will be answered.
    Request {
        /// `method`
        method: RpcMethod,
        /// `params.name` (`tools/call`, `prompts/get`) or `params.uri` (`resources/read`).
        name: Option<Arc<str>>,
    },
    /// A notification: no id, no answer.
    Notification {
        /// `method`
        method: RpcMethod,
    },
    /// A client's answer to a request of the server (legacy only).
    Response,
}

impl Message {
    /// The method, if the message has one.
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Request { method, .. } | Self::Notification { method } => Some(method.as_str()),
            Self::Response => None,
        }
    }

    /// The tool that this message would run.
    pub fn tool(&self) -> Option<&str> {
        match self {
            Self::Request {
                method: RpcMethod::Known("tools/call"),
                name,
            } => name.as_deref(),
            _ => None,
        }
    }
}

/// What a request asks, read by [`crate::classify`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Call {
    /// No message at all: a GET stream, a DELETE, a health page.
    #[default]
    NotRpc,
    /// A message (or several) that could not be read unambiguously within the limits: charged as a
    /// tool call, refused where any rule names tools.
    Unknown,
    /// One message.
    Single(Message),
    /// A batch (2025-03-26 only): every element counts and is authorised.
    Batch(Vec<Message>),
}

impl Call {
    /// A REST tool call (`/api/{service}/tools/{tool}`): the same to every rule as `tools/call`.
    pub fn tool(name: impl Into<Arc<str>>) -> Self {
        Self::Single(Message::Request {
            method: RpcMethod::Known("tools/call"),
            name: Some(name.into()),
        })
    }

    /// The messages that were read, in their order.
    pub fn messages(&self) -> &[Message] {
        match self {
            Self::NotRpc | Self::Unknown => &[],
            Self::Single(message) => std::slice::from_ref(message),
            Self::Batch(messages) => messages,
        }
    }

    /// A label for logs and statistics: the method, `batch`, `unknown`, or `-`. Only methods of the
    /// specification are named, so that the number of labels is bounded.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotRpc => "-",
            Self::Unknown => "unknown",
            Self::Batch(_) => "batch",
            Self::Single(Message::Response) => "response",
            Self::Single(Message::Request { method, .. } | Message::Notification { method }) => {
                match method {
                    RpcMethod::Known(text) => text,
                    RpcMethod::Other(_) => "other",
                }
            }
        }
    }

    /// Whether this opens a stream that lives as long as the client wants (`subscriptions/listen`).
    pub fn is_subscription(&self) -> bool {
        self.messages()
            .iter()
            .any(|m| m.method() == Some("subscriptions/listen"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_methods_cost_no_allocation_and_compare_equal() {
        assert_eq!(RpcMethod::new("tools/call"), RpcMethod::Known("tools/call"));
        assert_eq!(RpcMethod::new("x/y"), RpcMethod::Other("x/y".into()));
    }

    #[test]
    fn labels_are_bounded() {
        let other = Call::Single(Message::Request {
            method: RpcMethod::new("evil/123"),
            name: None,
        });
        assert_eq!(other.label(), "other");
        assert_eq!(Call::tool("echo").label(), "tools/call");
        assert_eq!(Call::Unknown.label(), "unknown");
    }

    #[test]
    fn a_rest_tool_call_is_a_tool_call() {
        assert_eq!(Call::tool("echo").messages()[0].tool(), Some("echo"));
    }
}
