//! The header `Idempotency-Key` as tower middleware.

mod body;
mod future;
mod header;
mod layer;
mod service;
mod stored;

pub use body::ReplayBody;
pub use future::ResponseFuture;
pub use layer::{
    ByClass, EffectBy, ErrorEffect, IdempotencyLayer, StatusRule, Unknown, UponStatus,
};
pub use service::IdempotencyService;
