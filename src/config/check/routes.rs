//! Checks of `routes`, and its part of the snapshot.

use http::{HeaderName, HeaderValue};

use super::super::route::{Route, RouteMatch, RouteTarget, TimeoutOverrides};
use super::super::spec::{MatchSpec, RouteSpec};
use super::super::tree::Step::{Index, Key};
use super::Checker;
use super::mistake::{Mistake, Notice};

impl Checker<'_> {
    pub(super) fn routes(&mut self) -> Vec<Route> {
        let spec = self.spec;
        if spec.routes.is_empty() {
            self.error(&[Key("routes")], &Mistake::NoRoutes);
        }
        let mut routes: Vec<Route> = Vec::new();
        for (index, route) in spec.routes.iter().enumerate() {
            let Some(route) = self.route(index, route) else {
                continue;
            };
            if let Some(earlier) = routes.iter().position(|r| r.matcher == route.matcher) {
                self.warn(
                    &[Key("routes"), Index(index), Key("match")],
                    &Notice::Unreachable(earlier),
                );
            }
            routes.push(route);
        }
        routes
    }

    fn route(&mut self, index: usize, spec: &RouteSpec) -> Option<Route> {
        let entry = [Key("routes"), Index(index), Key("match"), Key("path")];
        let by_path = spec.matcher.path.0.names_service();
        let target = match (&spec.service, by_path) {
            (None, true) => RouteTarget::FromPath,
            (Some(service), false) => {
                self.known_service(&[Key("routes"), Index(index), Key("service")], &service.0);
                RouteTarget::Service(service.0.clone())
            }
            (None, false) => {
                self.error(&entry, &Mistake::RouteWithoutService);
                return None;
            }
            (Some(_), true) => {
                self.error(&entry, &Mistake::RouteWithTwoServices);
                return None;
            }
        };
        for (at, tag) in spec.matcher.tags.iter().enumerate() {
            let used = self
                .spec
                .mcp
                .services
                .iter()
                .any(|service| service.tags.contains(tag));
            if !used {
                let path = [Key("routes"), Index(index), Key("match"), Key("tags"), Index(at)];
                self.warn(&path, &Notice::UnusedTag(&tag.0.0));
            }
        }
        Some(Route {
            matcher: matcher(&spec.matcher),
            target,
            timeouts: TimeoutOverrides {
                first_byte: spec.timeouts.first_byte.as_ref().map(|t| t.0.0),
                idle: spec.timeouts.idle.as_ref().map(|t| t.0.0),
                total: spec.timeouts.total.as_ref().map(|t| t.0.0),
            },
            max_body: spec.max_body.as_ref().map(|size| size.0.0),
        })
    }
}

fn matcher(spec: &MatchSpec) -> RouteMatch {
    let headers = spec.headers.0.iter();
    RouteMatch {
        host: spec.host.as_ref().map(|host| host.0.0.clone()),
        path: spec.path.0.clone(),
        // Their formats were checked when they were read, so none is left out here.
        headers: headers
            .filter_map(|(name, value)| header(&name.0.0, &value.0.0))
            .collect(),
        tags: spec.tags.iter().map(|tag| tag.0.0.clone()).collect(),
    }
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}
