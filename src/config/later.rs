//! Keys that are read and checked, but take effect with a later version.
//!
//! A key that parses and silently does nothing is the worst a configuration can do. So there is one list of such
//! keys: a file that has some of them gets one warning that names them, and the manual marks them.

use super::report::Finding;
use super::tree::{Kind, Node};

/// In the notation of [`super::schema::visit`]: `[]` is every entry of a list, `*` every key of a mapping. An entry
/// covers all keys below it.
const LATER: [&str; 23] = [
    "edge.admin",
    "edge.admin_auth",
    "mcp.docker",
    "mcp.services[].image",
    "mcp.services[].resource_limits",
    "mcp.services[].volumes",
    "mcp.services[].processes.warm",
    "mcp.services[].replicas.max",
    "mcp.services[].replicas.idle_stop",
    "mcp.services[].pool_by",
    "mcp.services[].max_concurrent",
    "mcp.services[].backup",
    "mcp.tiers.*",
    "mcp.clients.*.rate_limit",
    "mcp.clients.*.concurrent_requests",
    "mcp.clients.*.max_streams",
    "mcp.clients.*.over_concurrency",
    "mcp.clients.*.allow",
    "mcp.clients.*.deny",
    "auth.jwt[].tiers",
    "audit",
    "alerts.webhooks",
    "alerts.alertmanager",
];

/// True for a key that takes effect with a later version.
pub(super) fn is_later(path: &str) -> bool {
    LATER.iter().any(|later| {
        path.strip_prefix(later)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// The one warning about such keys, if the document has any.
pub(super) fn warning(root: &Node) -> Option<Finding> {
    let present: Vec<String> = LATER
        .iter()
        .filter(|path| has(root, path))
        .map(|path| format!("`{path}`"))
        .collect();
    if present.is_empty() {
        return None;
    }
    let message = format!(
        "accepted, but without effect in this version: {}",
        present.join(", ")
    );
    Some(Finding::warning(None, &message))
}

fn has(node: &Node, path: &str) -> bool {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let below = |node: &Node| rest.is_empty() || has(node, rest);
    match (step.strip_suffix("[]"), &node.kind) {
        (Some(list), _) => match node.get(list).map(|e| &e.value.kind) {
            Some(Kind::Seq(items)) => items.iter().any(below),
            _ => false,
        },
        (None, Kind::Map(entries)) if step == "*" => entries.iter().any(|e| below(&e.value)),
        (None, _) => node.get(step).is_some_and(|e| below(&e.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn every_entry_is_a_key_of_the_schema() {
        let mut known = Vec::new();
        schema::visit(schema::json_schema(), "", &mut |path, _| {
            known.push(path.to_owned())
        });
        for later in LATER {
            let below = format!("{later}.");
            assert!(
                known.iter().any(|k| k == later || k.starts_with(&below)),
                "{later} is no key"
            );
        }
        assert!(is_later("mcp.docker.tls.ca") && is_later("mcp.tiers.*.weight"));
        assert!(!is_later("mcp.services[].processes.max") && !is_later("edge.adminx"));
    }

    #[test]
    fn one_warning_names_them_all() {
        let root = Node::parse(
            "mcp:\n  services: [{name: a, image: x}, {name: b, replicas: {max: 2}}]\n  clients: {bob: {rate_limit: 5}}\n",
        )
        .unwrap();
        let message = warning(&root).unwrap().message;
        assert_eq!(
            message,
            "accepted, but without effect in this version: `mcp.services[].image`, `mcp.services[].replicas.max`, \
             `mcp.clients.*.rate_limit`"
        );
        assert!(warning(&Node::parse("edge: {listen: x}\n").unwrap()).is_none());
    }
}
