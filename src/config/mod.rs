//! The configuration: what the operator wrote, checked, with every mistake reported in one run.

mod names;
mod route;
mod snapshot;
mod tree;

pub use names::{ClientKey, NameError, ServiceName, TierName};
pub use route::{PathMatch, PathPattern, PathPatternError, Route, RouteMatch, RouteTarget, TimeoutOverrides};
pub use snapshot::{
    Algorithm, Auth, Client, Config, Edge, HostPort, HostPortError, Isolation, Issuer, IssuerKey, Processes,
    RateLimit, Replicas, Service, ServiceRuntime, Source, Tier, Timeouts, TlsFiles,
};
