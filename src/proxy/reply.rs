//! Writing the edge's own answers, and turning Pingora's errors into them: the one place where an error becomes a
//! status.

use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use mcp_edge_filters::{Reason, Reply, RequestId, RpcContext};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::body::BodyError;
use super::deadline::Passed;
use super::inbound::REQUEST_ID;
use crate::config::ServiceName;
use crate::upstream::NoEndpoint;

/// Sends a reply. A body that has not been read to its end would be taken for the next request, so the connection
/// is closed then.
///
/// # Errors
/// The client is gone.
pub(super) async fn send(
    session: &mut Session,
    reply: &Reply,
    rpc: RpcContext<'_>,
    id: &RequestId,
) -> Result<()> {
    let rendered = reply.render(rpc);
    let mut head = ResponseHeader::build(rendered.status, Some(rendered.headers.len() + 2))?;
    for (name, value) in rendered.headers {
        head.append_header(name, value)?;
    }
    head.insert_header(CONTENT_LENGTH, HeaderValue::from(rendered.body.len()))?;
    head.insert_header(REQUEST_ID, id.as_str())?;
    if !session.as_downstream_mut().is_body_done() {
        session.set_keepalive(None);
    }
    // A HEAD request is told the length and gets no body.
    let no_body = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), no_body).await?;
    if !no_body {
        session.write_response_body(Some(rendered.body), true).await?;
    }
    Ok(())
}

/// What a failure comes to.
pub(super) enum Failure {
    /// The client left, or broke the framing so that nothing more can be told to it.
    Client,
    /// The edge refuses.
    Refused(Reply),
    /// The upstream failed.
    Upstream(Reply),
}

/// What to tell the client after Pingora gave a request up. `passed` is the time limit that ended it, if one did.
pub(super) fn explain(error: &Error, passed: Option<Passed>) -> Failure {
    let timeout = |message| Failure::Upstream(Reply::new(Reason::UpstreamTimeout, message));
    match passed {
        Some(Passed::FirstByte) => {
            return timeout("the server did not begin to answer in time (timeouts.first_byte)");
        }
        Some(Passed::Total) => return timeout("the answer was not complete in time (timeouts.total)"),
        None => {}
    }
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(413)) => Failure::Refused(Reply::new(
            Reason::BodyTooLarge,
            "the request body is over the route's limit",
        )),
        (ErrorSource::Upstream, ErrorType::ReadTimedout) => timeout("the server fell silent (timeouts.idle)"),
        (ErrorSource::Upstream, _) => Failure::Upstream(Reply::new(
            Reason::UpstreamFailed,
            "the connection to the server's sidecar failed",
        )),
        (ErrorSource::Downstream, _) => Failure::Client,
        _ => Failure::Refused(Reply::new(
            Reason::Internal,
            "the edge failed to handle the request",
        )),
    }
}

/// What to tell the client whose body could not be read; nothing to one that is gone.
pub(super) fn body_error(error: &BodyError) -> Option<Reply> {
    match error {
        BodyError::Client(cause) if cause.etype() == &ErrorType::ConnectionClosed => None,
        BodyError::Client(_) => Some(Reply::new(
            Reason::BadRequest,
            "the request body is not framed as HTTP asks",
        )),
        BodyError::Slow => Some(Reply::new(Reason::RequestTimeout, error.to_string())),
        BodyError::Unforwardable => Some(Reply::new(Reason::BodyTooLarge, error.to_string())),
    }
}

/// What to tell the client when no endpoint can take its request.
pub(super) fn no_endpoint(none: &NoEndpoint, service: &ServiceName) -> Reply {
    let (reason, message) = match none {
        NoEndpoint::Starting => (
            Reason::Starting,
            format!("`{service}` is starting; try again in a moment"),
        ),
        NoEndpoint::Unhealthy => (
            Reason::NoHealthyUpstream,
            format!("no replica of `{service}` is healthy"),
        ),
        NoEndpoint::SessionUnavailable => (
            Reason::NoHealthyUpstream,
            format!("the replica of `{service}` that holds this session does not answer"),
        ),
        NoEndpoint::Exhausted => (
            Reason::UpstreamFailed,
            format!("no replica of `{service}` took the connection"),
        ),
    };
    Reply::new(reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(failure: Failure) -> Option<Reason> {
        match failure {
            Failure::Client => None,
            Failure::Refused(reply) | Failure::Upstream(reply) => Some(reply.reason),
        }
    }

    #[test]
    fn errors_become_the_designs_reasons() {
        let reset = Error::new(ErrorType::ConnectionClosed).into_up();
        assert_eq!(reason(explain(&reset, None)), Some(Reason::UpstreamFailed));
        assert_eq!(
            reason(explain(&reset, Some(Passed::FirstByte))),
            Some(Reason::UpstreamTimeout)
        );
        let silent = Error::new(ErrorType::ReadTimedout).into_up();
        assert_eq!(reason(explain(&silent, None)), Some(Reason::UpstreamTimeout));
        let gone = Error::new(ErrorType::ConnectionClosed).into_down();
        assert_eq!(reason(explain(&gone, None)), None);
        let large = Error::new(ErrorType::HTTPStatus(413)).into_down();
        assert_eq!(reason(explain(&large, None)), Some(Reason::BodyTooLarge));
    }
}
