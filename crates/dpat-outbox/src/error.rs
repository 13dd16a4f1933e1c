//! Errors, one per operation that can fail.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use dpat_core::{Class, Classify, Effect};

use crate::row::cut;

/// A store that did not do what it was asked.
#[derive(Debug)]
pub struct StoreError {
    class: Class,
    effect: Effect,
    what: Box<str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// Describes a failure: its kind, and whether the change may have happened all the same.
    #[must_use]
    pub fn new(class: Class, effect: Effect, what: impl Into<Box<str>>) -> Self {
        Self {
            class,
            effect,
            what: what.into(),
            source: None,
        }
    }

    /// Adds the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Classify for StoreError {
    fn class(&self) -> Class {
        self.class
    }

    fn effect(&self) -> Effect {
        self.effect
    }
}

/// Why an event was not appended: roll the transaction back, or go on without the event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Too much waits to be sent. Slow the producers down.
    #[error("{field}: the limit of {limit} is reached")]
    Full {
        /// What is full: `backlog_rows` or `backlog_bytes`.
        field: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
}

impl Classify for AppendError {
    fn class(&self) -> Class {
        match self {
            Self::Full { .. } => Class::Overloaded,
            Self::Store(error) => error.class(),
        }
    }

    /// Nothing has happened, once the transaction is rolled back.
    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// A publishing that was not acknowledged.
///
/// The class decides: what can pass by itself (transient, timeout, overloaded, unavailable, and also conflict and
/// cancelled) is tried again, what stays wrong (invalid input, permanent, corrupt) ends in parking.
#[derive(Debug)]
pub struct PublishError {
    class: Class,
    effect: Effect,
    retry_after: Option<Duration>,
    what: Box<str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl PublishError {
    /// Describes a failure. What is longer than [`REASON_BYTES_MAX`](crate::REASON_BYTES_MAX) bytes is cut.
    #[must_use]
    pub fn new(class: Class, what: &str) -> Self {
        Self {
            class,
            effect: Effect::Unknown,
            retry_after: None,
            what: cut(what).into(),
            source: None,
        }
    }

    /// Takes over an error that says how to react to it.
    #[must_use]
    pub fn of(error: impl Error + Classify + Send + Sync + 'static) -> Self {
        Self {
            class: error.class(),
            effect: error.effect(),
            retry_after: error.retry_after(),
            what: cut(&error.to_string()).into(),
            source: Some(Box::new(error)),
        }
    }

    /// Says how long the other side wants to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Says whether the event will not pass another time either.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.class,
            Class::InvalidInput | Class::Permanent | Class::Corrupt
        )
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Classify for PublishError {
    fn class(&self) -> Class {
        self.class
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Why a relay ended: its store will not come back by itself.
#[derive(Debug, thiserror::Error)]
#[error("store: {0}")]
pub struct RelayError(#[from] pub(crate) StoreError);

impl Classify for RelayError {
    fn class(&self) -> Class {
        self.0.class()
    }

    fn effect(&self) -> Effect {
        self.0.effect()
    }
}
