//! From a request to the service it is for.
//!
//! Routes are tried in the order of the configuration; the first that fits decides. Invariant: what comes out names a
//! service that exists, and a path that its sidecar knows.

use std::sync::Arc;

use http::HeaderMap;

use crate::config::{Config, Route, RouteTarget, Service, Timeouts};

/// The sidecar's MCP endpoint: both eras on the one path.
pub(crate) const MCP_PATH: &str = "/mcp";

/// Where a request goes, and under which limits.
#[derive(Debug, Clone)]
pub(crate) struct Matched {
    pub(crate) service: Arc<Service>,
    pub(crate) timeouts: Timeouts,
    /// Largest request body in bytes.
    pub(crate) max_body: u64,
}

/// What the routes are asked with.
pub(crate) struct Asked<'a> {
    /// The path without its query.
    pub(crate) path: &'a str,
    /// The `Host` header or `:authority`, as the client sent it.
    pub(crate) host: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

/// The first route that fits, if its service is there.
pub(crate) fn find(config: &Config, asked: &Asked<'_>) -> Option<Matched> {
    config
        .routes
        .iter()
        .find_map(|route| try_route(config, route, asked))
}

fn try_route(config: &Config, route: &Route, asked: &Asked<'_>) -> Option<Matched> {
    let matcher = &route.matcher;
    let hit = matcher.path.matches(asked.path)?;
    // A trailing slash is the same endpoint: clients are configured either way.
    if !matches!(hit.rest, "" | "/") {
        return None;
    }
    if matcher
        .host
        .as_deref()
        .is_some_and(|host| !same_host(host, asked.host))
    {
        return None;
    }
    let has = |(name, value): &(http::HeaderName, http::HeaderValue)| {
        asked.headers.get_all(name).iter().any(|v| v == value)
    };
    if !matcher.headers.iter().all(has) {
        return None;
    }
    let service = match &route.target {
        RouteTarget::FromPath => config.services.get(hit.service?)?,
        RouteTarget::Service(name) => config.services.get(name)?,
    };
    matcher.tags.is_subset(&service.tags).then(|| Matched {
        service: service.clone(),
        timeouts: route.timeouts.apply(service.timeouts),
        max_body: route.max_body.unwrap_or(config.edge.max_body),
    })
}

/// Compares a configured host (lower case, no port) with a `Host` header.
fn same_host(configured: &str, header: &str) -> bool {
    let name = match header.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => header.rsplit_once(':').map_or(header, |(name, _port)| name),
    };
    configured.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::same_host;

    #[test]
    fn hosts_are_compared_without_port_and_case() {
        assert!(same_host("mcp.example.com", "MCP.example.com:8443"));
        assert!(same_host("mcp.example.com", "mcp.example.com"));
        assert!(same_host("::1", "[::1]:80"));
        assert!(!same_host("mcp.example.com", "example.com"));
    }
}
