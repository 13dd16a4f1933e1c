#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backoff;
mod clock;
mod deadline;
mod entropy;
mod error;
mod id;
mod sync;
mod time;

#[cfg(test)]
mod loom_tests;

pub use backoff::{Backoff, BackoffError, Delays, Jitter};
pub use clock::{
    AtomicHlc, CausalOrder, Hlc, HlcError, HlcTimestamp, LamportClock, LamportExhausted,
    LamportTime, VersionVector, VersionVectorError,
};
pub use deadline::Deadline;
#[cfg(feature = "rand")]
pub use entropy::{AsRand, FromRand};
pub use entropy::{Entropy, SplitMix64, SystemEntropy};
pub use error::{Class, Classify, Effect, GrpcCode, parse_retry_after};
pub use id::{
    CorrelationId, Epoch, EpochExhausted, Fence, GenerateError, NodeId, ParseIdError,
    RollbackPolicy, Snowflake, SnowflakeBuilder, SnowflakeConfigError, SnowflakeGenerator,
    SnowflakeLayout, SnowflakeParts, StaleEpoch, Ulid, UlidGenerator, Uuid7, Uuid7Generator,
};
#[cfg(feature = "coarse")]
pub use time::CoarseClock;
#[cfg(all(feature = "coarse", feature = "tokio"))]
pub use time::CoarseTime;
pub use time::SystemClock;
#[cfg(feature = "tokio")]
pub use time::TokioTime;
pub use time::{AnySleep, AnyTime, Clock, Instant, Sleep, Wall};
#[cfg(feature = "test-util")]
pub use time::{ManualSleep, ManualTime};
