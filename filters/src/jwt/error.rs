//! Why a token is refused. The texts go to the client and into `token inspect`; they never quote
//! what the token says, so that a log of them holds nothing of it.

use thiserror::Error;

use crate::reason::Reason;

/// One reason per rule of [`super::verify`] and [`super::parse`].
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Over 8 KiB.
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// Not `header.claims.signature`.
    #[error("the token is not three base64url parts joined by dots")]
    NotCompact,
    /// A part that is not base64url without padding, in its one canonical form.
    #[error("the token's {0} is not base64url without padding")]
    Base64(&'static str),
    /// A part that is not a JSON object.
    #[error("the token's {0} is not a JSON object")]
    NotObject(&'static str),
    /// The same member twice: two readers could see two tokens.
    #[error("the token's {0} names a member twice")]
    Duplicate(&'static str),
    /// A header that names its own key or extension.
    #[error("the token's header has `{0}`, which is never accepted")]
    HeaderMember(&'static str),
    /// `typ` is not a JWT's.
    #[error("the token's `typ` is not `JWT` or `at+jwt`")]
    Type,
    /// `alg` is missing, unknown or not in the issuer's list.
    #[error("the token's `alg` is not one that its issuer uses")]
    Algorithm,
    /// No key has the `kid`.
    #[error("no key of the issuer has the token's `kid` and `alg`")]
    UnknownKey,
    /// The issuer's keys are older than 24 hours or were never fetched.
    #[error("the issuer's keys could not be fetched")]
    KeysUnavailable,
    /// The signature does not fit.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim that must be there is not.
    #[error("the token has no `{0}`")]
    Missing(&'static str),
    /// A claim of a wrong type or form.
    #[error("the token's `{0}` has a wrong type or form")]
    Form(&'static str),
    /// An issuer that is not configured.
    #[error("the token's `iss` is not an issuer that is configured here")]
    Issuer,
    /// For somebody else.
    #[error("the token's `aud` does not name this edge")]
    Audience,
    /// Too old.
    #[error("the token has expired")]
    Expired,
    /// Not yet valid.
    #[error("the token is not valid yet (`nbf` or `iat` lies ahead)")]
    NotYet,
    /// Lives longer than 24 hours.
    #[error("the token is valid for more than 24 hours")]
    LivesTooLong,
}

impl TokenError {
    /// The reason that the client is given.
    pub fn reason(self) -> Reason {
        match self {
            Self::Expired => Reason::TokenExpired,
            // Not the client's fault: a 401 would make it throw its token away.
            Self::KeysUnavailable => Reason::KeysUnavailable,
            _ => Reason::TokenInvalid,
        }
    }
}
