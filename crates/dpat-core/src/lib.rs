#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backoff;
mod deadline;
mod entropy;
mod error;
mod time;

pub use backoff::{Backoff, BackoffError, Delays, Jitter};
pub use deadline::Deadline;
pub use entropy::SystemEntropy;
pub use entropy::{Entropy, SplitMix64};
pub use error::{Class, Classify, Effect};
#[cfg(feature = "test-util")]
pub use time::ManualTime;
pub use time::SystemClock;
#[cfg(feature = "tokio")]
pub use time::TokioTime;
pub use time::{Clock, Instant, Sleep, Wall};
