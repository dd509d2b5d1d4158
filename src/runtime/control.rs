//! The first line that a sidecar reads: its token and the server's environment.
//!
//! Both may be secret, so neither is ever an argument or a variable, which other programs of the machine can read.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::StartError;

/// The bearer token of one sidecar incarnation: 32 random bytes.
pub(super) struct Token(SecretString);

impl Token {
    pub(super) fn random() -> Result<Self, StartError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(StartError::NoRandom)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// The `Authorization` value, marked sensitive.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        bearer(&self.0)
    }

    /// The line, with its newline.
    pub(super) fn control_line(&self, env: &BTreeMap<String, SecretString>) -> SecretString {
        let env: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.expose_secret())).collect();
        let line = serde_json::json!({ "token": self.0.expose_secret(), "env": env });
        format!("{line}\n").into()
    }
}

/// `Bearer …`, marked sensitive; `None` if the token cannot stand in a header.
pub(super) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_one_line_whatever_the_environment_holds() {
        let token = Token::random().unwrap();
        let env = BTreeMap::from([("KEY".to_owned(), SecretString::from("a\n\"b"))]);
        let line = token.control_line(&env);
        let line = line.expose_secret();
        assert_eq!(line.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(read["env"]["KEY"], "a\n\"b");
        let header = token.authorization().unwrap();
        assert!(header.is_sensitive());
        assert_eq!(
            header.to_str().unwrap(),
            format!("Bearer {}", read["token"].as_str().unwrap())
        );
        assert_eq!(read["token"].as_str().unwrap().len(), 43);
    }

    #[test]
    fn tokens_differ_and_a_debug_print_hides_them() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(a.authorization(), b.authorization());
        assert_eq!(format!("{:?}", a.authorization().unwrap()), "Sensitive");
    }
}
