//! What all requests of one configuration share: the configuration, its pools, its filter chain.

use std::collections::HashMap;
use std::sync::Arc;

use mcp_edge_filters::jwt::keys::{JwtAlgorithm, KeyError, KeySet, VerifyKey};
use mcp_edge_filters::jwt::ring::KeyRing;
use mcp_edge_filters::jwt::verify::IssuerConfig;
use mcp_edge_filters::jwt_auth::{JwtAuth, JwtAuthConfig, JwtAuthError, TierRules};
use mcp_edge_filters::limits::{Limits, LimitsConfig};
use mcp_edge_filters::origin::{Origin, OriginConfig, OriginError};
use mcp_edge_filters::{Chain, Filter, Principal, TierName, WallClock};

use crate::config::{Algorithm, Config, Issuer};
use crate::keys::{self, KeyFileError};
use crate::upstream::Pools;

/// Clients of our own issuer are named in the configuration by their id alone (design, "Identity").
const OWN_ISSUER: &str = "mcp-edge";

/// The tier of clients that neither the configuration nor their token puts into one.
const DEFAULT_TIER: &str = "free";

/// One configuration, ready to serve.
pub struct State {
    pub config: Arc<Config>,
    pub pools: Arc<Pools>,
    pub(super) chain: Chain,
}

/// Why a checked configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("edge: {0}")]
    Origin(#[from] OriginError),
    #[error("auth.jwt: {0}")]
    Auth(#[from] JwtAuthError),
    #[error("auth.jwt: the issuer `{issuer}`: {source}")]
    Key { issuer: String, source: KeyError },
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
}

impl State {
    /// Builds the filter chain, in the design's order.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn new(config: Arc<Config>, pools: Arc<Pools>) -> Result<Self, StateError> {
        let edge = &config.edge;
        // Routes may raise or lower the body's limit, so the proxy holds a body to it once the route is known; what
        // is left here bounds what any route could let in.
        let max_body = config
            .routes
            .iter()
            .filter_map(|route| route.max_body)
            .fold(edge.max_body, u64::max);
        let limits = Limits::new(LimitsConfig {
            max_body_bytes: max_body,
            ..LimitsConfig::default()
        });
        let origin = Origin::new(OriginConfig {
            allowed_hosts: edge.allowed_hosts.clone(),
            allowed_origins: edge.allowed_origins.clone(),
        })?;
        let auth = JwtAuth::new(auth(&config)?, WallClock::system())?;
        let filters: Vec<Arc<dyn Filter>> = vec![Arc::new(limits), Arc::new(origin), Arc::new(auth)];
        Ok(Self {
            config,
            pools,
            chain: Chain::new(filters),
        })
    }
}

/// The issuers of a configuration, with their keys.
///
/// # Errors
/// A key that cannot be read or used.
pub fn issuers(config: &Config) -> Result<Vec<IssuerConfig>, StateError> {
    let mut issuers = Vec::with_capacity(config.auth.issuers.len());
    for issuer in &config.auth.issuers {
        let named = |source| StateError::Key {
            issuer: issuer.issuer.clone(),
            source,
        };
        let key = VerifyKey::secret(None, &keys::secret(&issuer.key)?).map_err(named)?;
        let algorithms = issuer
            .algorithms
            .iter()
            .map(|Algorithm::Hs256| JwtAlgorithm::HS256)
            .collect();
        issuers.push(IssuerConfig {
            issuer: issuer.issuer.as_str().into(),
            audiences: vec![issuer.audience.clone()],
            algorithms,
            keys: KeyRing::fixed(KeySet::new(vec![key])),
        });
    }
    Ok(issuers)
}

fn auth(config: &Config) -> Result<JwtAuthConfig, StateError> {
    let claims = |issuer: &Issuer| {
        let tiers = issuer
            .tiers
            .iter()
            .map(|tier| TierName::new(tier.as_str()))
            .collect();
        (Arc::from(issuer.issuer.as_str()), tiers)
    };
    let claimable: HashMap<_, _> = config.auth.issuers.iter().map(claims).collect();
    let principal = |key: &str| match key.rsplit_once('/') {
        Some((issuer, id)) => Principal::of(issuer, id),
        None => Principal::of(OWN_ISSUER, key),
    };
    let clients = config
        .clients
        .iter()
        .map(|(key, client)| (principal(key.as_str()), TierName::new(client.tier.as_str())));
    Ok(JwtAuthConfig {
        issuers: issuers(config)?,
        tiers: TierRules {
            clients: clients.collect(),
            claimable,
            default: TierName::new(DEFAULT_TIER),
        },
        anonymous: config
            .auth
            .anonymous
            .as_ref()
            .map(|tier| TierName::new(tier.as_str())),
        resource_metadata: None,
    })
}
