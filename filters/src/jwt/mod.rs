//! JSON Web Tokens: read strictly, verified by keys whose algorithms the config fixes.
//!
//! The token never chooses how it is verified: its `alg` must be one that its issuer's config lists
//! and that the key found is for. Reading is our own (duplicate members, number forms and base64
//! variants are refused, which libraries let pass); the signature is the library's.
//!
//! [`parse`] the compact form · [`error`] why a token is refused · [`keys`] keys from secrets, PEM and
//! JWKS · [`ring`] an issuer's keys that change while the edge runs · [`verify`] the rules ·
//! [`cache`] tokens that were verified a moment ago.

pub(crate) mod cache;
pub mod error;
pub mod keys;
pub(crate) mod parse;
pub mod ring;
pub mod verify;

#[cfg(test)]
mod refusal_tests;
