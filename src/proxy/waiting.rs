//! Waiting on behalf of a client, for as long as it is there.
//!
//! Pingora never looks at the client while a hook waits: without this, a request whose client has left would still be
//! sent. Invariant: nothing of a request's body is lost by looking.

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

/// Waits for `work`, and gives it up when the client leaves meanwhile: Pingora itself never looks while a hook waits.
///
/// On HTTP/1.1 a client can be watched only once its body has been read; before, the watch would eat a byte of it.
pub(super) async fn while_client_stays<W: Future>(session: &mut Session, work: W) -> Result<W::Output> {
    let left = || Error::explain(ErrorType::ConnectionClosed, "left while waiting").into_down();
    let session = session.as_downstream_mut();
    if session.is_http2() {
        let Some(gone) = session.watch_h2_stream_close() else {
            return Ok(work.await);
        };
        return tokio::select! {
            biased;
            done = work => Ok(done),
            _ = gone => Err(left()),
        };
    }
    if !session.is_body_done() {
        return Ok(work.await);
    }
    tokio::select! {
        biased;
        done = work => Ok(done),
        _ = session.read_body_or_idle(true) => Err(left()),
    }
}
