//! A request's hold on an endpoint.

use std::sync::Arc;

use super::endpoint::Endpoint;
use super::pool::Pool;

/// One request's place at an endpoint: it counts as under way until the lease is dropped, however the request ends.
#[derive(Debug)]
#[must_use = "the request counts as under way only while its lease is held"]
pub struct Lease {
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
}

impl Lease {
    pub(crate) fn new(pool: &Arc<Pool>, endpoint: &Arc<Endpoint>) -> Self {
        endpoint.enter();
        Self {
            pool: Arc::clone(pool),
            endpoint: Arc::clone(endpoint),
        }
    }

    /// Where the request goes.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The endpoint refused the connection: it is ejected at once, unless that would leave nobody.
    pub fn connect_failed(&self) {
        self.pool.refused(&self.endpoint);
    }

    /// Reset, timeout, malformed answer, 502, 503 or 504 of the sidecar: several in a row eject.
    pub fn failed(&self) {
        self.pool.failed(&self.endpoint);
    }

    /// The endpoint did its part, whatever the answer says.
    pub fn ok(&self) {
        self.endpoint.note_ok();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.leave();
    }
}
