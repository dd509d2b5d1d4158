//! What all requests of one configuration share.

use std::sync::Arc;

use mcp_edge_filters::Chain;

use crate::config::Config;
use crate::upstream::Pools;

/// One configuration, ready to serve.
pub struct State {
    pub config: Arc<Config>,
    pub pools: Arc<Pools>,
    pub chain: Chain,
}

/// Why a checked configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StateError {}

impl State {
    /// Builds the filter chain.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn new(config: Arc<Config>, pools: Arc<Pools>) -> Result<Self, StateError> {
        Ok(Self { config, pools, chain: Chain::new(Vec::new()) })
    }
}
