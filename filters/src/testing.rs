//! Plain values that several tests need.

use std::sync::Arc;

use crate::call::Call;
use crate::ids::Principal;
use crate::request::{Identity, Request};

/// A client of the issuer `i`.
pub(crate) fn identity(client: &str, tier: &str) -> Identity {
    Identity {
        issuer: "i".into(),
        id: client.into(),
        principal: Principal::of("i", client),
        tier: tier.into(),
        scopes: [].into(),
        session_id: None,
        token_iat: None,
        token_exp: None,
    }
}

/// A tool call of that client to the service `files`.
pub(crate) fn request(client: &str, tier: &str) -> Request {
    let mut req = Request::new("r".into(), http::Method::POST, "/mcp/files", "files".into());
    req.call = Call::tool("t");
    req.identity = Some(Arc::new(identity(client, tier)));
    req
}
