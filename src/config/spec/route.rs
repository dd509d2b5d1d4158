//! `routes[]`: which request belongs to which service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::formats::{Bytes, HeaderName, HeaderValue, Host, Line, Table, Text, Timeout};
use crate::config::names::ServiceName;
use crate::config::route::PathPattern;

/// One route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteSpec {
    /// What the request must look like; all conditions must hold.
    #[serde(rename = "match")]
    pub(crate) matcher: MatchSpec,
    /// The service, when the path does not name it with `{service}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<Text<ServiceName>>,
    /// Time limits in place of the service's.
    #[serde(default, skip_serializing_if = "RouteTimeoutsSpec::is_empty")]
    pub(crate) timeouts: RouteTimeoutsSpec,
    /// Largest request body in place of `edge.max_body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_body: Option<Text<Bytes>>,
}

impl RouteSpec {
    /// The default route, `/mcp/{service}`.
    pub(crate) fn by_path() -> Self {
        Self {
            matcher: MatchSpec {
                path: Text(PathPattern::by_service()),
                host: None,
                headers: Table::default(),
                tags: Vec::new(),
            },
            service: None,
            timeouts: RouteTimeoutsSpec::default(),
            max_body: None,
        }
    }
}

/// The conditions of a route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchSpec {
    /// Path prefix of whole segments; `{service}` stands for one segment that names the service.
    #[serde(default = "everything")]
    pub(crate) path: Text<PathPattern>,
    /// Host name of the request, without a port; any without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<Text<Host>>,
    /// Headers that must be there with exactly this value.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) headers: Table<HeaderName, Text<HeaderValue>>,
    /// Tags that the service must carry, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<Text<Line>>,
}

fn everything() -> Text<PathPattern> {
    Text(PathPattern::everything())
}

fn is_empty<K, V>(table: &Table<K, V>) -> bool {
    table.0.is_empty()
}

/// A route's own time limits.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RouteTimeoutsSpec {
    /// In place of the service's `timeouts.first_byte`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_byte: Option<Text<Timeout>>,
    /// In place of the service's `timeouts.idle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle: Option<Text<Timeout>>,
    /// In place of the service's `timeouts.total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<Text<Timeout>>,
}

impl RouteTimeoutsSpec {
    fn is_empty(&self) -> bool {
        self.first_byte.is_none() && self.idle.is_none() && self.total.is_none()
    }
}
