#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod error;
mod judge;
mod machine;

mod budget;
mod quantile;
mod scope;
mod session;
mod sync;
mod trace;

mod call;
mod hedge;
mod operation;
mod timeout;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(test)]
mod loom_tests;

pub use budget::{BudgetLimits, BudgetSnapshot, ExtraPermit, RequestTicket, RetryBudget};
pub use call::{Notified, Notify, RetryCall, Retrying, Silent};
pub use config::{Nested, Retry, RetryBuilder};
pub use error::{ConfigError, RetryError, StopReason, TimedOut};
pub use hedge::{Hedge, HedgeBuilder, HedgeCall, HedgeDelay};
pub use judge::{
    AnyError, ByClass, Judge, PushBack, RetryIf, RetryResultIf, Verdict, WithEffect, WithPushBack,
};
pub use machine::{Attempt, Failure};
pub use operation::{Operation, Plain, RetryExt, WithAttempt};
pub use quantile::LiveQuantile;
pub use session::RetrySession;
#[cfg(feature = "tokio")]
pub use timeout::timeout;
pub use timeout::{Timeout, timeout_on};
