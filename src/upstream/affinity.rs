//! Which endpoint a legacy MCP session belongs to.
//!
//! A legacy `Mcp-Session-Id` made by a sidecar is `{endpoint}.{rest}`. The prefix is looked up in the pool, never
//! dialled, so a forged id reaches nothing that the client could not reach without one.

use super::endpoint::EndpointId;

/// The endpoint part of a session id, if it has the form of one.
pub(crate) fn endpoint_of(session: &str) -> Option<&str> {
    let (endpoint, rest) = session.split_once('.')?;
    let valid = endpoint.len() == EndpointId::LEN
        && !rest.is_empty()
        && endpoint
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    valid.then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_prefix_counts() {
        assert_eq!(endpoint_of("abcd1234.x9"), Some("abcd1234"));
        assert_eq!(endpoint_of("abcd1234.x.y"), Some("abcd1234"));
        for foreign in [
            "",
            ".",
            "abcd1234",
            "abcd1234.",
            "ABCD1234.x",
            "abcd123.x",
            "abcd12345.x",
            "../../../.x",
        ] {
            assert_eq!(endpoint_of(foreign), None, "{foreign}");
        }
    }
}
