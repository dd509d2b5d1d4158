//! What YAML may say: one struct per mapping, one doc comment per key.
//!
//! These types are the only list of keys. The JSON Schema, the walk that finds unknown keys, `docs/configuration.md`
//! and the defaults are all made from them. They say what is well-formed; what makes sense is decided by `check`,
//! which turns them into the snapshot. No enum here is `untagged`: serde would then lose where a mistake is.

mod edge;
mod identity;
mod later;
mod route;
mod service;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use edge::{EdgeSpec, TlsSpec};
pub(super) use identity::{AlgorithmSpec, AnonymousSpec, AuthSpec, ClientSpec, JwtSpec, TierSpec};
pub(super) use later::{AlertsSpec, AuditSpec, DockerSpec};
pub(super) use route::{MatchSpec, RouteSpec};
pub(super) use service::{IsolationSpec, ServiceSpec};

use super::formats::{Table, Text};
use super::names::{ClientKey, TierName};

/// The configuration of mcp-edge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Spec {
    /// The edge's own listeners, files and limits.
    pub(crate) edge: EdgeSpec,
    /// The MCP servers, and what each class of clients may use of them.
    pub(crate) mcp: McpSpec,
    /// Who may call.
    pub(crate) auth: AuthSpec,
    /// Record of who did what.
    pub(crate) audit: AuditSpec,
    /// Where alerts go.
    pub(crate) alerts: AlertsSpec,
    /// Which request belongs to which service; the first entry that fits decides. A list given here replaces the
    /// default one, so name `/mcp/{service}` too if it shall stay.
    pub(crate) routes: Vec<RouteSpec>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            edge: EdgeSpec::default(),
            mcp: McpSpec::default(),
            auth: AuthSpec::default(),
            audit: AuditSpec::default(),
            alerts: AlertsSpec::default(),
            routes: vec![RouteSpec::by_path()],
        }
    }
}

impl Spec {
    /// Puts the built-in tiers in, and their values where a tier of the file says nothing.
    pub(crate) fn fill(&mut self) {
        let tiers = &mut self.mcp.tiers.0;
        let written = std::mem::take(tiers);
        for name in identity::BUILT_IN_TIERS {
            if let Ok(key) = name.parse() {
                tiers.insert(Text(key), TierSpec::built_in(name));
            }
        }
        for (name, tier) in written {
            let tier = tier.or_built_in(name.0.as_str());
            tiers.insert(name, tier);
        }
    }
}

/// The MCP servers, and what each class of clients may use of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct McpSpec {
    /// What starts the servers. A service with `upstreams` is always `fixed`.
    pub(crate) runtime: RuntimeSpec,
    /// The container engine of `runtime: docker`.
    pub(crate) docker: DockerSpec,
    /// The MCP servers; at most 100.
    #[schemars(length(max = 100))]
    pub(crate) services: Vec<ServiceSpec>,
    /// Classes of clients by name. `free`, `pro` and `enterprise` are always there; a key that is left out keeps
    /// its default, for a tier of another name the default of `free`.
    #[schemars(schema_with = "identity::tiers_schema")]
    pub(crate) tiers: Table<TierName, TierSpec>,
    /// What is known of single clients, by the id in their token; `issuer/id` for the tokens of an issuer other
    /// than our own.
    pub(crate) clients: Table<ClientKey, ClientSpec>,
}

/// What starts the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuntimeSpec {
    /// Child processes of the edge.
    #[default]
    Process,
    /// Containers of a Docker engine.
    Docker,
    /// Somebody else; every service names its `upstreams`.
    Fixed,
}
