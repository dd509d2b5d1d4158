//! The configuration: what the operator wrote, checked, with every mistake reported in one run.
//!
//! A file goes through these stages, each with its own module: `tree` (YAML with places), `substitute` (`${VAR}`),
//! `shape` (the walk along the JSON Schema that `schema` makes from the types in `spec`), `check` (meaning). What
//! comes out is a [`Config`], which the rest of the edge can rely on, or a [`Report`] of everything that is wrong.
//! Without a file, `mcp_json` takes the place of the first stages.

mod check;
mod files;
mod formats;
mod later;
mod load;
mod manual;
mod mcp_json;
mod names;
mod report;
mod route;
mod schema;
mod shape;
mod snapshot;
mod spec;
mod substitute;
mod suggest;
mod tree;
mod units;

pub use load::{Examined, Input, examine, load};
pub use manual::manual;
pub use names::{ClientKey, NameError, ServiceName, TierName};
pub use report::{Report, Severity};
pub use route::{PathMatch, PathPattern, PathPatternError, Route, RouteMatch, RouteTarget, TimeoutOverrides};
pub use schema::json_schema;
pub use snapshot::{
    Algorithm, Auth, Client, Config, Edge, HostPort, HostPortError, Isolation, Issuer, IssuerKey, Processes,
    RateLimit, Replicas, Service, ServiceRuntime, Source, Tier, Timeouts, TlsFiles,
};
pub use units::{DurationError, parse_duration};
