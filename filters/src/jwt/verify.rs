//! From a token to an identity, or to the reason why not.
//!
//! Invariant: the algorithm is the one that the configuration gives to the key, never one that the token chose; and an
//! identity comes out only after the signature, the issuer, the audience and the times were all checked.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use secrecy::{ExposeSecret, SecretString};

use super::claims::{self, Claims, Parts, TokenError};
use crate::ids::{Principal, TierName};
use crate::request::Identity;

/// How far two clocks may differ, in seconds.
pub const LEEWAY: u64 = 30;

/// Longest life of a token, in seconds.
pub const MAX_LIFE: u64 = 24 * 3600;

/// The shortest secret that is as strong as the hash (RFC 7518 section 3.2), in bytes.
pub const MIN_SECRET: usize = 32;

/// One secret of an issuer, the current one or the previous one.
#[derive(Clone)]
pub struct Key {
    /// The token's `kid` must be this one, if the key has one.
    pub id: Option<String>,
    pub secret: SecretString,
}

/// One issuer of tokens.
#[derive(Clone)]
pub struct IssuerConfig {
    /// Required `iss`.
    pub issuer: String,
    /// Required `aud`, or one of several.
    pub audience: String,
    /// Tried in order.
    pub keys: Vec<Key>,
    /// Tiers that a token of this issuer may name; a token that names another is refused.
    pub tiers: Vec<TierName>,
}

/// Why an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error("the issuer {0:?} has a secret of less than 32 bytes; make one with `openssl rand -hex 32`")]
    ShortSecret(String),
    #[error("the issuer {0:?} has no key")]
    NoKey(String),
    #[error("the issuer {0:?} is configured twice")]
    Twice(String),
    #[error("the cryptography of this build does not work: {0}")]
    Crypto(jsonwebtoken::errors::Error),
}

/// What decides a client's tier beside its token: the configuration's word on single clients.
pub trait Tiers: Send + Sync {
    /// The tier that the configuration gives to this client.
    fn of(&self, issuer: &str, id: &str) -> Option<TierName>;
    /// The tier of clients about whom nobody says anything.
    fn default_tier(&self) -> TierName;
}

struct Issuer {
    config: IssuerConfig,
    keys: Vec<(Option<String>, DecodingKey)>,
}

/// Verifies tokens of the configured issuers.
pub struct Verifier {
    issuers: Vec<Issuer>,
    tiers: Arc<dyn Tiers>,
}

impl Verifier {
    /// # Errors
    /// See [`IssuerError`]; each names the issuer.
    pub fn new(issuers: Vec<IssuerConfig>, tiers: Arc<dyn Tiers>) -> Result<Self, IssuerError> {
        self_test().map_err(IssuerError::Crypto)?;
        let mut made: Vec<Issuer> = Vec::with_capacity(issuers.len());
        for config in issuers {
            if made.iter().any(|other| other.config.issuer == config.issuer) {
                return Err(IssuerError::Twice(config.issuer));
            }
            if config.keys.is_empty() {
                return Err(IssuerError::NoKey(config.issuer));
            }
            if config
                .keys
                .iter()
                .any(|key| key.secret.expose_secret().len() < MIN_SECRET)
            {
                return Err(IssuerError::ShortSecret(config.issuer));
            }
            let key = |key: &Key| {
                (
                    key.id.clone(),
                    DecodingKey::from_secret(key.secret.expose_secret().as_bytes()),
                )
            };
            let keys = config.keys.iter().map(key).collect();
            made.push(Issuer { config, keys });
        }
        Ok(Self { issuers: made, tiers })
    }

    /// Checks a token at `now` (seconds since 1970).
    ///
    /// # Errors
    /// The first rule that the token breaks, in the order in which they are listed in [`TokenError`].
    pub fn verify(&self, token: &str, now: u64) -> Result<Identity, TokenError> {
        let parts = claims::read(token)?;
        let issuer = self
            .issuers
            .iter()
            .find(|issuer| issuer.config.issuer == parts.claims.iss)
            .ok_or_else(|| TokenError::Issuer(parts.claims.iss.clone()))?;
        issuer.check_signature(&parts)?;
        if !parts.claims.aud.has(&issuer.config.audience) {
            return Err(TokenError::Audience(issuer.config.audience.clone()));
        }
        check_times(&parts.claims, now)?;
        self.identify(issuer, parts.claims)
    }

    fn identify(&self, issuer: &Issuer, claims: Claims) -> Result<Identity, TokenError> {
        let id = claims.client_id.or(claims.sub).filter(|id| !id.is_empty());
        let id = id.ok_or(TokenError::Missing("client_id` or `sub"))?;
        let tier = match (self.tiers.of(&claims.iss, &id), claims.tier) {
            (Some(configured), _) => configured,
            (None, Some(named)) => issuer
                .config
                .tiers
                .iter()
                .find(|tier| tier.as_str() == named)
                .cloned()
                .ok_or(TokenError::Tier(named))?,
            (None, None) => self.tiers.default_tier(),
        };
        let scopes = claims
            .scope
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(Into::into)
            .collect();
        Ok(Identity {
            principal: Principal::of(&claims.iss, &id),
            issuer: claims.iss.into(),
            id: id.into(),
            tier,
            scopes,
            session_id: claims.session_id.map(Into::into),
            token_iat: claims.iat,
            token_exp: Some(claims.exp),
        })
    }
}

impl Issuer {
    fn check_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        if parts.header.alg != "HS256" {
            return Err(TokenError::Algorithm(parts.header.alg.clone()));
        }
        let kid = parts.header.kid.as_deref();
        // A key without an id may have signed any token; one with an id only those that name it, or name none.
        let fits = |id: &Option<String>| match (id.as_deref(), kid) {
            (Some(id), Some(kid)) => id == kid,
            _ => true,
        };
        let mut candidates = self.keys.iter().filter(|(id, _)| fits(id)).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownKey(
                kid.unwrap_or_default().chars().take(64).collect(),
            ));
        }
        let good = candidates.any(|(_, key)| {
            crypto::verify(parts.signature, parts.signed.as_bytes(), key, Algorithm::HS256).unwrap_or(false)
        });
        if good { Ok(()) } else { Err(TokenError::Signature) }
    }
}

fn check_times(claims: &Claims, now: u64) -> Result<(), TokenError> {
    if now > claims.exp.saturating_add(LEEWAY) {
        return Err(TokenError::Expired(now - claims.exp));
    }
    if let Some(nbf) = claims.nbf
        && nbf > now.saturating_add(LEEWAY)
    {
        return Err(TokenError::NotYet(nbf - now));
    }
    let issued = match claims.iat {
        Some(iat) if iat > now.saturating_add(LEEWAY) => return Err(TokenError::IssuedLater(iat - now)),
        // Without `iat` it cannot have been issued later than now.
        other => other.unwrap_or(now),
    };
    let life = claims.exp.saturating_sub(issued);
    if life > MAX_LIFE {
        return Err(TokenError::TooLongLived(life));
    }
    Ok(())
}

/// `jsonwebtoken` compiles without a cryptographic backend and then fails at the first use; so it is used once here.
fn self_test() -> Result<(), jsonwebtoken::errors::Error> {
    let secret = [7_u8; 32];
    let signature = crypto::sign(b"self-test", &EncodingKey::from_secret(&secret), Algorithm::HS256)?;
    crypto::verify(
        &signature,
        b"self-test",
        &DecodingKey::from_secret(&secret),
        Algorithm::HS256,
    )
    .map(|_| ())
}
