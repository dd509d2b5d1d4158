//! Reads the compact form (RFC 7515 section 3.1) strictly.
//!
//! Invariant: a token that is read has exactly one reading. Duplicate members (RFC 7515 section 4,
//! RFC 7519 section 4), other base64 forms and padding are errors, not choices.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::TokenError;

/// Longest token in bytes.
pub(crate) const MAX_TOKEN: usize = 8 * 1024;

/// A token, read but not verified.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    /// What is signed: the first two parts with the dot.
    pub(crate) message: &'a str,
    /// The third part, canonical base64url.
    pub(crate) signature: &'a str,
}

impl<'a> Unverified<'a> {
    /// Reads the three parts.
    pub(crate) fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::NotCompact)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::NotCompact)?;
        if claims.contains('.') || header.is_empty() || claims.is_empty() {
            return Err(TokenError::NotCompact);
        }
        URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Base64("signature"))?;
        Ok(Self {
            header: object(header, "header")?,
            claims: object(claims, "claims")?,
            message,
            signature,
        })
    }
}

fn object(part: &str, name: &'static str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Base64(name))?;
    match serde_json::from_slice::<UniqueObject>(&bytes) {
        Ok(object) => Ok(object.0),
        Err(error) if error.to_string().starts_with(DUPLICATE) => Err(TokenError::Duplicate(name)),
        Err(_) => Err(TokenError::NotObject(name)),
    }
}

const DUPLICATE: &str = "duplicate member";

/// A JSON object whose members are distinct (`serde_json::Map` would keep the last of two).
struct UniqueObject(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = UniqueObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<UniqueObject, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom(DUPLICATE));
                    }
                }
                Ok(UniqueObject(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!(
            "{}.{}.AAAA",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    #[test]
    fn a_plain_token_is_read() {
        let text = token(r#"{"alg":"HS256"}"#, r#"{"iss":"a","n":{"x":1}}"#);
        let read = Unverified::read(&text).unwrap();
        assert_eq!(read.header["alg"], "HS256");
        assert_eq!(read.claims["iss"], "a");
        assert_eq!(format!("{}.{}", read.message, read.signature), text);
    }

    #[test]
    fn anything_with_two_readings_is_refused() {
        let refused = |text: &str| Unverified::read(text).unwrap_err();
        let good = token("{}", "{}");
        assert_eq!(
            refused(&token(r#"{"alg":"a","alg":"b"}"#, "{}")),
            TokenError::Duplicate("header")
        );
        assert_eq!(
            refused(&token("{}", r#"{"iss":"a","\u0069ss":"b"}"#)),
            TokenError::Duplicate("claims")
        );
        assert_eq!(refused(&format!("{good}=")), TokenError::Base64("signature"));
        assert_eq!(
            refused(&good.replace("AAAA", "AA+/")),
            TokenError::Base64("signature")
        );
        // The last two bits of `AB` are not zero: a second spelling of the same byte.
        assert_eq!(
            refused(&good.replace("AAAA", "AB")),
            TokenError::Base64("signature")
        );
        assert_eq!(refused(&format!(" {good}")), TokenError::Base64("header"));
        assert_eq!(refused("a.b"), TokenError::NotCompact);
        assert_eq!(refused("a.b.c.d.e"), TokenError::NotCompact);
        assert_eq!(refused("..AAAA"), TokenError::NotCompact);
        assert_eq!(refused(&token("[]", "{}")), TokenError::NotObject("header"));
        assert_eq!(
            refused(&token("{}", r#"{"exp":1e400}"#)),
            TokenError::NotObject("claims")
        );
        assert_eq!(refused(&token("{}", "{} x")), TokenError::NotObject("claims"));
        assert_eq!(refused(&"x".repeat(MAX_TOKEN + 1)), TokenError::TooLong);
    }
}
