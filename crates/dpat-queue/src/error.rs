//! One small type for each operation that can fail.

use std::fmt;
use std::sync::Arc;

use dpat_core::{Class, Classify, Effect};

use crate::capability::Capability;

/// Says why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value is outside of its range.
    #[error("{field}: {given} is not between {min} and {max}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// What was asked for.
        given: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

impl Classify for ConfigError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// A message that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A field is empty that must not be.
    #[error("{field}: empty")]
    Empty {
        /// The field at fault.
        field: &'static str,
    },
    /// A field is too large.
    #[error("{field}: {got} is more than {limit}")]
    TooLarge {
        /// The field at fault.
        field: &'static str,
        /// The largest value.
        limit: usize,
        /// The value given.
        got: usize,
    },
}

impl Classify for MessageError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// A backend does not offer what was asked for; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue `{backend}` does not offer: {capability}")]
pub struct Unsupported {
    /// The backend.
    pub backend: &'static str,
    /// What it does not offer.
    pub capability: Capability,
}

impl Classify for Unsupported {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// What went wrong below the queue: on the disk, on the way to an engine, in it.
#[derive(Clone, Debug)]
pub struct BackendError {
    class: Class,
    effect: Effect,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

impl BackendError {
    /// Wraps an error, with what it means.
    pub fn new(
        class: Class,
        effect: Effect,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            class,
            effect,
            source: Arc::from(source.into()),
        }
    }

    /// The same failure, seen by one who had not begun yet.
    pub(crate) fn before(&self) -> Self {
        Self {
            effect: Effect::NotDone,
            ..self.clone()
        }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for BackendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl Classify for BackendError {
    fn class(&self) -> Class {
        self.class
    }

    fn effect(&self) -> Effect {
        self.effect
    }
}

/// Says why a message was not sent.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is not one.
    #[error(transparent)]
    Invalid(#[from] MessageError),
    /// A limit of the queue is reached.
    #[error("{field}: the limit of {limit} is reached")]
    Full {
        /// Which.
        field: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The queue was drained.
    #[error("the queue is closed")]
    Closed,
    /// The message wants what the backend does not offer.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Classify for SendError {
    fn class(&self) -> Class {
        match self {
            Self::Invalid(error) => error.class(),
            Self::Full { .. } => Class::Overloaded,
            Self::Closed => Class::Unavailable,
            Self::Unsupported(error) => error.class(),
            Self::Backend(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Backend(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// Says why nothing was received.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The queue was drained.
    #[error("the queue is closed")]
    Closed,
    /// Too many callers wait.
    #[error("waiters_max: the limit of {limit} is reached")]
    TooManyWaiters {
        /// The limit.
        limit: u64,
    },
    /// The backend failed. If its effect is unknown, messages may have been leased; they come again.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Classify for ReceiveError {
    fn class(&self) -> Class {
        match self {
            Self::Closed => Class::Unavailable,
            Self::TooManyWaiters { .. } => Class::Overloaded,
            Self::Backend(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Backend(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// Says why a delivery was not settled, or its lease not extended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The message was settled, or delivered again: this receipt has no say any more.
    #[error("the receipt is stale")]
    Stale,
    /// There are too many dead letters; the message is still out.
    #[error("{field}: the limit of {limit} is reached")]
    DeadLettersFull {
        /// Which limit.
        field: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The backend does not offer it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Classify for SettleError {
    fn class(&self) -> Class {
        match self {
            Self::Stale => Class::Conflict,
            Self::DeadLettersFull { .. } => Class::Overloaded,
            Self::Unsupported(error) => error.class(),
            Self::Backend(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Backend(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// Says why a queue was not inspected or changed by hand.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// A limit of the queue is reached.
    #[error("{field}: the limit of {limit} is reached")]
    Full {
        /// Which.
        field: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The backend does not offer it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Classify for ManageError {
    fn class(&self) -> Class {
        match self {
            Self::Full { .. } => Class::Overloaded,
            Self::Unsupported(error) => error.class(),
            Self::Backend(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Backend(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}
