//! `edge:`, the edge's own listeners, files and limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::formats::{Address, Bytes, Host, Line, Origin, Period, Secret, Text};

/// The edge's own listeners, files and limits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct EdgeSpec {
    /// Where clients connect: `IP:port`.
    pub(in crate::config) listen: Text<Address>,
    /// Certificate and key of `listen`: HTTPS with HTTP/2. Plain HTTP without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) tls: Option<TlsSpec>,
    /// Dashboard and admin API.
    pub(in crate::config) admin: Text<Address>,
    /// `/health`, `/ready` and `/metrics`, without authentication.
    pub(in crate::config) health: Text<Address>,
    /// Folder of sockets, keys and the embedded database. Relative paths start at the working directory.
    pub(in crate::config) state_dir: Text<Line>,
    /// What clients see as the address of the edge, such as `https://mcp.example.com`; its host is allowed as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) public_url: Option<Text<Origin>>,
    /// Values of the `Host` header that are served, without a port; anything else is refused (DNS rebinding).
    pub(in crate::config) allowed_hosts: Vec<Text<Host>>,
    /// Values of the `Origin` header that are served beside those of `allowed_hosts`: `https://app.example.com`.
    pub(in crate::config) allowed_origins: Vec<Text<Origin>>,
    /// Tokens of the admin listener; needed when `admin` is not a loopback address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) admin_auth: Option<AdminAuthSpec>,
    /// Longest time between the stop signal and the end; the edge leaves as soon as it is idle.
    pub(in crate::config) drain: Text<Period>,
    /// Largest request body; a larger one is refused with 413.
    pub(in crate::config) max_body: Text<Bytes>,
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
pub(in crate::config) struct TlsSpec {
    /// PEM file with the certificate chain, leaf first.
    pub(in crate::config) cert: Text<Line>,
    /// PEM file with the private key.
    pub(in crate::config) key: Text<Line>,
}

/// Tokens of the admin listener, each at least 32 bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct AdminAuthSpec {
    /// Tokens that may look and act.
    pub(in crate::config) operators: Vec<Text<Secret>>,
    /// Tokens that may only look.
    pub(in crate::config) viewers: Vec<Text<Secret>>,
}
