//! The configuration in force: checked, immutable, ready to serve.
//!
//! Everything that reads a `Config` may rely on it: every name refers to something that is there, every number is in
//! its range, every address parses. These types carry no serde: what YAML may say is in `spec`, and `check` is the
//! only way from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::names::{ClientKey, ServiceName, TierName};
use super::route::Route;

/// One checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The edge's own listeners, files and limits.
    pub edge: Edge,
    /// The services by name; at most 100.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// The tiers by name; `free`, `pro` and `enterprise` are always there.
    pub tiers: BTreeMap<TierName, Tier>,
    /// What is known of single clients.
    pub clients: BTreeMap<ClientKey, Client>,
    /// Who may call.
    pub auth: Auth,
    /// In the order in which they are tried; never empty.
    pub routes: Vec<Route>,
    /// What an operator should read although it stops nothing; one line each.
    pub warnings: Vec<String>,
    /// Where this configuration comes from.
    pub source: Source,
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A YAML file that the operator named.
    File(PathBuf),
    /// The `mcpServers` file of an AI client, found in the working directory.
    McpJson(PathBuf),
    /// No file at all: the built-in demo server.
    Demo,
}

/// The edge's own listeners, files and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Certificate and key of `listen`; `None` is plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Dashboard and admin API.
    pub admin: SocketAddr,
    /// `/health`, `/ready`, `/metrics`.
    pub health: SocketAddr,
    /// Sockets, keys and the embedded database; made with mode 0700 when it is not there.
    pub state_dir: PathBuf,
    /// What clients see as the origin of the edge, without a trailing slash: `https://mcp.example.com`.
    pub public_url: Option<String>,
    /// `Host` values that are served, in lower case, without a port. Holds the host of `public_url` too.
    pub allowed_hosts: Vec<String>,
    /// `Origin` values that are let in beside those of `allowed_hosts`: `https://app.example.com`.
    pub allowed_origins: Vec<String>,
    /// Longest time between the stop signal and the end.
    pub drain: Duration,
    /// Largest request body in bytes.
    pub max_body: u64,
}

/// A certificate chain and its private key, both PEM files that were readable when checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// One MCP server by name.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name, which is also its key in [`Config::services`].
    pub name: ServiceName,
    /// What starts its sidecars, and with what.
    pub runtime: ServiceRuntime,
    /// Path of the active health check.
    pub health_check_path: String,
    /// Who may share a server process.
    pub isolation: Isolation,
    /// True: the server keeps nothing between requests, so any replica may serve any request.
    pub stateless: bool,
    /// Bounds of the server processes behind one sidecar.
    pub processes: Processes,
    /// Bounds of the sidecars of this service.
    pub replicas: Replicas,
    /// Requests under way at once, per replica.
    pub max_concurrent: u32,
    /// Time limits of its requests.
    pub timeouts: Timeouts,
    /// Free labels, matched by routes.
    pub tags: BTreeSet<String>,
    /// The service that takes over while no replica of this one is healthy; never this one.
    pub backup: Option<ServiceName>,
}

/// What starts the sidecars of a service.
#[derive(Debug, Clone)]
pub enum ServiceRuntime {
    /// Child processes of the edge.
    Process {
        /// Program and arguments of the MCP server; never empty.
        command: Vec<String>,
        /// Added to the server's environment.
        env: BTreeMap<String, SecretString>,
        /// The server's working directory; `None` is the edge's own.
        cwd: Option<PathBuf>,
        /// Loopback port of the first replica's sidecar; `None` is a Unix socket under `state_dir`.
        port: Option<u16>,
    },
    /// Sidecars that somebody else runs.
    Fixed {
        /// Where they listen; never empty. A name with several addresses is several endpoints.
        upstreams: Vec<HostPort>,
        /// Bearer token that they ask for.
        token: Option<SecretString>,
    },
}

/// `host:port`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// DNS name in lower case, or an IP address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// Why a text is no `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `host:port`, such as `10.0.0.7:8080` or `files.internal:8080`; an IPv6 address stands in brackets"
)]
pub struct HostPortError;

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError)?;
        let port: u16 = port.parse().map_err(|_| HostPortError)?;
        if port == 0 {
            return Err(HostPortError);
        }
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => inner
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| HostPortError)?
                .to_string(),
            None => {
                let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
                if host.is_empty() || host.len() > 253 || !host.bytes().all(name) {
                    return Err(HostPortError);
                }
                host.to_ascii_lowercase()
            }
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who may share a server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// A process never serves two clients.
    Client,
    /// One process serves everyone.
    Shared,
}

impl Isolation {
    /// The word used in YAML and on the sidecar's command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Shared => "shared",
        }
    }
}

/// Bounds of the server processes behind one sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processes {
    /// Most at once.
    pub max: u32,
    /// An unused one is stopped after this; `None` is never.
    pub idle_stop: Option<Duration>,
    /// Started ahead of demand; at most `max`.
    pub warm: u32,
}

/// Bounds of the sidecars of a service; `min <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// Kept running.
    pub min: u32,
    /// Started under load.
    pub max: u32,
    /// The last one is stopped after this time without a request; `None` is never.
    pub idle_stop: Option<Duration>,
}

/// Time limits of a request; none is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's end to the response's head.
    pub first_byte: Duration,
    /// Between two pieces of the response.
    pub idle: Duration,
    /// From the request's head to the response's end.
    pub total: Duration,
    /// How long a server may take to start.
    pub start: Duration,
}

/// What a class of clients may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tier {
    /// Counted calls a minute; `None` is no limit.
    pub requests_per_minute: Option<u32>,
    /// Requests under way at once, per client.
    pub max_concurrent_requests: u32,
    /// Share of a service's slots under contention, relative to the other tiers.
    pub weight: u32,
}

/// What is known of one client. `None` keeps the tier's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its tier; always a key of [`Config::tiers`].
    pub tier: TierName,
    /// Counted calls a minute.
    pub rate_limit: Option<RateLimit>,
    /// Requests under way at once.
    pub concurrent_requests: Option<u32>,
}

/// A client's own rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// Written as -1.
    Unlimited,
    /// Counted calls a minute.
    PerMinute(u32),
}

/// Who may call.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Whose tokens are accepted; never empty, no two of the same name.
    pub issuers: Vec<Issuer>,
    /// Tier of requests without a token; `None` refuses them. Only on a loopback listener.
    pub anonymous: Option<TierName>,
}

/// One issuer of tokens. The algorithm comes from here, never from the token.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Required value of `iss`.
    pub issuer: String,
    /// Required value (or member) of `aud`.
    pub audience: String,
    /// Accepted algorithms; never empty.
    pub algorithms: Vec<Algorithm>,
    /// What the signature is verified with.
    pub key: IssuerKey,
    /// Tiers that this issuer may name in a `tier` claim.
    pub tiers: Vec<TierName>,
}

/// A JWS algorithm (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
}

/// What a token's signature is verified with.
#[derive(Debug, Clone)]
pub enum IssuerKey {
    /// A shared secret of at least 32 bytes.
    Secret(SecretString),
    /// A secret that the edge makes once and keeps in this file with mode 0600.
    Generated(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_takes_names_and_both_families() {
        for (text, host, port) in [
            ("10.0.0.7:80", "10.0.0.7", 80),
            ("Files.Internal:8080", "files.internal", 8080),
            ("[::1]:9", "::1", 9),
        ] {
            let got: HostPort = text.parse().unwrap();
            assert_eq!((got.host.as_str(), got.port), (host, port));
            assert_eq!(got.to_string(), text.to_ascii_lowercase());
        }
        for bad in [
            "host",
            ":80",
            "host:",
            "host:0",
            "host:70000",
            "::1:80",
            "[::1]",
            "a b:1",
            "http://x:1",
        ] {
            assert_eq!(bad.parse::<HostPort>(), Err(HostPortError), "{bad}");
        }
    }
}
