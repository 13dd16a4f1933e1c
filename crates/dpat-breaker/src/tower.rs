//! The breaker as tower middleware.

mod future;
mod layer;
mod service;

pub use future::ResponseFuture;
pub use layer::BreakerLayer;
pub use service::BreakerService;
