//! What kind of traffic a request is, for the filters that count and order.
//!
//! Invariant: what could not be read ([`Call::Unknown`]) is treated as a tool call, the dearest kind.

use std::time::Duration;

use crate::call::{Call, Message};
use crate::request::Request;

/// Kinds of traffic, by how long they may wait behind others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Handshakes and pings: a client that cannot open a session retries and makes things worse.
    Control,
    /// Tool calls, reads, prompts, completions and what is unknown.
    Call,
    /// Lists.
    List,
    /// Anything else that is answered.
    Background,
    /// Notifications (cancellations!), answers of the client, session ends: never counted, never queued.
    Bypass,
    /// A stream that lives as long as the client wants.
    Stream,
}

impl Lane {
    /// The lane of a request.
    pub fn of(req: &Request) -> Self {
        if req.wants_stream {
            return Self::Stream;
        }
        match &req.call {
            Call::NotRpc => Self::Bypass,
            Call::Unknown => Self::Call,
            Call::Single(message) => Self::of_message(message),
            Call::Batch(messages) => {
                let answered = messages.iter().any(|m| matches!(m, Message::Request { .. }));
                if answered { Self::Call } else { Self::Bypass }
            }
        }
    }

    fn of_message(message: &Message) -> Self {
        let Message::Request { method, .. } = message else {
            return Self::Bypass;
        };
        match method.as_str() {
            "initialize" | "ping" | "server/discover" => Self::Control,
            "tools/call" | "resources/read" | "prompts/get" | "completion/complete" => Self::Call,
            "tools/list" | "resources/list" | "resources/templates/list" | "prompts/list" => Self::List,
            "subscriptions/listen" => Self::Stream,
            _ => Self::Background,
        }
    }

    /// The place in a client's own queue is arrival plus this many milliseconds. It is bounded, and so
    /// is how long a lower lane can be passed by (HAProxy's `set-priority-offset`).
    pub fn offset_millis(self) -> i64 {
        match self {
            Self::Control => -2000,
            Self::List => 250,
            Self::Background => 1000,
            Self::Call | Self::Bypass | Self::Stream => 0,
        }
    }
}

/// What a request costs against a client's rate: calls against the limit itself, everything else
/// against a ceiling of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateCost {
    /// Units against the limit.
    pub charged: u32,
    /// Units against the ceiling.
    pub other: u32,
}

impl RateCost {
    /// A batch costs its number of requests.
    pub fn of(req: &Request) -> Self {
        let charged = match (&req.call, Lane::of(req)) {
            (Call::Batch(messages), _) => messages
                .iter()
                .filter(|m| matches!(m, Message::Request { .. }))
                .count(),
            (_, Lane::Call) => 1,
            _ => return Self { charged: 0, other: 1 },
        };
        Self {
            charged: u32::try_from(charged).unwrap_or(u32::MAX).max(1),
            other: 0,
        }
    }
}

/// What is left of the time that a request may wait at all.
pub(crate) fn remaining_wait(req: &Request, max: Duration) -> Duration {
    let max = max.min(MAX_WAIT);
    req.max_wait
        .map_or(max, |own| own.min(max))
        .saturating_sub(req.waited)
}

/// Every wait ends within this time: the edge sends nothing while a request waits.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::RpcMethod;

    fn req(call: Call) -> Request {
        let mut req = Request::new("r".into(), http::Method::POST, "/mcp/files", "files".into());
        req.call = call;
        req
    }

    fn message(method: &str) -> Message {
        match method.starts_with("notifications/") {
            true => Message::Notification {
                method: RpcMethod::new(method),
            },
            false => Message::Request {
                method: RpcMethod::new(method),
                name: None,
            },
        }
    }

    #[test]
    fn lanes_and_costs() {
        for (method, lane, charged) in [
            ("initialize", Lane::Control, 0),
            ("ping", Lane::Control, 0),
            ("tools/call", Lane::Call, 1),
            ("resources/read", Lane::Call, 1),
            ("tools/list", Lane::List, 0),
            ("logging/setLevel", Lane::Background, 0),
            ("notifications/cancelled", Lane::Bypass, 0),
            ("subscriptions/listen", Lane::Stream, 0),
        ] {
            let req = req(Call::Single(message(method)));
            assert_eq!(
                (Lane::of(&req), RateCost::of(&req).charged),
                (lane, charged),
                "{method}"
            );
        }
        assert_eq!(
            RateCost::of(&req(Call::Unknown)),
            RateCost { charged: 1, other: 0 }
        );
        let batch = Call::Batch(vec![
            message("ping"),
            message("tools/call"),
            message("notifications/cancelled"),
        ]);
        assert_eq!(RateCost::of(&req(batch)).charged, 2);
        assert_eq!(Lane::of(&req(Call::NotRpc)), Lane::Bypass);
    }

    #[test]
    fn time_that_was_waited_counts() {
        let mut req = req(Call::Unknown);
        req.waited = Duration::from_secs(1);
        assert_eq!(
            remaining_wait(&req, Duration::from_secs(5)),
            Duration::from_secs(4)
        );
        assert_eq!(
            remaining_wait(&req, Duration::from_secs(500)),
            MAX_WAIT - req.waited
        );
        req.max_wait = Some(Duration::from_millis(1500));
        assert_eq!(
            remaining_wait(&req, Duration::from_secs(5)),
            Duration::from_millis(500)
        );
    }
}
