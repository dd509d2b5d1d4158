//! The running sidecar: its listener, its background tasks, and its way out.
//!
//! Invariants: one thread; the sidecar ends when it is told to, when its lifeline ends, and when its parent dies; it
//! ends its streams and its servers before it goes, within [`STOP`].

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use crate::cli::StartError;
use crate::http::{App, Guard};
use crate::metrics::Metrics;
use crate::processes::{Processes, Settings};
use crate::session::Sessions;

/// Time for servers to leave: their input is closed, then SIGTERM, then SIGKILL.
const STOP: Duration = Duration::from_secs(5);

/// Connections at once. The edge pools its own; the rest is for streams.
const MAX_CONNECTIONS: usize = 16_384;

/// Where to listen.
#[derive(Debug)]
pub(crate) enum Bind {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A checked command line.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bind: Bind,
    pub(crate) token: Option<String>,
    /// Standard input is held open by the edge for as long as it lives.
    pub(crate) lifeline: bool,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) service: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) keepalive: Duration,
    pub(crate) max_body: usize,
    pub(crate) settings: Settings,
}

/// Serves until it is told to stop.
///
/// # Errors
/// Nothing was started: the address, the token or the system.
pub(crate) fn run(plan: Plan) -> Result<(), StartError> {
    harden(plan.lifeline)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(plan))
}

/// Keeps the server from reading this process's memory and descriptors, and dies with the edge.
fn harden(lifeline: bool) -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if lifeline {
        let parent = rustix::process::getppid();
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // It may have died before the signal was set.
        if rustix::process::getppid() != parent {
            return Err(io::Error::other("the edge that started this sidecar has ended"));
        }
    }
    Ok(())
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    async fn bind(bind: Bind) -> Result<(Self, String), StartError> {
        match bind {
            Bind::Tcp(address) => {
                let failed = |error| StartError::Listen(address.to_string(), error);
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?.to_string();
                Ok((Self::Tcp(listener), bound))
            }
            Bind::Unix(path) => {
                let shown = path.display().to_string();
                let listener =
                    UnixListener::bind(&path).map_err(|error| StartError::Listen(shown.clone(), error))?;
                Ok((Self::Unix(listener, path), shown))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Whoever starts here next finds the place free; if it is gone already, so much the better.
            std::fs::remove_file(path).ok();
        }
    }
}

async fn serve(plan: Plan) -> Result<(), StartError> {
    let metrics = Arc::new(Metrics::new()?);
    let endpoint = match plan.endpoint {
        Some(endpoint) => endpoint,
        None => random_endpoint()?,
    };
    let (listener, shown) = Listener::bind(plan.bind).await?;
    let named = matches!(listener, Listener::Tcp(_));
    let guard = match plan.token {
        Some(token) => Guard::Token(token),
        None => Guard::Local {
            hosts: plan.allowed_hosts,
            origins: plan.allowed_origins,
            named,
        },
    };
    let seed = getrandom::u64().map_err(io::Error::other)?;
    let processes = Processes::new(plan.settings, Arc::clone(&metrics), seed);
    let sessions = Arc::new(Sessions::new(endpoint.clone()));
    let app = Arc::new(App {
        guard,
        processes: Arc::clone(&processes),
        sessions: Arc::clone(&sessions),
        metrics,
        service: plan.service,
        endpoint,
        keepalive: plan.keepalive,
        max_body: plan.max_body,
    });
    let told = told_to_stop(plan.lifeline)?;
    let tasks = TaskTracker::new();
    tasks.spawn(Arc::clone(&processes).watch_health());
    tasks.spawn(Arc::clone(&processes).sweep(Arc::clone(&sessions)));
    say(&format!("listening {shown}\n"));
    tracing::info!(
        address = shown,
        service = app.service,
        endpoint = app.endpoint,
        "listening"
    );
    let connections = TaskTracker::new();
    tokio::select! {
        () = accept(&listener, &app, &connections) => {}
        why = told => tracing::info!(why, "stopping"),
    }
    drop(listener);
    for session in sessions.all() {
        session.hang_up();
    }
    for link in processes.links() {
        link.end_subscriptions();
    }
    processes.shut_down(STOP).await;
    connections.close();
    // Answers that are ready go out; a connection that only waits for a next request is not waited for.
    tokio::time::timeout(Duration::from_millis(200), connections.wait())
        .await
        .ok();
    Ok(())
}

/// Whoever started the sidecar waits for this line. A closed output means that nobody does.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).ok();
}

fn random_endpoint() -> io::Result<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let letter = |byte: &u8| {
        ALPHABET
            .get(usize::from(byte % 32))
            .map(|letter| char::from(*letter))
    };
    Ok(random.iter().filter_map(letter).collect())
}

async fn accept(listener: &Listener, app: &Arc<App>, connections: &TaskTracker) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Closed only when dropped.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Small answers must not wait for a full packet; a socket that refuses is only slower.
                stream.set_nodelay(true).ok();
                connections.spawn(hold(place, connection(stream, Arc::clone(app))));
            }),
            Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                connections.spawn(hold(place, connection(stream, Arc::clone(app))));
            }),
        };
        if let Err(error) = accepted {
            // Out of descriptors, most likely: connections that end give some back.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn hold(_place: tokio::sync::OwnedSemaphorePermit, connection: impl Future<Output = ()>) {
    connection.await;
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, app: Arc<App>) {
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, std::convert::Infallible>(app.handle(request).await) }
    });
    let served = http1::Builder::new()
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        // A client that leaves is nothing to log about; anything else is its own doing.
        tracing::debug!(%error, "a connection ended");
    }
}

/// The reason to stop, when there is one: a signal, or the end of the lifeline.
fn told_to_stop(lifeline: bool) -> io::Result<impl Future<Output = &'static str>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (cut, mut is_cut) = oneshot::channel::<()>();
    // Without a lifeline the sender is held by the future below and never cut.
    let mut held = Some(cut);
    if lifeline {
        let cut = held.take();
        // Its own thread, because standard input cannot be polled; it ends with the process.
        std::thread::Builder::new()
            .name("lifeline".into())
            .spawn(move || {
                let mut rest = [0_u8; 256];
                while io::stdin().lock().read(&mut rest).is_ok_and(|read| read > 0) {}
                drop(cut);
            })?;
    }
    Ok(async move {
        let _held = held;
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
            _ = &mut is_cut => "the edge has ended",
        }
    })
}
