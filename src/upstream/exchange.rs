//! One small HTTP exchange with a sidecar, for health checks and control calls.
//!
//! Requests of clients never come this way: they are Pingora's. Invariant: an exchange ends within its time limit, holds
//! at most 64 KiB of the answer, and leaves no connection and no task behind.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::endpoint::{Endpoint, EndpointAddr};

const MAX_ANSWER: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("cannot connect to {addr}: {source}")]
    Connect { addr: EndpointAddr, source: io::Error },
    #[error("no answer from {addr} within {limit:?}")]
    TimedOut { addr: EndpointAddr, limit: Duration },
    #[error("{addr} gave no valid HTTP answer: {source}")]
    Http {
        addr: EndpointAddr,
        source: hyper::Error,
    },
    #[error("the answer of {addr} is larger than {MAX_ANSWER} bytes")]
    TooLarge { addr: EndpointAddr },
    #[error("`{path}` is no path of a URL: it must start with / and hold no spaces")]
    BadPath { path: String },
}

/// Sends a request without body, with the endpoint's token, and reads the whole answer.
pub(crate) async fn exchange(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<(StatusCode, Bytes), ExchangeError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost");
    if let Some(value) = endpoint.authorization() {
        request = request.header(AUTHORIZATION, value.clone());
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|_| ExchangeError::BadPath {
            path: path.to_owned(),
        })?;
    let addr = endpoint.addr();
    tokio::time::timeout(limit, connect_and_send(addr, request))
        .await
        .map_err(|_| ExchangeError::TimedOut {
            addr: addr.clone(),
            limit,
        })?
}

async fn connect_and_send(
    addr: &EndpointAddr,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Bytes), ExchangeError> {
    let connect = |source| ExchangeError::Connect {
        addr: addr.clone(),
        source,
    };
    match addr {
        EndpointAddr::Tcp(to) => send(addr, TcpStream::connect(to).await.map_err(connect)?, request).await,
        EndpointAddr::Unix(path) => {
            send(addr, UnixStream::connect(path).await.map_err(connect)?, request).await
        }
    }
}

async fn send<S>(
    addr: &EndpointAddr,
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Bytes), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let http = |source| ExchangeError::Http {
        addr: addr.clone(),
        source,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(http)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        // `sender` is dropped here, which ends `connection`.
        match body {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(ExchangeError::TooLarge { addr: addr.clone() })
            }
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(source) => http(*source),
                Err(_) => ExchangeError::TooLarge { addr: addr.clone() },
            }),
        }
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    // The connection is driven here instead of in a task of its own, so dropping this future closes it. Once it has
    // ended, what it had read is still to be handed over.
    tokio::select! {
        biased;
        result = &mut answer => result,
        _ = &mut connection => answer.await,
    }
}
