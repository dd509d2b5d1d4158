//! Reading a token's two JSON parts, strictly.
//!
//! Two parsers must never read two different tokens: duplicate members are refused, times are whole numbers and
//! nothing else (CVE-2026-25537: a string, float or array as `exp` was read as "no expiry" elsewhere), and base64 is
//! base64url without padding (RFC 7515 section 2). Invariant: a [`Claims`] has every claim that the rules need.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// Longest token that is looked at.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// Why a token is refused. The texts are for the token's owner: they name claims and limits, never values of secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is longer than 8 KiB")]
    TooLong,
    #[error("the token is not three base64url parts joined by dots")]
    Malformed,
    #[error("the token's header is not a JSON object with `alg`, each member once: {0}")]
    Header(String),
    #[error(
        "the header member `{0}` is not accepted: keys come from the configuration, never from the token"
    )]
    KeyInHeader(&'static str),
    #[error("`typ` is {0:?}; only JWT and at+jwt are accepted")]
    Type(String),
    #[error("the token's claims are not a JSON object with each claim once and of its type: {0}")]
    Claims(String),
    #[error("the claim `{0}` is missing")]
    Missing(&'static str),
    #[error("the issuer {0:?} is not configured under auth.jwt")]
    Issuer(String),
    #[error("`alg` is {0:?}, which this issuer does not use")]
    Algorithm(String),
    #[error("no key of this issuer has the id (`kid`) {0:?}")]
    UnknownKey(String),
    #[error("the signature does not verify with any key of the issuer")]
    Signature,
    #[error("`aud` does not name {0:?}")]
    Audience(String),
    #[error("the token expired {0} s ago (leeway 30 s)")]
    Expired(u64),
    #[error("the token is not valid before {0} s from now (`nbf`)")]
    NotYet(u64),
    #[error("the token was issued {0} s in the future (`iat`)")]
    IssuedLater(u64),
    #[error("the token is good for {0} s; at most 86400 s (24 h) are accepted")]
    TooLongLived(u64),
    #[error("the tier {0:?} is not one that this issuer may name")]
    Tier(String),
}

/// The part before the first dot.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
}

/// What the rules and the filters behind them need.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: Audience,
    pub(super) exp: u64,
    pub(super) nbf: Option<u64>,
    pub(super) iat: Option<u64>,
    pub(super) sub: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) tier: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) session_id: Option<String>,
}

/// One audience or several (RFC 7519 section 4.1.3).
#[derive(Debug)]
pub(super) struct Audience(Vec<String>);

impl Audience {
    pub(super) fn has(&self, wanted: &str) -> bool {
        self.0.iter().any(|one| one == wanted)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Audience;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or an array of strings")
            }
            fn visit_str<E>(self, one: &str) -> Result<Audience, E> {
                Ok(Audience(vec![one.to_owned()]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Audience, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(Audience(all))
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

/// A token cut into its parts.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// Header and claims as they were signed.
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: Header,
    pub(super) claims: Claims,
}

/// Cuts and reads a token; nothing in it is to be believed yet.
///
/// # Errors
/// Form, types, missing or duplicate members.
pub(super) fn read(token: &str) -> Result<Parts<'_>, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if claims.contains('.') {
        return Err(TokenError::Malformed);
    }
    decode(signature)?;
    let header = read_header(&decode(header)?)?;
    let claims = decode(claims)?;
    no_duplicates(&claims).map_err(TokenError::Claims)?;
    let claims = serde_json::from_slice::<Claims>(&claims).map_err(|error| missing_or(&error.to_string()))?;
    Ok(Parts {
        signed,
        signature,
        header,
        claims,
    })
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn missing_or(message: &str) -> TokenError {
    for claim in ["iss", "aud", "exp"] {
        if message.starts_with(&format!("missing field `{claim}`")) {
            return TokenError::Missing(claim);
        }
    }
    TokenError::Claims(message.to_owned())
}

fn read_header(json: &[u8]) -> Result<Header, TokenError> {
    #[derive(Deserialize)]
    struct Raw {
        alg: String,
        kid: Option<String>,
        typ: Option<String>,
    }
    let names = no_duplicates(json).map_err(TokenError::Header)?;
    for forbidden in ["jku", "jwk", "x5u", "x5c", "crit"] {
        if names.iter().any(|name| name == forbidden) {
            return Err(TokenError::KeyInHeader(forbidden));
        }
    }
    let raw: Raw = serde_json::from_slice(json).map_err(|error| TokenError::Header(error.to_string()))?;
    if let Some(typ) = raw.typ
        && !["jwt", "at+jwt"]
            .iter()
            .any(|known| typ.eq_ignore_ascii_case(known))
    {
        return Err(TokenError::Type(typ));
    }
    Ok(Header {
        alg: raw.alg,
        kid: raw.kid,
    })
}

/// The names of an object's members, if each is there once.
fn no_duplicates(json: &[u8]) -> Result<Vec<String>, String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut names: Vec<String> = Vec::new();
            while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                if names.contains(&name) {
                    return Err(A::Error::custom(format!("`{name}` is there twice")));
                }
                // A token has a handful of claims; a flood of them only makes this check quadratic.
                if names.len() >= 100 {
                    return Err(A::Error::custom("more than 100 members"));
                }
                names.push(name);
            }
            Ok(names)
        }
    }
    let mut from = serde_json::Deserializer::from_slice(json);
    let names = from.deserialize_map(Names).map_err(|error| error.to_string())?;
    from.end().map_err(|error| error.to_string())?;
    Ok(names)
}
