//! What an error means to whoever must react to it.

mod grpc;
#[cfg(feature = "http")]
mod http;
mod io;
mod retry_after;

pub use grpc::GrpcCode;
pub use retry_after::parse_retry_after;

use std::sync::Arc;
use std::time::Duration;

/// What kind of failure an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Class {
    /// A fault that is expected to pass by itself (a reset connection, a lost packet).
    Transient,
    /// No answer within the time allowed.
    Timeout,
    /// The other side refuses because it has too much to do; back off.
    Overloaded,
    /// The other side cannot be reached, or is shutting down.
    Unavailable,
    /// A concurrent change won; read again and decide anew.
    Conflict,
    /// The caller gave up.
    Cancelled,
    /// The request is wrong and stays wrong.
    InvalidInput,
    /// A failure that a repetition will not cure.
    Permanent,
    /// Data that fails its own checks.
    Corrupt,
}

impl Class {
    /// Says whether the same request can succeed later: transient, timeout, overloaded or unavailable.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Transient | Self::Timeout | Self::Overloaded | Self::Unavailable
        )
    }

    /// Says whether the failure tells something about the health of the other side, as breakers and balancers need
    /// it: the retryable classes and `Corrupt`, but not the caller's own mistakes, conflicts and cancellations.
    #[must_use]
    pub const fn is_peer_fault(self) -> bool {
        self.is_retryable() || matches!(self, Self::Permanent | Self::Corrupt)
    }
}

/// Whether a failed operation may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Effect {
    /// The operation surely changed nothing.
    NotDone,
    /// The operation may or may not have happened.
    Unknown,
}

/// An error that says how to react to it.
pub trait Classify {
    /// Returns the kind of failure.
    fn class(&self) -> Class;

    /// Says whether the operation may have happened. Unknown unless it is certain.
    fn effect(&self) -> Effect {
        Effect::Unknown
    }

    /// Returns how long the other side asks callers to wait.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Says whether even a non-idempotent operation may be sent again: the class is retryable and it surely did not
    /// happen.
    fn is_safe_to_retry(&self) -> bool {
        self.class().is_retryable() && self.effect() == Effect::NotDone
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: Classify + ?Sized> Classify for $pointer {
            fn class(&self) -> Class {
                (**self).class()
            }
            fn effect(&self) -> Effect {
                (**self).effect()
            }
            fn retry_after(&self) -> Option<Duration> {
                (**self).retry_after()
            }
            fn is_safe_to_retry(&self) -> bool {
                (**self).is_safe_to_retry()
            }
        }
    )*};
}

forward!(&T, Box<T>, Arc<T>);
