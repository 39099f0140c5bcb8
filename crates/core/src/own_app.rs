//! The project's own application as a receiver of webhooks.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{access::User, runtime::RuntimeError};

/// A delivery, as the application is asked to take it.
#[derive(Clone, Debug)]
pub struct OwnDelivery {
    /// The path and the query of its route.
    pub route: String,
    /// The headers, with names in small letters.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What it tells.
    pub body: Bytes,
    /// Who made the run: the route learns of nobody else, and nothing may be done that they may not do.
    pub maker: Option<User>,
}

/// What the application answers.
#[derive(Clone, Debug, Default)]
pub struct OwnAnswer {
    /// The status.
    pub status: u16,
    /// The headers, with names in small letters.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// An application that takes deliveries on its routes, and on no other ones.
#[async_trait]
pub trait OwnApp: Send + Sync {
    /// Has it take a delivery, and waits until its answer is there.
    async fn take(&self, delivery: OwnDelivery) -> Result<OwnAnswer, RuntimeError>;
}
