//! Where requests go: the endpoints of each service, which of them serve, and the choice of one.
//!
//! A [`Pool`] is fed from two sides. A runtime says which endpoints exist, active checks ([`health`]) say which serve;
//! what requests meet ([`outlier`]) may hold one back for a while. [`Pool::pick`] reads the result without a lock.

mod affinity;
mod balance;
pub(crate) mod check;
mod endpoint;
pub(crate) mod exchange;
mod health;
mod lease;
mod outlier;
mod pool;
pub(crate) mod random;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use endpoint::{Endpoint, EndpointAddr, EndpointId, EndpointSpec, EndpointStatus};
pub use health::{HealthState, HealthTiming};
pub use lease::Lease;
pub use outlier::OutlierRules;
pub use pool::{NoEndpoint, PickKey, Pool};
pub use status::{PoolState, PoolStatus};

use crate::config::{Config, ServiceName};

/// The pools of a configuration, one for each service.
#[derive(Debug)]
pub struct Pools(BTreeMap<ServiceName, Arc<Pool>>);

impl Pools {
    /// One pool without endpoints for each service of `config`.
    pub fn new(config: &Config) -> Self {
        let pool = |(name, service): (&ServiceName, &Arc<_>)| (name.clone(), Arc::new(Pool::new(service)));
        Self(config.services.iter().map(pool).collect())
    }

    /// The pool of a service.
    pub fn get(&self, name: &ServiceName) -> Option<&Arc<Pool>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.0.values()
    }
}
