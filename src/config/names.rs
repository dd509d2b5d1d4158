//! The names a configuration gives to things.
//!
//! A service name ends up in URLs, file names, container names and metric labels, a tier name in labels and
//! headers, a client key in headers. Each is checked once, here, so that nothing after the configuration has to
//! escape or re-check one.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest service or tier name: a DNS label (RFC 1035), because `mcp-{service}` names a container.
const MAX_LABEL: usize = 63;

/// Longest client key (`id` or `issuer/id`), in bytes.
const MAX_CLIENT_KEY: usize = 256;

/// Why a text is no valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The text is longer than the limit, in bytes.
    #[error("a name has at most {0} characters")]
    TooLong(usize),
    /// A character outside `[a-z0-9-]`, or a leading `-`.
    #[error(
        "a name starts with a lower-case letter or digit and has only lower-case letters, digits and `-`"
    )]
    NotALabel,
    /// A blank, a control character or a non-ASCII character in a client key.
    #[error("a client key has only visible ASCII characters, no blanks")]
    NotVisibleAscii,
}

fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_LABEL {
        return Err(NameError::TooLong(MAX_LABEL));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.starts_with('-') || !text.bytes().all(allowed) {
        return Err(NameError::NotALabel);
    }
    Ok(())
}

fn check_client_key(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_CLIENT_KEY {
        return Err(NameError::TooLong(MAX_CLIENT_KEY));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(NameError::NotVisibleAscii);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as others keep it, without a copy.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }
        }

        // Lets a map keyed by the name be asked with a `&str` from a request.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name_type! {
    /// The name of a service: `[a-z0-9][a-z0-9-]{0,62}`.
    ServiceName, check_label
}

name_type! {
    /// The name of a tier: `[a-z0-9][a-z0-9-]{0,62}`.
    TierName, check_label
}

impl TierName {
    /// `free`, the tier of a client of which nothing is said.
    pub fn free() -> Self {
        Self(Arc::from("free"))
    }
}

name_type! {
    /// A client as `clients:` names it: the id alone for tokens of our own issuer, `issuer/id` for others.
    /// At most 256 visible ASCII characters.
    ClientKey, check_client_key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dns_labels() {
        for good in ["a", "0", "git", "file-server-2", &"x".repeat(63)] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        let cases = [
            ("", NameError::Empty),
            ("-a", NameError::NotALabel),
            ("Files", NameError::NotALabel),
            ("a_b", NameError::NotALabel),
            ("a/b", NameError::NotALabel),
            ("ä", NameError::NotALabel),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<ServiceName>(), Err(why), "{bad}");
        }
        assert_eq!("x".repeat(64).parse::<TierName>(), Err(NameError::TooLong(63)));
    }

    #[test]
    fn client_keys_allow_an_issuer() {
        assert!(
            "https://idp.example.com/alice@example.com"
                .parse::<ClientKey>()
                .is_ok()
        );
        assert_eq!("a b".parse::<ClientKey>(), Err(NameError::NotVisibleAscii));
        assert_eq!("a\n".parse::<ClientKey>(), Err(NameError::NotVisibleAscii));
    }
}
