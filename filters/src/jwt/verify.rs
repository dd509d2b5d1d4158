//! The rules for a token, in the order in which they are asked.
//!
//! Invariant: claims are looked at for anything but `iss` only after the signature was verified with
//! a key and an algorithm that the config of that issuer allows.
//!
//! Rules: exp, aud and iss must be there; nbf and iat are checked; leeway 30 s; a token lives at most
//! 24 h; times are JSON integers and nothing else (CVE-2026-25537: a library read other forms as 0).

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use super::error::TokenError;
use super::keys::JwtAlgorithm;
use super::parse::Unverified;
use super::ring::KeyRing;

/// Clocks differ by this many seconds at most.
pub const LEEWAY: u64 = 30;
/// Longest life of a token in seconds.
pub const MAX_LIFE: u64 = 24 * 60 * 60;
/// Longest id, tier or session id in bytes; most scopes.
const MAX_TEXT: usize = 256;
const MAX_SCOPES: usize = 64;
/// Header members that name a key or demand an extension: a token must do neither.
const FORBIDDEN: [&str; 4] = ["jku", "x5u", "jwk", "crit"];

/// An issuer whose tokens are taken.
#[derive(Clone)]
pub struct IssuerConfig {
    /// `iss`, exactly.
    pub issuer: Arc<str>,
    /// `aud` must name one of them.
    pub audiences: Vec<String>,
    /// `alg` must be one of them.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Its keys.
    pub keys: Arc<KeyRing>,
}

/// A mistake in the list of issuers.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IssuerError {
    /// Without a name, or with the name that anonymous requests have.
    #[error("an issuer needs a name, and `anonymous` is taken")]
    Name,
    /// Twice the same.
    #[error("the issuer `{0}` is there twice; give one entry several keys instead")]
    Twice(String),
    /// Nothing to check `aud` against.
    #[error("the issuer `{0}` has no audience; name what its tokens carry in `aud` for this edge")]
    NoAudience(String),
    /// No algorithm.
    #[error("the issuer `{0}` has no algorithms")]
    NoAlgorithm(String),
    /// Secrets and public keys in one issuer invite confusion of the two.
    #[error("the issuer `{0}` mixes HMAC and public-key algorithms; use one kind")]
    Mixed(String),
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// `iss`
    pub issuer: Arc<str>,
    /// `client_id`, else `sub`.
    pub id: Arc<str>,
    /// `tier`, as claimed: whether it counts is the config's to say.
    pub tier: Option<String>,
    /// `scope` or `scp`.
    pub scopes: Vec<Box<str>>,
    /// `session_id`
    pub session_id: Option<Arc<str>>,
    /// `iat`, seconds since 1970.
    pub issued_at: Option<u64>,
    /// `exp`, seconds since 1970.
    pub expires_at: u64,
    /// The generation of the keys it was verified with.
    pub(crate) generation: u64,
}

/// Verifies tokens of the issuers in its list.
pub struct Verifier {
    issuers: HashMap<Arc<str>, IssuerConfig>,
}

impl Verifier {
    /// Checks the list.
    pub fn new(issuers: Vec<IssuerConfig>) -> Result<Self, IssuerError> {
        let mut by_name = HashMap::with_capacity(issuers.len());
        for issuer in issuers {
            let name = || issuer.issuer.to_string();
            if issuer.issuer.is_empty() || &*issuer.issuer == crate::jwt_auth::ANONYMOUS {
                return Err(IssuerError::Name);
            }
            if issuer.audiences.is_empty() {
                return Err(IssuerError::NoAudience(name()));
            }
            let symmetric = issuer.algorithms.iter().filter(|alg| alg.is_symmetric()).count();
            if issuer.algorithms.is_empty() {
                return Err(IssuerError::NoAlgorithm(name()));
            }
            if symmetric != 0 && symmetric != issuer.algorithms.len() {
                return Err(IssuerError::Mixed(name()));
            }
            if by_name.contains_key(&issuer.issuer) {
                return Err(IssuerError::Twice(name()));
            }
            by_name.insert(Arc::clone(&issuer.issuer), issuer);
        }
        Ok(Self { issuers: by_name })
    }

    /// Verifies a token at `now` (seconds since 1970), fetching keys once if its key is unknown.
    pub async fn verify(&self, token: &str, now: u64) -> Result<Verified, TokenError> {
        let read = Unverified::read(token)?;
        let issuer = self.issuer_of(&read)?;
        let generation = issuer.keys.generation();
        match verify_with(issuer, &read, now, generation) {
            Err(TokenError::UnknownKey | TokenError::KeysUnavailable)
                if issuer.keys.refetch(generation).await =>
            {
                verify_with(issuer, &read, now, issuer.keys.generation())
            }
            result => result,
        }
    }

    /// The same with the keys that are known now.
    pub fn verify_now(&self, token: &str, now: u64) -> Result<Verified, TokenError> {
        let read = Unverified::read(token)?;
        let issuer = self.issuer_of(&read)?;
        verify_with(issuer, &read, now, issuer.keys.generation())
    }

    /// Whether the keys that a token was verified with are still the issuer's.
    pub(crate) fn is_current(&self, issuer: &str, generation: u64) -> bool {
        self.issuers
            .get(issuer)
            .is_some_and(|issuer| issuer.keys.generation() == generation)
    }

    fn issuer_of(&self, read: &Unverified<'_>) -> Result<&IssuerConfig, TokenError> {
        let name = text(&read.claims, "iss")?.ok_or(TokenError::Missing("iss"))?;
        self.issuers.get(name).ok_or(TokenError::Issuer)
    }
}

fn verify_with(
    issuer: &IssuerConfig,
    read: &Unverified<'_>,
    now: u64,
    generation: u64,
) -> Result<Verified, TokenError> {
    let (alg, kid) = check_header(issuer, &read.header)?;
    let signed = issuer.keys.read(|keys| {
        let mut known = false;
        let good = keys.candidates(kid, alg.0).any(|key| {
            known = true;
            let verified =
                jsonwebtoken::crypto::verify(read.signature, read.message.as_bytes(), &key.key, alg.0);
            verified.unwrap_or(false)
        });
        match (known, good) {
            (_, true) => Ok(()),
            (true, false) => Err(TokenError::Signature),
            (false, false) => Err(TokenError::UnknownKey),
        }
    });
    signed.ok_or(TokenError::KeysUnavailable)??;
    check_claims(issuer, &read.claims, now, generation)
}

fn check_header<'a>(
    issuer: &IssuerConfig,
    header: &'a Map<String, Value>,
) -> Result<(JwtAlgorithm, Option<&'a str>), TokenError> {
    if let Some(member) = FORBIDDEN.iter().find(|member| header.contains_key(**member)) {
        return Err(TokenError::HeaderMember(member));
    }
    // RFC 7519 section 5.1; RFC 9068 section 2.1 for access tokens.
    if let Some(typ) = header.get("typ") {
        let typ = typ.as_str().ok_or(TokenError::Type)?;
        if !["JWT", "at+jwt", "application/at+jwt"]
            .iter()
            .any(|good| good.eq_ignore_ascii_case(typ))
        {
            return Err(TokenError::Type);
        }
    }
    let alg: JwtAlgorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|a| a.parse().ok())
        .ok_or(TokenError::Algorithm)?;
    if !issuer.algorithms.contains(&alg) {
        return Err(TokenError::Algorithm);
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_TEXT => Some(kid.as_str()),
        Some(_) => return Err(TokenError::UnknownKey),
    };
    Ok((alg, kid))
}

fn check_claims(
    issuer: &IssuerConfig,
    claims: &Map<String, Value>,
    now: u64,
    generation: u64,
) -> Result<Verified, TokenError> {
    check_audience(issuer, claims.get("aud").ok_or(TokenError::Missing("aud"))?)?;
    let expires_at = time(claims, "exp")?.ok_or(TokenError::Missing("exp"))?;
    let (issued_at, not_before) = (time(claims, "iat")?, time(claims, "nbf")?);
    if now > expires_at.saturating_add(LEEWAY) {
        return Err(TokenError::Expired);
    }
    if issued_at
        .max(not_before)
        .is_some_and(|from| from > now.saturating_add(LEEWAY))
    {
        return Err(TokenError::NotYet);
    }
    // Without `iat` the rest of its life is what is known of it.
    if expires_at.saturating_sub(issued_at.unwrap_or(now)) > MAX_LIFE {
        return Err(TokenError::LivesTooLong);
    }
    let id = match text(claims, "client_id")? {
        Some(id) => id,
        None => text(claims, "sub")?.ok_or(TokenError::Missing("client_id` or `sub"))?,
    };
    Ok(Verified {
        issuer: Arc::clone(&issuer.issuer),
        id: id.into(),
        tier: text(claims, "tier")?.map(Into::into),
        scopes: scopes(claims)?,
        session_id: text(claims, "session_id")?.map(Into::into),
        issued_at,
        expires_at,
        generation,
    })
}

fn check_audience(issuer: &IssuerConfig, aud: &Value) -> Result<(), TokenError> {
    let expected = |aud: &str| issuer.audiences.iter().any(|a| a == aud);
    let named = match aud {
        Value::String(aud) => expected(aud),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).any(expected)
        }
        _ => return Err(TokenError::Form("aud")),
    };
    if named { Ok(()) } else { Err(TokenError::Audience) }
}

/// A NumericDate (RFC 7519 section 2), taken as a non-negative integer only.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, TokenError> {
    claims
        .get(name)
        .map(|value| value.as_u64().ok_or(TokenError::Form(name)))
        .transpose()
}

/// A short text of printable ASCII: it becomes a header value, a key and a line of a log.
fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, TokenError> {
    let good = |text: &&str| {
        !text.is_empty() && text.len() <= MAX_TEXT && text.bytes().all(|b| matches!(b, b' '..=b'~'))
    };
    claims
        .get(name)
        .map(|v| v.as_str().filter(good).ok_or(TokenError::Form(name)))
        .transpose()
}

/// `scope` (RFC 8693 section 4.2: one string) or `scp` (what some providers send: a string or a list).
fn scopes(claims: &Map<String, Value>) -> Result<Vec<Box<str>>, TokenError> {
    let mut scopes = Vec::new();
    for name in ["scope", "scp"] {
        match claims.get(name) {
            None => {}
            Some(Value::String(text)) => scopes.extend(text.split_ascii_whitespace().map(Box::from)),
            Some(Value::Array(list)) => {
                for scope in list {
                    scopes.push(scope.as_str().ok_or(TokenError::Form(name))?.into());
                }
            }
            Some(_) => return Err(TokenError::Form(name)),
        }
        if scopes.len() > MAX_SCOPES {
            return Err(TokenError::Form(name));
        }
    }
    Ok(scopes)
}
