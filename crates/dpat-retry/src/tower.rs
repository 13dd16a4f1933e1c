//! Middleware for `tower` (feature `tower`).

mod future;
mod layer;
mod request;
mod service;

pub use future::{
    HedgeFuture, RetryFuture, ServiceAttempt, ServiceOperation, TimeoutFuture, ViaService,
};
pub use layer::{HedgeLayer, RetryLayer, TimeoutLayer};
pub use request::{ByClone, RequestRule, WithClone, WithDeadline};
pub use service::{HedgeService, RetryService, TimeoutError, TimeoutService};
