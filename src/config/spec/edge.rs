//! `edge:`, the edge's own listeners, files and limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::formats::{Address, Bytes, Host, Line, Origin, Period, Secret, Text};

/// The edge's own listeners, files and limits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EdgeSpec {
    /// Where clients connect: `IP:port`.
    pub(crate) listen: Text<Address>,
    /// Certificate and key of `listen`: HTTPS with HTTP/2. Plain HTTP without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsSpec>,
    /// Dashboard and admin API.
    pub(crate) admin: Text<Address>,
    /// `/health`, `/ready` and `/metrics`, without authentication.
    pub(crate) health: Text<Address>,
    /// Folder of sockets, keys and the embedded database. Relative paths start at the working directory.
    pub(crate) state_dir: Text<Line>,
    /// What clients see as the address of the edge, such as `https://mcp.example.com`; its host is allowed as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_url: Option<Text<Origin>>,
    /// Values of the `Host` header that are served, without a port; anything else is refused (DNS rebinding).
    pub(crate) allowed_hosts: Vec<Text<Host>>,
    /// Values of the `Origin` header that are served beside those of `allowed_hosts`: `https://app.example.com`.
    pub(crate) allowed_origins: Vec<Text<Origin>>,
    /// Tokens of the admin listener; needed when `admin` is not a loopback address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin_auth: Option<AdminAuthSpec>,
    /// Longest time between the stop signal and the end; the edge leaves as soon as it is idle.
    pub(crate) drain: Text<Period>,
    /// Largest request body; a larger one is refused with 413.
    pub(crate) max_body: Text<Bytes>,
}

impl Default for EdgeSpec {
    fn default() -> Self {
        let loopback = |port| Text(Address(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        let host = |name: &str| Text(Host(name.to_owned()));
        Self {
            listen: loopback(8080),
            tls: None,
            admin: loopback(18080),
            health: loopback(18081),
            state_dir: Text(Line("./state".to_owned())),
            public_url: None,
            allowed_hosts: vec![host("localhost"), host("127.0.0.1")],
            allowed_origins: Vec::new(),
            admin_auth: None,
            drain: Text(Period(Duration::from_secs(30))),
            max_body: Text(Bytes(16 << 20)),
        }
    }
}

/// Files of a TLS listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSpec {
    /// PEM file with the certificate chain, leaf first.
    pub(crate) cert: Text<Line>,
    /// PEM file with the private key.
    pub(crate) key: Text<Line>,
}

/// Tokens of the admin listener, each at least 32 bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminAuthSpec {
    /// Tokens that may look and act.
    pub(crate) operators: Vec<Text<Secret>>,
    /// Tokens that may only look.
    pub(crate) viewers: Vec<Text<Secret>>,
}
