#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod error;
mod verdict;

mod machine;
mod snapshot;
mod window;

mod backlog;
mod breaker;
mod call;
mod registry;
#[cfg(feature = "tower")]
mod tower;

mod sync;
mod trace;

#[cfg(test)]
mod loom_tests;

pub use breaker::{Breaker, OwnedPermit, Permit};
pub use call::Classified;
pub use config::{
    AfterMaxWait, Config, ConfigBuilder, MAX_BUCKETS, MAX_OPEN_TIME, MAX_TRIPS, MAX_WINDOW_CALLS,
    OpenContext, OpenTime, Ramp, Trip,
};
pub use error::{CallError, ConfigError, Reason, RegistryFull, Rejected};
pub use registry::Breakers;
pub use snapshot::{Cause, Snapshot, State, TripStatus};
#[cfg(feature = "tower")]
pub use tower::{BreakerLayer, BreakerService, ResponseFuture};
pub use verdict::{ByClass, Classifier, ErrIsFailure, FailureIf, Outcome, Verdict, VerdictBy};
