//! What the edge asks of the sidecar itself: health, metrics, the end of streams.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::{App, Refusal, Reply, ReplyBody, text};
use crate::link::Era;
use crate::processes::Status;
use crate::reply::{Fault, Reason};
use crate::splice::Payload;

/// 200 while the command works, 503 before that is known and while it does not. `?deep=true` asks the server itself.
pub(super) async fn health(app: &Arc<App>, query: Option<&str>) -> Reply {
    let deep = query.is_some_and(|query| query.split('&').any(|part| part == "deep=true"));
    let asked = if deep {
        app.processes.ask_deep().await
    } else {
        Ok(())
    };
    let Status {
        state,
        era,
        mut reason,
        stderr,
    } = app.processes.health().status();
    let mut healthy = state == crate::processes::State::Healthy;
    let mut word = state.word();
    if let Err(why) = asked {
        (healthy, word) = (false, "unhealthy");
        reason = Some(why);
    }
    let era = match era {
        Some(Era::Modern) => "modern",
        Some(Era::Legacy) => "legacy",
        None => "unknown",
    };
    let body = json!({
        "status": word,
        "service": app.service,
        "endpoint": app.endpoint,
        "era": era,
        "processes": app.processes.running(),
        "sessions": app.sessions.len(),
        "restarts": app.metrics().restarts.get(),
        "reason": reason,
        "stderr": stderr,
    });
    super::json(
        if healthy {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        text(body.to_string()),
    )
}

pub(super) fn metrics(app: &App) -> Result<Reply, Refusal> {
    let text = app.metrics().text().map_err(|error| {
        Refusal::of(Fault::new(
            Reason::Internal,
            format!("the metrics could not be written: {error}"),
        ))
    })?;
    let mut reply = Response::new(ReplyBody::from(Payload::One(text.into())));
    reply.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    Ok(reply)
}

/// Ends the streams that last as long as their clients want: standalone streams and subscriptions. Answers of calls
/// that are under way are left to end by themselves: the edge waits for them.
pub(super) fn end_streams(app: &App) -> Reply {
    let mut ended = 0_usize;
    for session in app.sessions.all() {
        if session.standalone().attached() {
            session.standalone().hang_up();
            ended += 1;
        }
    }
    ended += app
        .processes
        .links()
        .iter()
        .map(|link| link.end_subscriptions())
        .sum::<usize>();
    super::json(StatusCode::OK, text(json!({ "ended": ended }).to_string()))
}
