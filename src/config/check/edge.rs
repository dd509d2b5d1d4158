//! Checks of `edge:`, and its part of the snapshot.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::files;
use super::super::formats::{Secret, Text};
use super::super::snapshot::{Edge, TlsFiles};
use super::super::spec::TlsSpec;
use super::super::tree::Step::{self, Index, Key};
use super::Checker;
use super::mistake::{MIN_SECRET, Mistake, Notice};

/// Largest PEM file that is read to check it: far above any chain.
const MAX_PEM: u64 = 1 << 20;

/// The edge's own listeners by key.
pub(super) const LISTENERS: [&str; 3] = ["listen", "admin", "health"];

impl Checker<'_> {
    pub(super) fn edge(&mut self) -> Edge {
        let spec = &self.spec.edge;
        self.listeners_clash();
        self.admin_is_protected();
        if std::fs::metadata(&spec.state_dir.0.0).is_ok_and(|meta| meta.is_file()) {
            self.error(
                &[Key("edge"), Key("state_dir")],
                &Mistake::StateDirIsFile(&spec.state_dir.0.0),
            );
        }
        Edge {
            listen: spec.listen.0.0,
            tls: spec.tls.as_ref().map(|tls| self.tls(tls)),
            admin: spec.admin.0.0,
            health: spec.health.0.0,
            state_dir: PathBuf::from(&spec.state_dir.0.0),
            public_url: spec.public_url.as_ref().map(|url| url.0.0.clone()),
            allowed_hosts: self.allowed_hosts(),
            allowed_origins: spec.allowed_origins.iter().map(|o| o.0.0.clone()).collect(),
            drain: spec.drain.0.0,
            max_body: spec.max_body.0.0,
        }
    }

    /// The edge's own addresses, in the order of [`LISTENERS`].
    pub(super) fn own_addresses(&self) -> [SocketAddr; 3] {
        let edge = &self.spec.edge;
        [edge.listen.0.0, edge.admin.0.0, edge.health.0.0]
    }

    fn listeners_clash(&mut self) {
        let own: Vec<_> = LISTENERS.into_iter().zip(self.own_addresses()).collect();
        for (at, (second, b)) in own.iter().enumerate() {
            let before = own.iter().take(at);
            if let Some((first, _)) = before.into_iter().find(|(_, a)| overlap(*a, *b)) {
                // The later one is shown, unless it is a default that is not in the file.
                let written = |key| (self.surroundings.locate)(&[Key("edge"), Key(key)]);
                let edge_key = (self.surroundings.locate)(&[Key("edge")]);
                let shown = if written(second) == edge_key {
                    first
                } else {
                    second
                };
                let mistake = Mistake::ListenersClash {
                    first,
                    second,
                    port: b.port(),
                };
                self.error(&[Key("edge"), Key(shown)], &mistake);
            }
        }
    }

    fn admin_is_protected(&mut self) {
        let spec = &self.spec.edge;
        let tokens: [(&str, &[Text<Secret>]); 2] = match &spec.admin_auth {
            Some(auth) => [("operators", &auth.operators), ("viewers", &auth.viewers)],
            None => [("operators", &[]), ("viewers", &[])],
        };
        if !spec.admin.0.0.ip().is_loopback() && tokens.iter().all(|(_, list)| list.is_empty()) {
            self.error(
                &[Key("edge"), Key("admin")],
                &Mistake::AdminUnprotected(spec.admin.0.0),
            );
        }
        for (role, list) in tokens {
            for (index, token) in list.iter().enumerate() {
                let path = [Key("edge"), Key("admin_auth"), Key(role), Index(index)];
                self.long_enough(&path, role, &token.0);
            }
        }
    }

    /// Reports a secret that can be guessed.
    pub(super) fn long_enough(&mut self, path: &[Step<'_>], what: &str, secret: &Secret) {
        if secret.len() < MIN_SECRET {
            self.error(
                path,
                &Mistake::ShortSecret {
                    what,
                    len: secret.len(),
                },
            );
        }
    }

    fn tls(&mut self, tls: &TlsSpec) -> TlsFiles {
        for (key, path, what, mark) in [
            (
                "cert",
                &tls.cert.0.0,
                "certificate",
                "-----BEGIN CERTIFICATE-----",
            ),
            // PKCS#8, PKCS#1 and SEC 1 keys differ in the words before these.
            ("key", &tls.key.0.0, "private key", "PRIVATE KEY-----"),
        ] {
            let at = [Key("edge"), Key("tls"), Key(key)];
            match files::read_text(path.as_ref(), MAX_PEM) {
                Err(error) => self.error(
                    &at,
                    &Mistake::UnreadableFile {
                        path,
                        why: error.to_string(),
                    },
                ),
                Ok(text) if !text.contains(mark) => self.error(&at, &Mistake::NotPem { path, what }),
                Ok(_) => {}
            }
        }
        TlsFiles {
            cert: PathBuf::from(&tls.cert.0.0),
            key: PathBuf::from(&tls.key.0.0),
        }
    }

    fn allowed_hosts(&mut self) -> Vec<String> {
        let spec = &self.spec.edge;
        let mut hosts: Vec<String> = spec.allowed_hosts.iter().map(|host| host.0.0.clone()).collect();
        let public: Option<http::Uri> = spec.public_url.as_ref().and_then(|url| url.0.0.parse().ok());
        if let Some(host) = public.as_ref().and_then(http::Uri::host)
            && !hosts.iter().any(|h| h == host)
        {
            hosts.push(host.to_owned());
        }
        let here = ["localhost", "127.0.0.1", "[::1]"];
        if !spec.listen.0.0.ip().is_loopback() && hosts.iter().all(|h| here.contains(&h.as_str())) {
            self.warn(&[Key("edge"), Key("listen")], &Notice::NoPublicHost);
        }
        hosts
    }
}

/// Two sockets cannot have the same port on the same address; the unspecified address is every address. Port 0 is a
/// port of the system's choice, never the same.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_overlap_by_port_and_address() {
        let clash = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(clash("127.0.0.1:80", "127.0.0.1:80"));
        assert!(clash("0.0.0.0:80", "127.0.0.1:80"));
        assert!(!clash("127.0.0.2:80", "127.0.0.1:80"));
        assert!(!clash("127.0.0.1:81", "127.0.0.1:80"));
        assert!(!clash("127.0.0.1:0", "127.0.0.1:0"));
    }
}
