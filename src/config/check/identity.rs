//! Checks of `mcp.tiers`, `mcp.clients` and `auth`, and their part of the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use secrecy::SecretString;

use super::super::formats::{Limit, Text};
use super::super::names::{ClientKey, TierName};
use super::super::snapshot::{Algorithm, Auth, Client, Issuer, IssuerKey, RateLimit, Tier};
use super::super::spec::{AlgorithmSpec, JwtSpec, TierSpec};
use super::super::tree::Step::{Index, Key};
use super::Checker;
use super::mistake::{MIN_SECRET, Mistake};

/// Name of our own issuer, and the audience of its tokens.
const OWN_ISSUER: &str = "mcp-edge";

/// The environment variable with the secret of our own issuer.
const SECRET_VARIABLE: &str = "MCP_JWT_SECRET";

/// File under `state_dir` with the secret that the edge makes when nobody gives it one.
const SECRET_FILE: &str = "jwt-secret";

impl Checker<'_> {
    pub(super) fn tiers(&self) -> BTreeMap<TierName, Tier> {
        self.spec
            .mcp
            .tiers
            .0
            .iter()
            .map(|(name, tier)| (name.0.clone(), resolve(tier)))
            .collect()
    }

    pub(super) fn clients(&mut self) -> BTreeMap<ClientKey, Client> {
        let mut clients = BTreeMap::new();
        for (key, client) in &self.spec.mcp.clients.0 {
            let tier = match &client.tier {
                Some(tier) => {
                    let path = [Key("mcp"), Key("clients"), Key(key.0.as_str()), Key("tier")];
                    self.known_tier(&path, &tier.0);
                    tier.0.clone()
                }
                None => TierName::free(),
            };
            let rate_limit = client.rate_limit.as_ref().map(|limit| match limit.0.0 {
                Some(n) => RateLimit::PerMinute(n),
                None => RateLimit::Unlimited,
            });
            let concurrent_requests = client.concurrent_requests;
            clients.insert(
                key.0.clone(),
                Client {
                    tier,
                    rate_limit,
                    concurrent_requests,
                },
            );
        }
        clients
    }

    pub(super) fn auth(&mut self) -> Auth {
        let spec = &self.spec.auth;
        let mut seen = BTreeSet::new();
        let mut issuers = Vec::new();
        for (index, jwt) in spec.jwt.iter().enumerate() {
            let name = jwt.issuer.0.0.as_str();
            if !seen.insert(name) {
                let path = [Key("auth"), Key("jwt"), Index(index), Key("issuer")];
                self.error(&path, &Mistake::RepeatedIssuer(name));
            }
            issuers.push(self.issuer(index, jwt));
        }
        if issuers.is_empty() {
            issuers.push(self.own_issuer());
        }
        let anonymous = spec.anonymous.as_ref().map(|anonymous| anonymous.tier.0.clone());
        if let Some(tier) = &anonymous {
            self.known_tier(&[Key("auth"), Key("anonymous"), Key("tier")], tier);
            let listen = self.spec.edge.listen.0.0;
            if !listen.ip().is_loopback() {
                self.error(
                    &[Key("auth"), Key("anonymous")],
                    &Mistake::AnonymousInPublic(listen),
                );
            }
        }
        Auth { issuers, anonymous }
    }

    fn issuer(&mut self, index: usize, jwt: &JwtSpec) -> Issuer {
        let entry = [Key("auth"), Key("jwt"), Index(index)];
        let [auth, list, item] = entry;
        self.long_enough(&[auth, list, item, Key("secret")], "secret", &jwt.secret.0);
        for (at, algorithm) in jwt.algorithms.iter().enumerate() {
            if *algorithm != AlgorithmSpec::HS256 {
                let path = [auth, list, item, Key("algorithms"), Index(at)];
                self.error(&path, &Mistake::LaterAlgorithm(format!("{algorithm:?}")));
            }
        }
        for (at, tier) in jwt.tiers.iter().enumerate() {
            self.known_tier(&[auth, list, item, Key("tiers"), Index(at)], &tier.0);
        }
        Issuer {
            issuer: jwt.issuer.0.0.clone(),
            audience: jwt.audience.0.0.clone(),
            algorithms: vec![Algorithm::Hs256],
            key: IssuerKey::Secret(jwt.secret.0.0.clone()),
            tiers: jwt.tiers.iter().map(|tier| tier.0.clone()).collect(),
        }
    }

    /// The issuer of a configuration that names none.
    fn own_issuer(&mut self) -> Issuer {
        let key = match (self.surroundings.variables)(SECRET_VARIABLE).filter(|secret| !secret.is_empty()) {
            Some(secret) => {
                if secret.len() < MIN_SECRET {
                    self.error(&[], &Mistake::ShortEnvironmentSecret(secret.len()));
                }
                IssuerKey::Secret(SecretString::from(secret))
            }
            None => IssuerKey::Generated(Path::new(&self.spec.edge.state_dir.0.0).join(SECRET_FILE)),
        };
        Issuer {
            issuer: OWN_ISSUER.to_owned(),
            audience: OWN_ISSUER.to_owned(),
            algorithms: vec![Algorithm::Hs256],
            key,
            // Tokens of our own issuer are minted by the operator, who may name any tier.
            tiers: self.spec.mcp.tiers.0.keys().map(|name| name.0.clone()).collect(),
        }
    }
}

/// A tier whose every value is there, since [`super::super::spec::Spec::fill`] ran before.
fn resolve(tier: &TierSpec) -> Tier {
    let limit = tier.requests_per_minute.clone().unwrap_or(Text(Limit(None)));
    Tier {
        requests_per_minute: limit.0.0,
        max_concurrent_requests: tier.max_concurrent_requests.unwrap_or(1),
        weight: tier.weight.unwrap_or(1),
    }
}
