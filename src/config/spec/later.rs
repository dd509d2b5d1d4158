//! Sections that are read and checked, and take effect with a later version; `later` in `config` warns of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::formats::{Line, Text};

/// The container engine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct DockerSpec {
    /// Addresses of the engines: `unix:///path` or `tcp://host:port`.
    pub(in crate::config) hosts: Vec<Text<Line>>,
    /// Files of an engine behind TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) tls: Option<DockerTlsSpec>,
    /// Image of a service that names none; `{service}` stands for its name.
    pub(in crate::config) image_template: Text<Line>,
}

impl Default for DockerSpec {
    fn default() -> Self {
        Self {
            hosts: vec![Text(Line("unix:///var/run/docker.sock".to_owned()))],
            tls: None,
            image_template: Text(Line("mcp-{service}:latest".to_owned())),
        }
    }
}

/// Files of an engine behind TLS.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DockerTlsSpec {
    /// PEM file of the authority that signed the engine's certificate.
    pub(in crate::config) ca: Text<Line>,
    /// PEM file of the edge's own certificate.
    pub(in crate::config) cert: Text<Line>,
    /// PEM file of its private key.
    pub(in crate::config) key: Text<Line>,
}

/// Record of who did what.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct AuditSpec {
    /// Whether the parameters of calls are kept.
    pub(in crate::config) params: AuditParamsSpec,
}

/// Whether the parameters of calls are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum AuditParamsSpec {
    /// They are not kept.
    #[default]
    Off,
    /// They are kept, sealed with the keys of `MCP_ENCRYPTION_KEY`.
    Encrypted,
}

/// Where alerts go.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct AlertsSpec {
    /// Receivers of Alertmanager's webhook format.
    pub(in crate::config) webhooks: Vec<WebhookSpec>,
    /// Base URLs of Alertmanagers.
    pub(in crate::config) alertmanager: Vec<Text<Line>>,
}

/// One receiver of alerts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WebhookSpec {
    /// Where the alert is posted.
    pub(in crate::config) url: Text<Line>,
}
