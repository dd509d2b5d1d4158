//! Sections that are read and checked, and take effect with a later version; `later` in `config` warns of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::formats::{Line, Text};

/// The container engine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DockerSpec {
    /// Addresses of the engines: `unix:///path` or `tcp://host:port`.
    pub(crate) hosts: Vec<Text<Line>>,
    /// Files of an engine behind TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<DockerTlsSpec>,
    /// Image of a service that names none; `{service}` stands for its name.
    pub(crate) image_template: Text<Line>,
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
pub(crate) struct DockerTlsSpec {
    /// PEM file of the authority that signed the engine's certificate.
    pub(crate) ca: Text<Line>,
    /// PEM file of the edge's own certificate.
    pub(crate) cert: Text<Line>,
    /// PEM file of its private key.
    pub(crate) key: Text<Line>,
}

/// Record of who did what.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditSpec {
    /// Whether the parameters of calls are kept.
    pub(crate) params: AuditParamsSpec,
}

/// Whether the parameters of calls are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuditParamsSpec {
    /// They are not kept.
    #[default]
    Off,
    /// They are kept, sealed with the keys of `MCP_ENCRYPTION_KEY`.
    Encrypted,
}

/// Where alerts go.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlertsSpec {
    /// Receivers of Alertmanager's webhook format.
    pub(crate) webhooks: Vec<WebhookSpec>,
    /// Base URLs of Alertmanagers.
    pub(crate) alertmanager: Vec<Text<Line>>,
}

/// One receiver of alerts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookSpec {
    /// Where the alert is posted.
    pub(crate) url: Text<Line>,
}
