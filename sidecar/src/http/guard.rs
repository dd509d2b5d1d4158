//! Who may talk to the sidecar at all.
//!
//! With a token only its holder (the edge) may, whatever the path. Without one the sidecar serves clients
//! on this machine directly, and a web page must not reach it through a name that it made resolve to
//! loopback: so `Host` and `Origin` must name this machine or be on a list.

use http::{HeaderMap, Uri, header};
use subtle::ConstantTimeEq;

use crate::reply::{Fault, Reason};

#[derive(Debug)]
pub(crate) enum Guard {
    /// Constant-time comparison against this bearer token.
    Token(String),
    /// Names beside those of this machine. `hosts` is not looked at on a Unix socket, which has no name.
    Local {
        hosts: Vec<String>,
        origins: Vec<String>,
        named: bool,
    },
}

impl Guard {
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Fault> {
        match self {
            Self::Token(token) => {
                let given = headers
                    .get(header::AUTHORIZATION)
                    .map(|value| value.as_bytes())
                    .unwrap_or_default();
                let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
                if bool::from(given.ct_eq(token.as_bytes())) {
                    return Ok(());
                }
                Err(Fault::new(
                    Reason::TokenInvalid,
                    "this sidecar answers only the edge that started it",
                ))
            }
            Self::Local {
                hosts,
                origins,
                named,
            } => {
                let host = headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok())
                    .unwrap_or_default();
                if *named && !is_local(name_of(host)) && !listed(hosts, host, name_of(host)) {
                    let text = format!("the Host {host:?} is not this machine; allow it with --allowed-host");
                    return Err(Fault::new(Reason::HostDenied, text));
                }
                for origin in headers.get_all(header::ORIGIN) {
                    let origin = origin.to_str().unwrap_or("?");
                    let local = origin
                        .parse::<Uri>()
                        .ok()
                        .is_some_and(|uri| uri.scheme().is_some() && uri.host().is_some_and(is_local));
                    if !local && !listed(origins, origin, origin) {
                        let text = format!(
                            "the Origin {origin:?} is not this machine; allow it with --allowed-origin"
                        );
                        return Err(Fault::new(Reason::OriginDenied, text));
                    }
                }
                Ok(())
            }
        }
    }
}

fn listed(list: &[String], whole: &str, name: &str) -> bool {
    list.iter()
        .any(|entry| entry.eq_ignore_ascii_case(whole) || entry.eq_ignore_ascii_case(name))
}

/// The host of an authority, without its port.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn is_local(name: &str) -> bool {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn local(host: &str, origin: Option<&str>) -> bool {
        let guard = Guard::Local {
            hosts: vec!["box".into()],
            origins: vec!["https://app.example".into()],
            named: true,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        guard.check(&headers).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_and_listed_ones() {
        for host in [
            "localhost",
            "localhost:80",
            "127.0.0.1:9",
            "[::1]:80",
            "LOCALHOST",
            "box",
            "box:80",
        ] {
            assert!(local(host, None), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "10.0.0.1",
            "localhost.evil.example",
            "",
        ] {
            assert!(!local(host, None), "{host}");
        }
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1",
            "https://[::1]:1",
            "https://app.example",
        ] {
            assert!(local("localhost", Some(origin)), "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "https://localhost.evil.example",
            "localhost",
            "https://app.example:8",
        ] {
            assert!(!local("localhost", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn the_token_must_be_exact() {
        let guard = Guard::Token("secret".into());
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            guard.check(&headers).is_ok()
        };
        assert!(with("Bearer secret"));
        assert!(!with("Bearer secre") && !with("Bearer secrets") && !with("secret") && !with("Bearer "));
        assert!(guard.check(&HeaderMap::new()).is_err());
    }
}
