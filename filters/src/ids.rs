//! Names that cross the borders of the filter chain, one type each.
//!
//! Invariant: a value of one of these types was checked when it was made, clones without allocation,
//! and cannot be passed where another name is wanted.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any text as it is; the config has checked the ones that come from there.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
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
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_type! {
    /// The tracking id of one request, sent back as `X-Request-Id`.
    RequestId
}
name_type! {
    /// An MCP server by its configured name.
    ServiceName
}
name_type! {
    /// A class of clients (`free`, `pro`, `enterprise`, or what the config names).
    TierName
}
name_type! {
    /// A client, `issuer/id`, as [`Principal::of`] makes it. Two issuers can never name the same client.
    Principal
}

impl RequestId {
    /// Longest id of a client that is kept.
    const MAX: usize = 128;

    /// Keeps the id that a client sent if it is short and plain (`[A-Za-z0-9._:-]`), so that nobody
    /// writes control characters or novels into logs.
    pub fn from_client(text: &str) -> Option<Self> {
        let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        (!text.is_empty() && text.len() <= Self::MAX && text.bytes().all(sane)).then(|| Self::new(text))
    }
}

impl Principal {
    /// Joins issuer and id into the client's name. Slashes of the id are written `%2F` (and `%` is
    /// `%25`), so that the last slash of the name is the one between the two: `("a", "b/c")` and
    /// `("a/b", "c")` stay two clients.
    pub fn of(issuer: &str, id: &str) -> Self {
        if id.contains(['/', '%']) {
            let id = id.replace('%', "%25").replace('/', "%2F");
            return Self::new(format!("{issuer}/{id}"));
        }
        Self::new(format!("{issuer}/{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_request_id_is_kept_only_if_it_is_sane() {
        assert_eq!(
            RequestId::from_client("a-1.b_2:c")
                .map(|id| id.to_string())
                .as_deref(),
            Some("a-1.b_2:c")
        );
        for bad in ["", "a b", "a\n", "ä", "<script>", &"x".repeat(129)] {
            assert_eq!(RequestId::from_client(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_principal_names_issuer_and_id() {
        assert_eq!(Principal::of("mcp-edge", "codex").as_str(), "mcp-edge/codex");
        assert_ne!(Principal::of("a", "b/c"), Principal::of("a/b", "c"));
        assert_ne!(Principal::of("a", "b/c"), Principal::of("a", "b%2Fc"));
    }
}
