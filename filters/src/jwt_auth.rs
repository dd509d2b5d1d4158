//! Who is calling: turns the one bearer token of a request into an [`Identity`].
//!
//! Invariant: behind this filter every request has an identity, and it was verified by a key that is
//! in force now. A token comes from the `Authorization` header and nowhere else.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::WWW_AUTHENTICATE;
use thiserror::Error;

use crate::chain::Filter;
use crate::clock::WallClock;
use crate::ids::{Principal, TierName};
use crate::jwt::cache::TokenCache;
use crate::jwt::error::TokenError;
use crate::jwt::parse::MAX_TOKEN;
use crate::jwt::verify::{IssuerConfig, IssuerError, Verified, Verifier};
use crate::reason::Reason;
use crate::request::{Identity, Request};
use crate::verdict::{Reply, Verdict};

/// Issuer and id of requests without a token.
pub const ANONYMOUS: &str = "anonymous";

/// How a client gets its tier.
#[derive(Debug, Clone)]
pub struct TierRules {
    /// Tiers fixed by the config, by client. They win.
    pub clients: HashMap<Principal, TierName>,
    /// Tiers that a token of an issuer may claim.
    pub claimable: HashMap<Arc<str>, Vec<TierName>>,
    /// The tier of everybody else.
    pub default: TierName,
}

/// What the filter needs.
pub struct JwtAuthConfig {
    /// Whose tokens are taken.
    pub issuers: Vec<IssuerConfig>,
    /// Tiers.
    pub tiers: TierRules,
    /// The tier of requests without a token, on loopback listeners only; `None` refuses them.
    pub anonymous: Option<TierName>,
    /// URL of the protected-resource metadata (RFC 9728) with `{service}` for the service's name,
    /// if OAuth is configured.
    pub resource_metadata: Option<String>,
}

/// Why the filter cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum JwtAuthError {
    /// The list of issuers is wrong.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The build lacks its cryptography.
    #[error("signatures cannot be verified: the cryptography of this build does not work")]
    Crypto,
}

/// The filter.
pub struct JwtAuth {
    verifier: Verifier,
    cache: TokenCache,
    tiers: TierRules,
    anonymous: Option<Arc<Identity>>,
    resource_metadata: Option<String>,
    clock: WallClock,
}

impl JwtAuth {
    /// Checks the config and that this build can verify signatures at all.
    pub fn new(config: JwtAuthConfig, clock: WallClock) -> Result<Self, JwtAuthError> {
        self_test()?;
        Ok(Self {
            verifier: Verifier::new(config.issuers)?,
            cache: TokenCache::new(),
            tiers: config.tiers,
            anonymous: config.anonymous.map(|tier| Arc::new(anonymous(tier))),
            resource_metadata: config.resource_metadata,
            clock,
        })
    }

    async fn identify(&self, req: &Request) -> Result<Arc<Identity>, Reply> {
        let token = match req.authorization.as_slice() {
            [] => match &self.anonymous {
                Some(identity) if req.listener_loopback => return Ok(Arc::clone(identity)),
                _ => {
                    let message = "a token is needed; send it as `Authorization: Bearer <token>`";
                    return Err(Reply::new(Reason::TokenMissing, message));
                }
            },
            [one] => bearer(one.as_bytes())?,
            _ => {
                return Err(Reply::new(
                    Reason::BadRequest,
                    "there is more than one Authorization header",
                ));
            }
        };
        self.identify_token(token)
            .await
            .map_err(|error| Reply::new(error.reason(), error.to_string()))
    }

    async fn identify_token(&self, token: &str) -> Result<Arc<Identity>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (now, key) = (self.clock.unix_secs(), TokenCache::key(token));
        if let Some(hit) = self.cache.get(&key, now)
            && self.verifier.is_current(&hit.identity.issuer, hit.generation)
        {
            return Ok(hit.identity);
        }
        let verified = self.verifier.verify(token, now).await?;
        let generation = verified.generation;
        let identity = Arc::new(self.tiers.identity(verified));
        self.cache.put(key, Arc::clone(&identity), generation, now);
        Ok(identity)
    }

    fn challenge(&self, req: &Request, reply: Reply) -> Reply {
        let Some(template) = &self.resource_metadata else {
            return reply;
        };
        if reply.reason.status() != http::StatusCode::UNAUTHORIZED {
            return reply;
        }
        let value = reply.challenge(Some(&template.replace("{service}", req.service.as_str())));
        Reply {
            headers: vec![(WWW_AUTHENTICATE, value)],
            ..reply
        }
    }
}

impl TierRules {
    /// The identity of a verified token: the config's tier for the client, else the claimed tier if
    /// the issuer may claim it, else the default (design, "Identity").
    pub(crate) fn identity(&self, verified: Verified) -> Identity {
        let principal = Principal::of(&verified.issuer, &verified.id);
        let claimed = || {
            let claim = verified.tier.as_deref()?;
            self.claimable
                .get(&verified.issuer)?
                .iter()
                .find(|tier| tier.as_str() == claim)
        };
        let tier = self
            .clients
            .get(&principal)
            .or_else(claimed)
            .unwrap_or(&self.default)
            .clone();
        Identity {
            issuer: verified.issuer,
            id: verified.id,
            principal,
            tier,
            scopes: verified.scopes.into(),
            session_id: verified.session_id,
            token_iat: verified.issued_at,
            token_exp: Some(verified.expires_at),
        }
    }
}

fn anonymous(tier: TierName) -> Identity {
    Identity {
        issuer: ANONYMOUS.into(),
        id: ANONYMOUS.into(),
        principal: Principal::of(ANONYMOUS, ANONYMOUS),
        tier,
        scopes: [].into(),
        session_id: None,
        token_iat: None,
        token_exp: None,
    }
}

/// The token of `Bearer <token>` (RFC 6750 section 2.1; the scheme's case does not matter, RFC 9110
/// section 11.1).
fn bearer(value: &[u8]) -> Result<&str, Reply> {
    let wrong = || {
        Reply::new(
            Reason::TokenInvalid,
            "the Authorization header is not `Bearer <token>`",
        )
    };
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(wrong)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return Err(wrong());
    }
    Ok(token)
}

/// Verifies the HS256 example of RFC 7515, appendix A.1, right and wrong. A build without a
/// cryptography backend compiles and panics only here.
fn self_test() -> Result<(), JwtAuthError> {
    const MESSAGE: &[u8] = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow==";
    let check = |signature: &str| {
        let key =
            jsonwebtoken::DecodingKey::from_base64_secret(&KEY.replace('-', "+").replace('_', "/")).ok()?;
        jsonwebtoken::crypto::verify(signature, MESSAGE, &key, jsonwebtoken::Algorithm::HS256).ok()
    };
    let result = std::panic::catch_unwind(|| {
        (
            check("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            check("eBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        )
    });
    match result {
        Ok((Some(true), Some(false))) => Ok(()),
        _ => Err(JwtAuthError::Crypto),
    }
}

#[async_trait]
impl Filter for JwtAuth {
    fn name(&self) -> &'static str {
        "jwt_auth"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        match self.identify(req).await {
            Ok(identity) => {
                req.identity = Some(identity);
                Verdict::Continue
            }
            Err(reply) => self.challenge(req, reply).into(),
        }
    }
}

#[cfg(test)]
mod tests;
