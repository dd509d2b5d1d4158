//! Making tokens, for `mcp-edge token mint` and for client sessions.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

/// What a new token says. Times are seconds since 1970.
#[derive(Debug, Clone, Serialize)]
pub struct NewToken {
    pub iss: String,
    pub aud: String,
    pub client_id: String,
    pub iat: u64,
    pub nbf: u64,
    pub exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Signs with HS256.
///
/// # Errors
/// The claims could not be written or signed: a defect.
pub fn mint(token: &NewToken, secret: &SecretString) -> Result<String, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), token, &key)
}
