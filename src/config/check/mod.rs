//! From what the YAML says to what the edge may rely on.
//!
//! Every check of meaning runs, whatever the others found, and each mistake is reported with its place. Only when
//! there is none does a [`Config`] come out.

mod edge;
mod identity;
mod mistake;
mod routes;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use super::names::ServiceName;
use super::report::{Finding, Severity};
use super::snapshot::{Config, Service, Source};
use super::spec::Spec;
use super::substitute::Variables;
use super::suggest::did_you_mean;
use super::tree::{Node, Span, Step};

use mistake::{Mistake, Notice};

/// What the checks need beside the spec.
pub(super) struct Surroundings<'a> {
    /// Where a value of the spec was written.
    pub(super) locate: &'a dyn Fn(&[Step<'_>]) -> Option<Span>,
    /// The environment.
    pub(super) variables: Variables<'a>,
    /// Names in the document, also of entries that were left out for another mistake.
    pub(super) names: Names,
    /// Where the spec comes from.
    pub(super) source: Source,
}

/// Names that other keys may refer to.
#[derive(Debug, Default)]
pub(super) struct Names {
    services: BTreeSet<String>,
    tiers: BTreeSet<String>,
}

impl Names {
    /// The names in a document, before anything is left out of it: a reference to a service that has a mistake of its
    /// own is no second mistake.
    pub(super) fn of_document(root: &Node) -> Self {
        use super::tree::Kind;
        let mut names = Self::default();
        let Some(mcp) = root.get("mcp").map(|e| &e.value) else {
            return names;
        };
        if let Some(Kind::Seq(services)) = mcp.get("services").map(|e| &e.value.kind) {
            for service in services {
                if let Some(Kind::Scalar(name)) = service.get("name").map(|e| &e.value.kind) {
                    names.services.insert(name.text.clone());
                }
            }
        }
        if let Some(Kind::Map(tiers)) = mcp.get("tiers").map(|e| &e.value.kind) {
            names.tiers.extend(tiers.iter().map(|tier| tier.key.clone()));
        }
        names
    }
}

/// Checks a spec. The findings hold errors and warnings; the config is there when there is no error.
pub(super) fn check(spec: &Spec, surroundings: Surroundings<'_>) -> (Option<Config>, Vec<Finding>) {
    let mut checker = Checker {
        spec,
        surroundings,
        findings: Vec::new(),
    };
    checker
        .surroundings
        .names
        .services
        .extend(spec.mcp.services.iter().map(|s| s.name.0.to_string()));
    checker
        .surroundings
        .names
        .tiers
        .extend(spec.mcp.tiers.0.keys().map(|name| name.0.to_string()));

    let edge = checker.edge();
    let services = checker.services();
    let tiers = checker.tiers();
    let clients = checker.clients();
    let auth = checker.auth();
    let routes = checker.routes();

    let source = checker.surroundings.source.clone();
    let findings = checker.findings;
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return (None, findings);
    }
    let config = Config {
        edge,
        services: by_name(services),
        tiers,
        clients,
        auth,
        routes,
        warnings: Vec::new(),
        source,
    };
    (Some(config), findings)
}

fn by_name(services: Vec<Service>) -> BTreeMap<ServiceName, Arc<Service>> {
    services
        .into_iter()
        .map(|service| (service.name.clone(), Arc::new(service)))
        .collect()
}

/// One run of the checks. Each section's checks are in a file of their own.
struct Checker<'a> {
    spec: &'a Spec,
    surroundings: Surroundings<'a>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn error(&mut self, path: &[Step<'_>], mistake: &Mistake<'_>) {
        self.push(path, |at| Finding::error(at, mistake));
    }

    fn warn(&mut self, path: &[Step<'_>], notice: &Notice<'_>) {
        self.push(path, |at| Finding::warning(at, notice));
    }

    fn push(&mut self, path: &[Step<'_>], finding: impl FnOnce(Option<Span>) -> Finding) {
        let at = (self.surroundings.locate)(path);
        self.findings.push(finding(at));
    }

    /// Reports a reference to a service that is not there.
    fn known_service(&mut self, path: &[Step<'_>], name: &impl Display) {
        let name = name.to_string();
        let hint = missing(&self.surroundings.names.services, &name);
        self.dangling(path, "service", &name, hint);
    }

    /// Reports a reference to a tier that is not there.
    fn known_tier(&mut self, path: &[Step<'_>], name: &impl Display) {
        let name = name.to_string();
        let hint = missing(&self.surroundings.names.tiers, &name);
        self.dangling(path, "tier", &name, hint);
    }

    fn dangling(&mut self, path: &[Step<'_>], what: &str, name: &str, missing: Option<Option<String>>) {
        if let Some(hint) = missing {
            let mistake = Mistake::Dangling { what, name };
            self.push(path, |at| Finding::error(at, &mistake).with_hint(hint));
        }
    }
}

/// `Some` when the name is missing, with what may have been meant.
fn missing(names: &BTreeSet<String>, name: &str) -> Option<Option<String>> {
    (!names.contains(name)).then(|| did_you_mean(name, names.iter().map(String::as_str)))
}
