//! Makes tokens and says what is wrong with one: the library behind `mcp-edge token mint|inspect`.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use std::time::Duration;
use thiserror::Error;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::jwt::error::TokenError;
use crate::jwt::keys::SigningKey;
use crate::jwt::parse::Unverified;
use crate::jwt::verify::{MAX_LIFE, Verified, Verifier};

/// What a new token says.
#[derive(Debug, Clone, Default)]
pub struct MintSpec {
    /// `iss`
    pub issuer: String,
    /// `aud`
    pub audience: String,
    /// `client_id` and `sub`
    pub client_id: String,
    /// `tier`
    pub tier: Option<String>,
    /// `scope`
    pub scopes: Vec<String>,
    /// `session_id`
    pub session_id: Option<String>,
    /// From now to `exp`; at most 24 h, or the edge would refuse the token.
    pub lifetime: Duration,
}

/// Why no token was made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MintError {
    /// Without an id the token names nobody.
    #[error("a token needs a client id")]
    NoClient,
    /// The edge would refuse it.
    #[error("a token may live from 1 second to 24 hours")]
    Lifetime,
    /// The cryptography failed.
    #[error("the token could not be signed")]
    Sign,
}

/// Makes a token (HS256) at `now`, seconds since 1970.
pub fn mint(spec: &MintSpec, key: &SigningKey, now: u64) -> Result<String, MintError> {
    let lifetime = spec.lifetime.as_secs();
    if spec.client_id.is_empty() {
        return Err(MintError::NoClient);
    }
    if lifetime == 0 || lifetime > MAX_LIFE {
        return Err(MintError::Lifetime);
    }
    let mut header = Map::new();
    header.insert("alg".into(), "HS256".into());
    header.insert("typ".into(), "JWT".into());
    if let Some(kid) = &key.kid {
        header.insert("kid".into(), kid.as_ref().into());
    }
    let mut claims = Map::new();
    claims.insert("iss".into(), spec.issuer.as_str().into());
    claims.insert("aud".into(), spec.audience.as_str().into());
    claims.insert("sub".into(), spec.client_id.as_str().into());
    claims.insert("client_id".into(), spec.client_id.as_str().into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), now.saturating_add(lifetime).into());
    if let Some(tier) = &spec.tier {
        claims.insert("tier".into(), tier.as_str().into());
    }
    if !spec.scopes.is_empty() {
        claims.insert("scope".into(), spec.scopes.join(" ").into());
    }
    if let Some(session) = &spec.session_id {
        claims.insert("session_id".into(), session.as_str().into());
    }
    let part = |members: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(members).to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.key, Algorithm::HS256)
        .map_err(|_| MintError::Sign)?;
    Ok(format!("{message}.{signature}"))
}

/// What is to be said of a token.
#[derive(Debug)]
pub struct Inspection {
    /// Its header, if it can be read.
    pub header: Option<Value>,
    /// Its claims, if they can be read. Not verified if `result` is an error.
    pub claims: Option<Value>,
    /// What the edge would do with it.
    pub result: Result<Verified, TokenError>,
}

/// Says what the edge would do with a token at `now`, and exactly why.
pub async fn inspect(token: &str, verifier: &Verifier, now: u64) -> Inspection {
    let token = token.trim();
    let read = Unverified::read(token).ok();
    let (header, claims) = read
        .map(|r| (Value::Object(r.header), Value::Object(r.claims)))
        .unzip();
    Inspection {
        header,
        claims,
        result: verifier.verify(token, now).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::keys::{JwtAlgorithm, KeySet, VerifyKey};
    use crate::jwt::ring::KeyRing;
    use crate::jwt::verify::IssuerConfig;
    use secrecy::SecretString;

    const NOW: u64 = 1_800_000_000;

    fn secret() -> SecretString {
        SecretString::from("0123456789abcdef0123456789abcdef")
    }

    fn verifier() -> Verifier {
        Verifier::new(vec![IssuerConfig {
            issuer: "mcp-edge".into(),
            audiences: vec!["mcp-edge".into()],
            algorithms: vec![JwtAlgorithm::HS256],
            keys: KeyRing::fixed(KeySet::new(vec![VerifyKey::secret(None, &secret()).unwrap()])),
        }])
        .unwrap()
    }

    fn spec() -> MintSpec {
        MintSpec {
            issuer: "mcp-edge".into(),
            audience: "mcp-edge".into(),
            client_id: "codex".into(),
            tier: Some("pro".into()),
            scopes: vec!["files".into(), "git".into()],
            session_id: Some("s1".into()),
            lifetime: Duration::from_secs(3600),
        }
    }

    #[tokio::test]
    async fn a_minted_token_is_accepted_and_says_what_it_was_told() {
        let token = mint(&spec(), &SigningKey::secret(Some("k1"), &secret()).unwrap(), NOW).unwrap();
        let seen = inspect(&format!(" {token}\n"), &verifier(), NOW).await;
        let verified = seen.result.unwrap();
        assert_eq!((&*verified.id, verified.tier.as_deref()), ("codex", Some("pro")));
        assert_eq!(verified.scopes, ["files".into(), "git".into()]);
        assert_eq!(verified.session_id.as_deref(), Some("s1"));
        assert_eq!((verified.issued_at, verified.expires_at), (Some(NOW), NOW + 3600));
        assert_eq!(seen.header.unwrap()["kid"], "k1");
    }

    #[tokio::test]
    async fn inspection_reads_a_bad_token_and_says_why_it_is_bad() {
        let token = mint(&spec(), &SigningKey::secret(None, &secret()).unwrap(), NOW).unwrap();
        let seen = inspect(&token, &verifier(), NOW + 3631).await;
        assert_eq!(seen.claims.unwrap()["sub"], "codex");
        assert_eq!(seen.result, Err(TokenError::Expired));
        let seen = inspect("junk", &verifier(), NOW).await;
        assert!(seen.header.is_none());
        assert_eq!(seen.result, Err(TokenError::NotCompact));
    }

    #[test]
    fn a_token_that_would_be_refused_is_not_made() {
        let key = SigningKey::secret(None, &secret()).unwrap();
        let lives = |secs| {
            mint(
                &MintSpec {
                    lifetime: Duration::from_secs(secs),
                    ..spec()
                },
                &key,
                NOW,
            )
        };
        assert_eq!(lives(0), Err(MintError::Lifetime));
        assert_eq!(lives(86_401), Err(MintError::Lifetime));
        assert!(lives(86_400).is_ok());
        assert_eq!(
            mint(
                &MintSpec {
                    client_id: String::new(),
                    ..spec()
                },
                &key,
                NOW
            ),
            Err(MintError::NoClient)
        );
    }
}
