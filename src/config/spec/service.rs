//! `mcp.services[]`, one MCP server.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::formats::{Bytes, EnvName, Idle, Line, Secret, Table, Text, Timeout, UrlPath};
use crate::config::names::ServiceName;
use crate::config::snapshot::HostPort;

/// One MCP server.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceSpec {
    /// Its name in URLs, metrics and logs: lower-case letters, digits and `-`.
    pub(crate) name: Text<ServiceName>,
    /// Program and arguments of the MCP server, which speaks MCP on stdin and stdout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command: Vec<String>,
    /// An executable script that starts the server; the older form of `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wrapper: Option<Text<Line>>,
    /// Added to the server's environment.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) env: Table<EnvName, Text<Secret>>,
    /// The server's working directory; the edge's own without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cwd: Option<Text<Line>>,
    /// Sidecars that somebody else runs: `host:port`. A name with several addresses is several endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) upstreams: Vec<Text<HostPort>>,
    /// Bearer token that the `upstreams` ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Text<Secret>>,
    /// Container image of `runtime: docker`; `docker.image_template` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Text<Line>>,
    /// Loopback port of the first replica's sidecar; a Unix socket under `state_dir` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) port: Option<u16>,
    /// Path of the health check.
    #[serde(default = "health_path")]
    pub(crate) health_check_path: Text<UrlPath>,
    /// Processor and memory of one container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource_limits: Option<ResourceLimitsSpec>,
    /// Volumes of the container, as `name:/path` or `/path:/path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes: Vec<Text<Line>>,
    /// Who may share a server process.
    #[serde(default)]
    pub(crate) isolation: IsolationSpec,
    /// True for a server that keeps nothing between requests: any replica may serve any request.
    #[serde(default)]
    pub(crate) stateless: bool,
    /// Bounds of the server processes behind one sidecar.
    #[serde(default)]
    pub(crate) processes: ProcessesSpec,
    /// Bounds of the sidecars of this service.
    #[serde(default)]
    pub(crate) replicas: ReplicasSpec,
    /// One pool of replicas for all clients, or one for each tier.
    #[serde(default)]
    pub(crate) pool_by: PoolBySpec,
    /// Requests under way at once, per replica; more wait in the service's queue.
    #[serde(default = "max_concurrent")]
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_concurrent: u32,
    /// Time limits of its requests.
    #[serde(default)]
    pub(crate) timeouts: TimeoutsSpec,
    /// Free labels, matched by routes.
    #[serde(default)]
    pub(crate) tags: Vec<Text<Line>>,
    /// The service that takes over while no replica of this one is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backup: Option<Text<ServiceName>>,
}

impl ServiceSpec {
    /// A service with nothing but a command, everything else at its default.
    pub(crate) fn of_command(name: ServiceName, command: Vec<String>) -> Self {
        Self {
            name: Text(name),
            command,
            wrapper: None,
            env: Table::default(),
            cwd: None,
            upstreams: Vec::new(),
            token: None,
            image: None,
            port: None,
            health_check_path: health_path(),
            resource_limits: None,
            volumes: Vec::new(),
            isolation: IsolationSpec::default(),
            stateless: false,
            processes: ProcessesSpec::default(),
            replicas: ReplicasSpec::default(),
            pool_by: PoolBySpec::default(),
            max_concurrent: max_concurrent(),
            timeouts: TimeoutsSpec::default(),
            tags: Vec::new(),
            backup: None,
        }
    }
}

fn is_empty<K, V>(table: &Table<K, V>) -> bool {
    table.0.is_empty()
}

fn health_path() -> Text<UrlPath> {
    Text(UrlPath("/health".to_owned()))
}

fn max_concurrent() -> u32 {
    16
}

/// Who may share a server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IsolationSpec {
    /// A process never serves two clients.
    #[default]
    Client,
    /// One process serves everyone; for servers that keep nothing per client.
    Shared,
}

/// How replicas are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PoolBySpec {
    /// One pool for all clients.
    #[default]
    Service,
    /// A pool for each tier.
    Tier,
}

/// Processor and memory of one container.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceLimitsSpec {
    /// Processor cores, such as 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1024))]
    pub(crate) cpu: Option<f64>,
    /// Memory, such as `512MB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Text<Bytes>>,
}

/// Bounds of the server processes behind one sidecar.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProcessesSpec {
    /// Most processes at once.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) max: u32,
    /// An unused process is stopped after this; `never` keeps it.
    pub(crate) idle_stop: Text<Idle>,
    /// Processes started ahead of demand.
    #[schemars(range(min = 0, max = 1024))]
    pub(crate) warm: u32,
}

impl Default for ProcessesSpec {
    fn default() -> Self {
        Self {
            max: 32,
            idle_stop: Text(Idle(Some(Duration::from_secs(600)))),
            warm: 1,
        }
    }
}

/// Bounds of the sidecars of a service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReplicasSpec {
    /// Replicas that always run.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) min: u32,
    /// Replicas that run under load.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) max: u32,
    /// The last replica is stopped after this time without a request; `never` keeps it.
    pub(crate) idle_stop: Text<Idle>,
}

impl Default for ReplicasSpec {
    fn default() -> Self {
        Self {
            min: 1,
            max: 3,
            idle_stop: Text(Idle(None)),
        }
    }
}

/// Time limits of a request.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TimeoutsSpec {
    /// From the request's end to the response's head.
    pub(crate) first_byte: Text<Timeout>,
    /// Between two pieces of the response.
    pub(crate) idle: Text<Timeout>,
    /// From the request's head to the response's end.
    pub(crate) total: Text<Timeout>,
    /// How long the server may take to start.
    pub(crate) start: Text<Timeout>,
}

impl Default for TimeoutsSpec {
    fn default() -> Self {
        let seconds = |n| Text(Timeout(Duration::from_secs(n)));
        Self {
            first_byte: seconds(60),
            idle: seconds(300),
            total: seconds(900),
            start: seconds(30),
        }
    }
}
