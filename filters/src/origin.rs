//! Host and Origin allow-lists: the defence against web pages that talk to a local or internal
//! server (DNS rebinding), which the specification demands (2026-07-28, streamable-http, "Security").
//!
//! Invariant: a request passes only if its `Host` is one that this edge answers to, and its `Origin`,
//! if there is one, is a site that may use it. Ports do not matter for hosts, because the port is
//! that of the listener; they do matter for origins, because they tell sites apart.

use std::net::IpAddr;

use async_trait::async_trait;
use http::HeaderValue;
use thiserror::Error;

use crate::chain::Filter;
use crate::reason::Reason;
use crate::request::Request;
use crate::verdict::{Reply, Verdict};

/// Who may be named in `Host` and `Origin`.
#[derive(Debug, Clone, Default)]
pub struct OriginConfig {
    /// Host names or addresses, without port; `*.example.com` matches every name below; `*` matches
    /// everything. A listener on a loopback address answers to loopback hosts anyway.
    pub allowed_hosts: Vec<String>,
    /// Origins, `scheme://host[:port]`. A listener on a loopback address also lets pages in that were
    /// served from a loopback host.
    pub allowed_origins: Vec<String>,
}

/// A mistake in [`OriginConfig`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OriginError {
    /// An entry of `allowed_hosts` is no host.
    #[error(
        "allowed_hosts: `{0}` is not a host name or an IP address; write it without scheme, port and path"
    )]
    Host(String),
    /// An entry of `allowed_origins` is no origin.
    #[error(
        "allowed_origins: `{0}` is not an origin; write `scheme://host` or `scheme://host:port`, no path"
    )]
    Origin(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Host<'a> {
    Ip(IpAddr),
    Name(&'a str),
}

impl<'a> Host<'a> {
    /// Reads `host[:port]`; `None` for anything that is not exactly that.
    fn parse(authority: &'a str) -> Option<Self> {
        Self::with_port(authority).map(|(host, _)| host)
    }

    fn with_port(authority: &'a str) -> Option<(Self, Option<u16>)> {
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (
                Self::Ip(IpAddr::V6(address).to_canonical()),
                rest.strip_prefix(':')
                    .map(Some)
                    .or(rest.is_empty().then_some(None))?,
            )
        } else {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            (Self::bare(host)?, port)
        };
        match port {
            None => Some((host, None)),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some((host, Some(digits.parse().ok()?)))
            }
            Some(_) => None,
        }
    }

    /// A host without brackets and port. One trailing dot is the same name (RFC 1034).
    fn bare(host: &'a str) -> Option<Self> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Self::Ip(ip.to_canonical()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (!name.is_empty() && name.len() <= 253 && name.bytes().all(label)).then_some(Self::Name(name))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

#[derive(Debug)]
enum HostRule {
    Any,
    Ip(IpAddr),
    Name(Box<str>),
    /// With the leading dot.
    Below(Box<str>),
}

impl HostRule {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some(below) = text.strip_prefix('*') {
            let name = below.strip_prefix('.')?;
            return matches!(Host::bare(name)?, Host::Name(_)).then(|| Self::Below(below.into()));
        }
        match Host::bare(text).or_else(|| Host::bare(text.strip_prefix('[')?.strip_suffix(']')?))? {
            Host::Ip(ip) => Some(Self::Ip(ip)),
            Host::Name(name) => Some(Self::Name(name.into())),
        }
    }

    fn matches(&self, host: &Host<'_>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Ip(rule), Host::Ip(ip)) => rule == ip,
            (Self::Name(rule), Host::Name(name)) => rule.eq_ignore_ascii_case(name),
            (Self::Below(rule), Host::Name(name)) => name
                .len()
                .checked_sub(rule.len())
                .filter(|at| *at > 0)
                .and_then(|at| name.get(at..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(rule)),
            _ => false,
        }
    }
}

/// `scheme://host[:port]` with the scheme's usual port made explicit.
#[derive(Debug, PartialEq, Eq)]
struct Site<'a> {
    scheme: &'a str,
    host: Host<'a>,
    port: Option<u16>,
}

impl<'a> Site<'a> {
    fn parse(origin: &'a str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(plain) {
            return None;
        }
        let (host, port) = Host::with_port(authority)?;
        let usual = if scheme.eq_ignore_ascii_case("https") {
            Some(443)
        } else if scheme.eq_ignore_ascii_case("http") {
            Some(80)
        } else {
            None
        };
        Some(Self {
            scheme,
            host,
            port: port.or(usual),
        })
    }

    fn is(&self, other: &Site<'_>) -> bool {
        let same_host = match (&self.host, &other.host) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        };
        same_host && self.port == other.port && self.scheme.eq_ignore_ascii_case(other.scheme)
    }
}

/// The filter.
#[derive(Debug)]
pub struct Origin {
    hosts: Vec<HostRule>,
    origins: Vec<String>,
}

impl Origin {
    /// Checks the lists and makes the filter.
    pub fn new(config: OriginConfig) -> Result<Self, OriginError> {
        let mut hosts = Vec::with_capacity(config.allowed_hosts.len());
        for host in config.allowed_hosts {
            hosts.push(HostRule::parse(&host).ok_or(OriginError::Host(host))?);
        }
        if let Some(bad) = config.allowed_origins.iter().find(|o| Site::parse(o).is_none()) {
            return Err(OriginError::Origin(bad.clone()));
        }
        Ok(Self {
            hosts,
            origins: config.allowed_origins,
        })
    }

    fn check(&self, req: &Request) -> Result<(), Reply> {
        let Some(host) = &req.host else {
            return Err(Reply::new(Reason::BadRequest, "the request has no Host header"));
        };
        if !self.host_allowed(host, req.listener_loopback) {
            let message = "this edge does not answer to the Host of the request; add it to allowed_hosts";
            return Err(Reply::new(Reason::OriginDenied, message));
        }
        if let Some(origin) = &req.origin
            && !self.origin_allowed(origin, req.listener_loopback)
        {
            let message = "pages of this Origin may not call this edge; add it to allowed_origins";
            return Err(Reply::new(Reason::OriginDenied, message));
        }
        Ok(())
    }

    fn host_allowed(&self, host: &HeaderValue, loopback: bool) -> bool {
        host.to_str().ok().and_then(Host::parse).is_some_and(|host| {
            (loopback && host.is_loopback()) || self.hosts.iter().any(|rule| rule.matches(&host))
        })
    }

    /// `null` (a sandboxed frame, a file) is no site and is never allowed: anybody can send it.
    fn origin_allowed(&self, origin: &HeaderValue, loopback: bool) -> bool {
        origin.to_str().ok().and_then(Site::parse).is_some_and(|site| {
            (loopback && site.host.is_loopback())
                || self
                    .origins
                    .iter()
                    .filter_map(|o| Site::parse(o))
                    .any(|allowed| allowed.is(&site))
        })
    }
}

#[async_trait]
impl Filter for Origin {
    fn name(&self) -> &'static str {
        "origin"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        match self.check(req) {
            Ok(()) => Verdict::Continue,
            Err(reply) => reply.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Origin {
        let list = |items: &[&str]| items.iter().map(ToString::to_string).collect();
        Origin::new(OriginConfig {
            allowed_hosts: list(&["mcp.example.com", "10.0.0.7", "[fd00::1]", "*.internal"]),
            allowed_origins: list(&["https://app.example.com", "http://dev.example.com:3000"]),
        })
        .unwrap()
    }

    fn reason(loopback: bool, host: Option<&str>, origin: Option<&str>) -> Option<Reason> {
        let mut req = Request::new("r".into(), http::Method::POST, "/mcp/files", "files".into());
        req.listener_loopback = loopback;
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        req.host = host.map(value);
        req.origin = origin.map(value);
        filter().check(&req).err().map(|reply| reply.reason)
    }

    #[test]
    fn hosts_on_a_public_listener() {
        let good = [
            "mcp.example.com",
            "MCP.Example.COM:8080",
            "mcp.example.com.",
            "10.0.0.7:1",
            "[fd00::1]:8080",
            "[fd00:0:0::1]",
            "a.internal",
            "a.b.INTERNAL:99",
        ];
        for host in good {
            assert_eq!(reason(false, Some(host), None), None, "{host}");
        }
        let bad = [
            "evil.com",
            "mcp.example.com.evil.com",
            "xmcp.example.com",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "internal",
            ".internal",
            "",
            ":80",
            "mcp.example.com:x",
            "mcp.example.com:99999",
            "a@mcp.example.com",
            "fd00::1",
            "[fd00::1",
            "[fd00::1]x",
            "mcp.example.com/",
            "mcp.example.com, x",
            "ä",
        ];
        for host in bad {
            assert_eq!(
                reason(false, Some(host), None),
                Some(Reason::OriginDenied),
                "{host}"
            );
        }
        assert_eq!(reason(false, None, None), Some(Reason::BadRequest));
    }

    #[test]
    fn loopback_hosts_are_fine_on_a_loopback_listener_only() {
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(reason(true, Some(host), None), None, "{host}");
        }
        for host in [
            "evil.com:8080",
            "localhost.evil.com",
            "0.0.0.0",
            "127.0.0.1.nip.io",
        ] {
            assert_eq!(
                reason(true, Some(host), None),
                Some(Reason::OriginDenied),
                "{host}"
            );
        }
    }

    #[test]
    fn origins_tell_scheme_host_and_port_apart() {
        let host = Some("mcp.example.com");
        for origin in [
            "https://app.example.com",
            "https://APP.example.com:443",
            "http://dev.example.com:3000",
        ] {
            assert_eq!(reason(false, host, Some(origin)), None, "{origin}");
        }
        let bad = [
            "null",
            "",
            "http://app.example.com",
            "https://app.example.com:444",
            "https://evil.com",
            "http://dev.example.com",
            "https://app.example.com/",
            "https://app.example.com.evil.com",
            "http://localhost:3000",
            "https://x@app.example.com",
            "file://",
            "app.example.com",
        ];
        for origin in bad {
            assert_eq!(
                reason(false, host, Some(origin)),
                Some(Reason::OriginDenied),
                "{origin}"
            );
        }
    }

    #[test]
    fn local_pages_may_use_a_loopback_listener_and_rebound_ones_may_not() {
        let host = Some("localhost:8080");
        for origin in ["http://localhost:6274", "http://127.0.0.1:3000", "http://[::1]:1"] {
            assert_eq!(reason(true, host, Some(origin)), None, "{origin}");
        }
        for origin in ["http://evil.com", "null", "http://evil.com:8080"] {
            assert_eq!(
                reason(true, host, Some(origin)),
                Some(Reason::OriginDenied),
                "{origin}"
            );
        }
    }

    #[test]
    fn a_star_answers_to_every_host_that_is_one() {
        let any = OriginConfig {
            allowed_hosts: vec!["*".into()],
            ..Default::default()
        };
        let any = Origin::new(any).unwrap();
        assert!(any.host_allowed(&HeaderValue::from_static("whatever.test:80"), false));
        assert!(!any.host_allowed(&HeaderValue::from_static("a b"), false));
    }

    #[test]
    fn mistakes_in_the_lists_are_named() {
        let hosts = |h: &str| OriginConfig {
            allowed_hosts: vec![h.into()],
            ..Default::default()
        };
        for bad in ["http://x", "x:80", "", "a b", "*x", "*."] {
            assert_eq!(
                Origin::new(hosts(bad)).unwrap_err(),
                OriginError::Host(bad.into())
            );
        }
        let origins = |o: &str| OriginConfig {
            allowed_origins: vec![o.into()],
            ..Default::default()
        };
        for bad in ["*", "null", "example.com", "https://x/y", "https://"] {
            assert_eq!(
                Origin::new(origins(bad)).unwrap_err(),
                OriginError::Origin(bad.into())
            );
        }
    }
}
