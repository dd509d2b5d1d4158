//! Keys that verify tokens: shared secrets, public keys in PEM, and JWK sets (RFC 7517).
//!
//! Invariant: a key says which algorithms it is for, and those are all of the family that its
//! material belongs to. An RSA public key can never be used as an HMAC secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use thiserror::Error;

/// Shortest HMAC secret in bytes (RFC 7518 section 3.2: at least the size of the hash).
pub const MIN_SECRET: usize = 32;
/// Largest JWK set in bytes.
pub const MAX_JWKS: usize = 256 * 1024;
/// Most keys of a JWK set.
pub const MAX_KEYS: usize = 32;
/// Longest `kid` in bytes.
const MAX_KID: usize = 256;

/// A signature algorithm that a config may name (RFC 7518 section 3.1; `none` is not one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JwtAlgorithm(pub(crate) Algorithm);

impl JwtAlgorithm {
    /// HMAC with SHA-256.
    pub const HS256: Self = Self(Algorithm::HS256);

    /// Whether a shared secret verifies it.
    pub fn is_symmetric(self) -> bool {
        self.0.family() == AlgorithmFamily::Hmac
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for JwtAlgorithm {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.parse()
            .map(Self)
            .map_err(|_| KeyError::Algorithm(text.chars().take(32).collect()))
    }
}

/// A mistake in a key. The texts never hold key material.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// A name that is no algorithm.
    #[error(
        "`{0}` is not a signature algorithm; use HS256, RS256, PS256, ES256, EdDSA or their 384 and 512 forms"
    )]
    Algorithm(String),
    /// A secret that can be guessed.
    #[error("the secret is {0} bytes long; at least 32 are needed (`openssl rand -base64 32` makes one)")]
    ShortSecret(usize),
    /// Not PEM, or not of a kind that is known.
    #[error("the key is not a public key in PEM that can be read (RSA, EC P-256 or P-384, Ed25519)")]
    Pem,
    /// A private key where a public one belongs.
    #[error("the key is a private key; give the edge the public key only (`openssl pkey -pubout`)")]
    PrivateKey,
    /// A JWK set over its limits.
    #[error("the JWK set is larger than 256 KiB or has more than 32 keys")]
    JwksTooLarge,
    /// Not a JWK set.
    #[error("the JWK set is not JSON of the form {{\"keys\": [...]}}")]
    JwksForm,
    /// Nothing in the set can verify a signature.
    #[error("the JWK set has no key for signatures (RSA, EC or OKP with `use` absent or `sig`)")]
    JwksEmpty,
}

/// One key.
#[derive(Clone)]
pub struct VerifyKey {
    pub(crate) kid: Option<Box<str>>,
    family: AlgorithmFamily,
    /// The one algorithm that the key is for, where the key says so.
    only: Option<Algorithm>,
    pub(crate) key: DecodingKey,
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey")
            .field("kid", &self.kid)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

impl VerifyKey {
    /// A shared secret of at least 32 bytes. Tokens name it by `kid`, if it has one.
    pub fn secret(kid: Option<&str>, secret: &SecretString) -> Result<Self, KeyError> {
        let bytes = secret.expose_secret().as_bytes();
        check_secret(bytes)?;
        Ok(Self {
            kid: kid.map(Into::into),
            family: AlgorithmFamily::Hmac,
            only: None,
            key: DecodingKey::from_secret(bytes),
        })
    }

    /// A public key (or certificate) in PEM.
    pub fn pem(kid: Option<&str>, pem: &[u8]) -> Result<Self, KeyError> {
        // The library would take a private RSA key and then verify nothing with it.
        if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") {
            return Err(KeyError::PrivateKey);
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| KeyError::Pem)?;
        let only = ec_algorithm(&key)?;
        Ok(Self {
            kid: kid.map(Into::into),
            family: key.family(),
            only,
            key,
        })
    }

    pub(crate) fn is_for(&self, alg: Algorithm) -> bool {
        self.family == alg.family() && self.only.is_none_or(|only| only == alg)
    }
}

/// The curve decides the algorithm (RFC 7518 section 3.4): an uncompressed point has 65 bytes on
/// P-256 and 97 on P-384.
fn ec_algorithm(key: &DecodingKey) -> Result<Option<Algorithm>, KeyError> {
    if key.family() != AlgorithmFamily::Ec {
        return Ok(None);
    }
    match key.try_get_as_bytes().map(<[u8]>::len) {
        Ok(65) => Ok(Some(Algorithm::ES256)),
        Ok(97) => Ok(Some(Algorithm::ES384)),
        _ => Err(KeyError::Pem),
    }
}

fn check_secret(bytes: &[u8]) -> Result<(), KeyError> {
    if bytes.len() < MIN_SECRET {
        Err(KeyError::ShortSecret(bytes.len()))
    } else {
        Ok(())
    }
}

/// A shared secret that signs (HS256).
#[derive(Clone)]
pub struct SigningKey {
    pub(crate) kid: Option<Box<str>>,
    pub(crate) key: EncodingKey,
}

impl SigningKey {
    /// A shared secret of at least 32 bytes.
    pub fn secret(kid: Option<&str>, secret: &SecretString) -> Result<Self, KeyError> {
        let bytes = secret.expose_secret().as_bytes();
        check_secret(bytes)?;
        Ok(Self {
            kid: kid.map(Into::into),
            key: EncodingKey::from_secret(bytes),
        })
    }
}

/// The keys of one issuer at one moment.
#[derive(Debug, Clone, Default)]
pub struct KeySet(pub(crate) Vec<VerifyKey>);

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Keys that were made one by one.
    pub fn new(keys: Vec<VerifyKey>) -> Self {
        Self(keys)
    }

    /// Reads a JWK set. Keys for other uses, of unknown kinds, or symmetric (`oct`) are left out:
    /// what is published cannot be a secret.
    pub fn from_jwks(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_JWKS {
            return Err(KeyError::JwksTooLarge);
        }
        let set: RawSet = serde_json::from_slice(bytes).map_err(|_| KeyError::JwksForm)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeyError::JwksTooLarge);
        }
        let keys: Vec<_> = set.keys.into_iter().filter_map(jwk).collect();
        if keys.is_empty() {
            Err(KeyError::JwksEmpty)
        } else {
            Ok(Self(keys))
        }
    }

    /// The keys that may have signed a token with this header: by `kid` where the token names one.
    /// A key without `kid` may answer to any; a token without `kid` may be of at most two keys
    /// (current and previous), so that a token cannot make the edge try 32 signatures.
    pub(crate) fn candidates<'a>(
        &'a self,
        kid: Option<&'a str>,
        alg: Algorithm,
    ) -> impl Iterator<Item = &'a VerifyKey> + 'a {
        let fits = move |key: &&VerifyKey| {
            let named = match (kid, key.kid.as_deref()) {
                (Some(wanted), Some(kid)) => wanted == kid,
                _ => true,
            };
            named && key.is_for(alg)
        };
        self.0.iter().filter(fits).take(2)
    }
}

fn jwk(value: serde_json::Value) -> Option<VerifyKey> {
    let raw: RawKey = serde_json::from_value(value).ok()?;
    if raw.usage.as_deref().is_some_and(|usage| usage != "sig")
        || raw.kid.as_deref().is_some_and(|kid| kid.len() > MAX_KID)
    {
        return None;
    }
    let mut only = match &raw.alg {
        Some(alg) => Some(alg.parse::<Algorithm>().ok()?),
        None => None,
    };
    let key = match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("RSA", _) => DecodingKey::from_rsa_components(raw.n.as_deref()?, raw.e.as_deref()?).ok()?,
        ("EC", Some("P-256" | "P-384")) => {
            let key = DecodingKey::from_ec_components(raw.x.as_deref()?, raw.y.as_deref()?).ok()?;
            let by_curve = ec_algorithm(&key).ok()?;
            if only.is_some() && only != by_curve {
                return None;
            }
            only = by_curve;
            key
        }
        ("OKP", Some("Ed25519")) => {
            let x = raw.x.as_deref()?;
            (URL_SAFE_NO_PAD.decode(x).ok()?.len() == 32).then_some(())?;
            DecodingKey::from_ed_components(x).ok()?
        }
        _ => return None,
    };
    let family = key.family();
    if only.is_some_and(|only| only.family() != family) {
        return None;
    }
    Some(VerifyKey {
        kid: raw.kid.map(Into::into),
        family,
        only,
        key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn jwks(keys: serde_json::Value) -> Result<KeySet, KeyError> {
        KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn ed(kid: &str) -> serde_json::Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode([7; 32])})
    }

    #[test]
    fn secrets_under_32_bytes_are_refused() {
        let secret = |n| SecretString::from("s".repeat(n));
        assert_eq!(
            VerifyKey::secret(None, &secret(31)).err(),
            Some(KeyError::ShortSecret(31))
        );
        assert_eq!(
            SigningKey::secret(None, &secret(31)).err(),
            Some(KeyError::ShortSecret(31))
        );
        assert!(VerifyKey::secret(None, &secret(32)).is_ok());
    }

    #[test]
    fn algorithms_are_exact_names() {
        assert_eq!("HS256".parse(), Ok(JwtAlgorithm::HS256));
        for bad in ["none", "None", "nOnE", "hs256", "", "HS1", "ES512"] {
            assert_eq!(bad.parse::<JwtAlgorithm>(), Err(KeyError::Algorithm(bad.into())));
        }
    }

    #[test]
    fn keys_that_cannot_verify_are_left_out() {
        let mut encryption = ed("e");
        encryption["use"] = "enc".into();
        let mut wrong_alg = ed("w");
        wrong_alg["alg"] = "HS256".into();
        let oct = json!({"kty": "oct", "k": "AAAA", "alg": "HS256"});
        let odd = json!({"kty": "future", "kid": "f"});
        let set = jwks(json!([oct, odd, encryption, wrong_alg, 1, ed("good")])).unwrap();
        assert_eq!(
            set.0.iter().map(|k| k.kid.as_deref()).collect::<Vec<_>>(),
            [Some("good")]
        );
        assert_eq!(jwks(json!([oct])).err(), Some(KeyError::JwksEmpty));
    }

    #[test]
    fn a_set_is_bounded() {
        let many = |n: usize| (0..n).map(|i| ed(&i.to_string())).collect::<Vec<_>>();
        assert!(jwks(json!(many(32))).is_ok());
        assert_eq!(jwks(json!(many(33))).err(), Some(KeyError::JwksTooLarge));
        assert_eq!(
            KeySet::from_jwks(&vec![b' '; MAX_JWKS + 1]).err(),
            Some(KeyError::JwksTooLarge)
        );
        assert_eq!(KeySet::from_jwks(b"[]").err(), Some(KeyError::JwksForm));
    }

    #[test]
    fn a_token_without_kid_tries_at_most_two_keys() {
        let set = jwks(json!([ed("a"), ed("b"), ed("c")])).unwrap();
        assert_eq!(set.candidates(None, Algorithm::EdDSA).count(), 2);
        assert_eq!(set.candidates(Some("c"), Algorithm::EdDSA).count(), 1);
        assert_eq!(set.candidates(Some("x"), Algorithm::EdDSA).count(), 0);
        assert_eq!(set.candidates(Some("c"), Algorithm::RS256).count(), 0);
    }

    #[test]
    fn a_private_key_is_not_a_verification_key() {
        let pem = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(VerifyKey::pem(None, pem).err(), Some(KeyError::PrivateKey));
        assert_eq!(VerifyKey::pem(None, b"junk").err(), Some(KeyError::Pem));
    }
}
