//! From a checked configuration to a serving edge, and out again.
//!
//! Order: everything that can be wrong is found before anything is started (exit 2); then the health listener, the
//! sidecars, the proxy. Out: drain, Pingora, sidecars, access log. Invariant: whatever was started here is stopped
//! here, on every way out that is not `kill -9`; that one is the guards' work.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::proxy::ProxyServiceBuilder;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::listening::Service as ListeningService;
use tokio::signal::unix::{SignalKind, signal};

use super::greeting;
use crate::access_log;
use crate::admin::health;
use crate::config::{Config, Edge};
use crate::metrics::Metrics;
use crate::proxy::{EdgeProxy, Shared, State, StateError};
use crate::runtime::{Options, SidecarProgram, Supervisor};
use crate::shutdown::{Shutdown, Stage};
use crate::upstream::Pools;

/// How long sidecars may take to stop their servers: stdin, SIGTERM, SIGKILL.
const STOP_SIDECARS: Duration = Duration::from_secs(8);

/// How often the public listener is tried until it is bound; it takes Pingora a few milliseconds.
const TRY_LISTENER: Duration = Duration::from_millis(5);

/// Requests on one client connection before it is closed: bounds what a connection can pile up (CWE-770).
const REQUESTS_PER_CONNECTION: u32 = 100_000;

/// Idle HTTP/2 connections are closed after this; Pingora keeps them for ever by itself.
const H2_IDLE: Duration = Duration::from_secs(120);

/// Why the edge did not start. Each is an operator's mistake or a machine's lack, and stops the start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{key}: {address} cannot be listened on: {source}; stop what holds it or set another address")]
    Listen {
        key: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("edge.state_dir: {path}: {source}; make it writable for this user or set another one")]
    StateDir { path: String, source: io::Error },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("edge.tls: {0}; the certificate and the key must be PEM files that belong together")]
    Tls(Box<pingora::Error>),
    #[error("the process could not be set up: {0}")]
    System(#[from] io::Error),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Serves until a signal.
///
/// # Errors
/// See [`StartError`]; nothing is running then.
pub(super) fn serve(mut config: Config) -> Result<(), StartError> {
    let listen = claim("edge.listen", &mut config.edge.listen)?;
    let health_listener = claim("edge.health", &mut config.edge.health)?;
    prepare_state_dir(&config.edge)?;
    let config = Arc::new(config);
    let pools = Arc::new(Pools::new(&config));
    let state = State::new(config.clone(), pools.clone())?;
    let shutdown = Shutdown::default();
    let (log, _log_writer) = access_log::start()?;
    let loopback = config.edge.listen.ip().is_loopback();
    let shared = Shared::new(state, Arc::new(Metrics::new()?), log, shutdown.clone(), loopback);
    let mut server = proxy_server(&config.edge, &shared)?;

    // Two threads: health answers while a sidecar's start keeps the other busy.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let supervisor = {
        let _inside = runtime.enter();
        health_listener.set_nonblocking(true)?;
        let health_listener = tokio::net::TcpListener::from_std(health_listener)?;
        let supervisor = Arc::new(Supervisor::start(
            &config,
            pools,
            SidecarProgram::own()?,
            Options::default(),
        ));
        runtime.spawn(announce(shutdown.clone(), config.clone()));
        runtime.spawn(health::serve(health_listener, shared.clone()));
        runtime.spawn(shared.clone().enforce_deadlines());
        runtime.spawn(leave_on_signal(
            shutdown.clone(),
            supervisor.clone(),
            config.edge.drain,
        )?);
        runtime.spawn(greeting::when_ready(shared.clone(), config.clone()));
        supervisor
    };
    // Until here the address was held so that nobody else could take it; Pingora binds it again.
    drop(listen);
    server.bootstrap();
    server.run(RunArgs {
        shutdown_signal: Box::new(Stopped(shutdown.clone())),
    });
    // Also on a way out that did not pass the signal task.
    shutdown.stop();
    runtime.block_on(supervisor.stop_all(STOP_SIDECARS));
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Takes an address, so that a busy one is found before anything is started. Port 0 becomes the port that the system
/// chose.
fn claim(key: &'static str, address: &mut SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen {
        key,
        address: *address,
        source,
    };
    let listener = TcpListener::bind(*address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    *address = bound;
    Ok(listener)
}

fn prepare_state_dir(edge: &Edge) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let path = &edge.state_dir;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| StartError::StateDir {
        path: path.display().to_string(),
        source,
    })
}

fn proxy_server(edge: &Edge, shared: &Arc<Shared>) -> Result<Server, StartError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let conf = ServerConf {
        threads,
        // One runtime with all threads: a connection with much to do does not hold up those that share its thread.
        work_stealing: threads > 1,
        upstream_keepalive_pool_size: 1024,
        // Attempts of all kinds; the proxy itself stops sooner.
        max_retries: 4,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let server = Server::new_with_opt_and_conf(None, conf);
    let mut options = pingora::apps::HttpServerOptions::default();
    options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION);
    options.h2_idle_timeout = Some(H2_IDLE);
    let mut service = ProxyServiceBuilder::new(&server.configuration, EdgeProxy(shared.clone()))
        .name("mcp-edge")
        .server_options(options)
        .build();
    listen_on(&mut service, edge)?;
    let mut server = server;
    server.add_service(service);
    Ok(server)
}

fn listen_on<A>(service: &mut ListeningService<A>, edge: &Edge) -> Result<(), StartError> {
    let address = edge.listen.to_string();
    let Some(files) = &edge.tls else {
        service.add_tcp(&address);
        return Ok(());
    };
    let (cert, key) = (files.cert.to_string_lossy(), files.key.to_string_lossy());
    let mut tls = pingora::listeners::tls::TlsSettings::intermediate(&cert, &key).map_err(StartError::Tls)?;
    tls.enable_h2();
    service.add_tls_with_settings(&address, None, tls);
    Ok(())
}

/// Pingora binds the public listener in its own time and tells nobody; so it is tried until it answers. Only then the
/// edge is ready, and says where it listens.
async fn announce(shutdown: Shutdown, config: Arc<Config>) {
    let mut address = config.edge.listen;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(TRY_LISTENER).await;
    }
    shutdown.serving();
    tracing::info!(public = %config.edge.listen, health = %config.edge.health, "listening");
}

/// Pingora's own watch would sleep through the whole grace period; see [`crate::shutdown`].
struct Stopped(Shutdown);

#[async_trait]
impl ShutdownSignalWatch for Stopped {
    async fn recv(&self) -> ShutdownSignal {
        self.0.reached(Stage::Stopped).await;
        ShutdownSignal::FastShutdown
    }
}

/// Drains on SIGTERM, SIGINT or SIGQUIT, and leaves at once on a second one.
fn leave_on_signal(
    shutdown: Shutdown,
    supervisor: Arc<Supervisor>,
    drain: Duration,
) -> io::Result<impl Future<Output = ()> + Send> {
    let (mut term, mut int, mut quit) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::quit())?,
    );
    let mut asked = async move || {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = quit.recv() => {}
        }
    };
    Ok(async move {
        asked().await;
        tracing::info!(
            under_way = shutdown.under_way(),
            "stopping: no new requests from now on"
        );
        shutdown.drain();
        let drained = async {
            // Streams last as long as their clients want; the sidecars end them in the protocol's own way.
            supervisor.end_streams().await;
            shutdown.drained(drain).await
        };
        tokio::select! {
            cut = drained => if cut > 0 {
                tracing::warn!(cut, drain_ms = drain.as_millis() as u64, "edge.drain passed; the requests left are cut");
            },
            () = asked() => tracing::warn!(cut = shutdown.under_way(), "asked again: leaving at once"),
        }
        shutdown.stop();
    })
}
