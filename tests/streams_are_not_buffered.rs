//! Every event reaches the client when it happens, not when the answer ends.

mod support;

use serde_json::json;
use support::mcp::Session;
use support::{Edge, anonymous, demo};

#[test]
fn the_first_progress_is_here_while_the_call_still_runs() {
    let edge = Edge::start(&anonymous(&demo("demo", "")));
    let session = Session::open(edge.public, "/mcp/demo");
    let mut stream = session.stream(1, "slow", json!({"ms": 600_000, "steps": 1000}), 7);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    // The call takes ten minutes and the test has half a minute: a buffered stream would show nothing by then.
    for step in 1..=3 {
        let message = stream.message().unwrap();
        assert_eq!(
            (
                &message["params"]["progressToken"],
                &message["params"]["progress"]
            ),
            (&json!(7), &json!(step))
        );
    }
}
