//! `mcp.tiers`, `mcp.clients` and `auth`: who may call, and how much.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::config::formats::{Bytes, Limit, Line, Secret, Table, Text};
use crate::config::names::TierName;

/// A class of clients.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TierSpec {
    /// Counted calls a minute of one client; -1 is no limit.
    pub(crate) requests_per_minute: Option<Text<Limit>>,
    /// Requests under way at once, of one client.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_concurrent_requests: Option<u32>,
    /// Share of a service's slots when tiers compete, relative to the other tiers.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) weight: Option<u32>,
    /// Processor cores of the tier's own replicas (`pool_by: tier`).
    #[schemars(range(min = 0.01, max = 1024))]
    pub(crate) cpu_quota: Option<f64>,
    /// Memory of the tier's own replicas (`pool_by: tier`).
    pub(crate) memory_limit: Option<Text<Bytes>>,
    /// Long-lived streams at once, of one client; twice `max_concurrent_requests` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_streams: Option<u32>,
    /// What happens above `max_concurrent_requests`: `queue` (default) waits, `refuse` answers 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) over_concurrency: Option<OverConcurrencySpec>,
    /// What the tier may use; everything without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow: Option<AccessSpec>,
    /// What the tier may not use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deny: Option<AccessSpec>,
}

impl TierSpec {
    /// The built-in values of a tier; `free` for a name of the operator's own.
    pub(crate) fn built_in(name: &str) -> Self {
        let (rate, concurrent, weight, cpu, memory) = match name {
            "enterprise" => (None, 100, 16, 8.0, 8_000_000_000),
            "pro" => (Some(600), 20, 4, 2.0, 2_000_000_000),
            _ => (Some(60), 5, 1, 0.5, 512_000_000),
        };
        Self {
            requests_per_minute: Some(Text(Limit(rate))),
            max_concurrent_requests: Some(concurrent),
            weight: Some(weight),
            cpu_quota: Some(cpu),
            memory_limit: Some(Text(Bytes(memory))),
            ..Self::default()
        }
    }

    /// This tier with the built-in values where it says nothing.
    pub(crate) fn or_built_in(self, name: &str) -> Self {
        let default = Self::built_in(name);
        Self {
            requests_per_minute: self.requests_per_minute.or(default.requests_per_minute),
            max_concurrent_requests: self.max_concurrent_requests.or(default.max_concurrent_requests),
            weight: self.weight.or(default.weight),
            cpu_quota: self.cpu_quota.or(default.cpu_quota),
            memory_limit: self.memory_limit.or(default.memory_limit),
            ..self
        }
    }
}

/// Names of the tiers that are always there.
pub(crate) const BUILT_IN_TIERS: [&str; 3] = ["free", "pro", "enterprise"];

/// The schema of `tiers:`, with the built-in values as its default so that editors and the manual show them.
pub(super) fn tiers_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Table::<TierName, TierSpec>::json_schema(generator);
    let tiers = BUILT_IN_TIERS.map(|name| (name.to_owned(), serde_json::to_value(TierSpec::built_in(name))));
    let defaults = tiers
        .into_iter()
        .filter_map(|(name, tier)| Some((name, tier.ok()?)))
        .collect();
    schema.insert("default".to_owned(), serde_json::Value::Object(defaults));
    schema
}

/// One client.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientSpec {
    /// Its tier; `free` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<Text<TierName>>,
    /// Counted calls a minute, in place of its tier's; -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<Text<Limit>>,
    /// Requests under way at once, in place of its tier's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) concurrent_requests: Option<u32>,
    /// Long-lived streams at once, in place of its tier's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_streams: Option<u32>,
    /// What happens above `concurrent_requests`, in place of its tier's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) over_concurrency: Option<OverConcurrencySpec>,
    /// What the client may use, in place of its tier's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow: Option<AccessSpec>,
    /// What the client may not use, beside its tier's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deny: Option<AccessSpec>,
}

/// What happens to a request above the concurrency limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverConcurrencySpec {
    /// It waits in the client's own queue.
    Queue,
    /// It is answered 429 at once.
    Refuse,
}

/// Services and tools by name; `*` stands for any text.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessSpec {
    /// Names of services.
    pub(crate) services: Vec<Text<Line>>,
    /// Names of tools.
    pub(crate) tools: Vec<Text<Line>>,
}

/// Who may call.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthSpec {
    /// Whose tokens are accepted. Empty: one issuer `mcp-edge` (HS256) with the secret of the environment variable
    /// `MCP_JWT_SECRET`, or else with one that is made once and kept in `state_dir/jwt-secret`.
    #[schemars(length(max = 32))]
    pub(crate) jwt: Vec<JwtSpec>,
    /// Lets requests without a token in; only while `edge.listen` is a loopback address. Off without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) anonymous: Option<AnonymousSpec>,
}

/// One issuer of tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwtSpec {
    /// Required value of the `iss` claim.
    #[serde(default = "own_name")]
    pub(crate) issuer: Text<Line>,
    /// Required value of the `aud` claim.
    #[serde(default = "own_name")]
    pub(crate) audience: Text<Line>,
    /// Accepted signature algorithms; never taken from the token.
    #[serde(default = "hs256")]
    #[schemars(length(min = 1))]
    pub(crate) algorithms: Vec<AlgorithmSpec>,
    /// Shared secret of the HS algorithms, at least 32 bytes.
    pub(crate) secret: Text<Secret>,
    /// Tiers that this issuer may give a client by the `tier` claim.
    #[serde(default)]
    pub(crate) tiers: Vec<Text<TierName>>,
}

fn own_name() -> Text<Line> {
    Text(Line("mcp-edge".to_owned()))
}

fn hs256() -> Vec<AlgorithmSpec> {
    vec![AlgorithmSpec::HS256]
}

/// A signature algorithm of RFC 7518 or RFC 8037. This version verifies HS256; naming another is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum AlgorithmSpec {
    HS256,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Requests without a token.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnonymousSpec {
    /// Their tier; a key of `mcp.tiers`.
    pub(crate) tier: Text<TierName>,
}
