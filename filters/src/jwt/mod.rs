//! `jwt_auth`: who is calling.
//!
//! Invariant: behind this filter every request has an identity: of a verified token, or the anonymous one where the
//! configuration lets token-less requests in, which it can do on a loopback listener only.

mod cache;
mod claims;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;

pub use claims::TokenError;
pub use verify::{IssuerConfig, IssuerError, Key, LEEWAY, MAX_LIFE, MIN_SECRET, Tiers, Verifier};

use crate::chain::Filter;
use crate::clock::WallClock;
use crate::ids::{Principal, TierName};
use crate::reason::Reason;
use crate::request::{Identity, Request};
use crate::verdict::{Reply, Verdict};
use cache::Cache;

/// Issuer and id of requests without a token.
const ANONYMOUS: &str = "anonymous";

/// The filter.
pub struct JwtAuth {
    verifier: Verifier,
    anonymous: Option<Arc<Identity>>,
    cache: Cache,
    clock: WallClock,
}

impl JwtAuth {
    /// `anonymous`: the tier of requests without a token, which are let in on a loopback listener only.
    pub fn new(verifier: Verifier, anonymous: Option<TierName>, clock: WallClock) -> Self {
        let anonymous = anonymous.map(|tier| {
            Arc::new(Identity {
                issuer: ANONYMOUS.into(),
                id: ANONYMOUS.into(),
                principal: Principal::of(ANONYMOUS, ANONYMOUS),
                tier,
                scopes: Arc::default(),
                session_id: None,
                token_iat: None,
                token_exp: None,
            })
        });
        Self {
            verifier,
            anonymous,
            cache: Cache::default(),
            clock,
        }
    }

    fn identify(&self, req: &Request) -> Result<Arc<Identity>, Reply> {
        let header = match req.authorization.as_slice() {
            [] => return self.without_token(req),
            [one] => one,
            _ => {
                return Err(Reply::new(
                    Reason::BadRequest,
                    "Authorization was sent more than once; send it once",
                ));
            }
        };
        let token = bearer(header)?;
        let now = self.clock.unix_secs();
        let place = Cache::place(token);
        if let Some(identity) = self.cache.get(&place, now) {
            return Ok(identity);
        }
        let identity = Arc::new(
            self.verifier
                .verify(token, now)
                .map_err(|error| refusal(&error))?,
        );
        self.cache.put(&place, identity.clone(), now);
        Ok(identity)
    }

    fn without_token(&self, req: &Request) -> Result<Arc<Identity>, Reply> {
        match &self.anonymous {
            Some(identity) if req.listener_loopback => Ok(identity.clone()),
            _ => Err(Reply::new(
                Reason::TokenMissing,
                "send a token: `Authorization: Bearer …`",
            )),
        }
    }
}

fn bearer(header: &HeaderValue) -> Result<&str, Reply> {
    let wrong = || Reply::new(Reason::TokenInvalid, "Authorization must be `Bearer` and a token");
    let (scheme, token) = header
        .to_str()
        .map_err(|_| wrong())?
        .split_once(' ')
        .ok_or_else(wrong)?;
    // RFC 9110 section 11.1: the scheme's case does not matter.
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(wrong())
    }
}

fn refusal(error: &TokenError) -> Reply {
    let reason = match error {
        TokenError::Expired(_) => Reason::TokenExpired,
        _ => Reason::TokenInvalid,
    };
    Reply::new(reason, error.to_string())
}

#[async_trait]
impl Filter for JwtAuth {
    fn name(&self) -> &'static str {
        "jwt_auth"
    }

    async fn on_request(&self, req: &mut Request) -> Verdict {
        match self.identify(req) {
            Ok(identity) => {
                req.identity = Some(identity);
                Verdict::Continue
            }
            Err(reply) => reply.into(),
        }
    }
}
