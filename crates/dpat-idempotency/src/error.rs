//! Errors, one per operation that can fail.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use dpat_codec::DecodeError;
use dpat_core::{Class, Classify, Effect, Wall};

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

    /// A store that is full: nothing was done.
    #[must_use]
    pub fn full(field: &str, limit: usize) -> Self {
        Self::new(
            Class::Overloaded,
            Effect::NotDone,
            format!("{field}: the limit of {limit} is reached"),
        )
    }

    /// Adds the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says whether the store had no room.
    pub(crate) fn is_full(&self) -> bool {
        self.class == Class::Overloaded && self.effect == Effect::NotDone
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

/// Why an operation was not begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The same operation is under way elsewhere.
    #[error("the operation is under way; its claim ends in {retry_after:?}")]
    Busy {
        /// How long the claim of the other still lasts, unless it is extended.
        retry_after: Duration,
    },
    /// The key was used for another request.
    #[error("key: already used for another request")]
    Reused,
    /// An earlier attempt may have taken effect, and nobody knows.
    #[error("the operation is in doubt since {} ns: an earlier attempt ended without an answer", since.as_nanos())]
    InDoubt {
        /// When the earlier claim ended.
        since: Wall,
    },
    /// The record changed at every try.
    #[error("races: lost {limit} in a row for the key")]
    Contended {
        /// How often it was tried.
        limit: u32,
    },
    /// The stored record cannot be read.
    #[error("stored record: {0}")]
    Corrupt(#[source] DecodeError),
    /// The store failed. The operation was not begun; a claim may be left that nobody holds.
    #[error("store: {0}")]
    Store(#[from] StoreError),
}

impl Classify for BeginError {
    fn class(&self) -> Class {
        match self {
            Self::Busy { .. } | Self::Contended { .. } => Class::Transient,
            Self::Reused => Class::InvalidInput,
            Self::InDoubt { .. } => Class::Permanent,
            Self::Corrupt(_) => Class::Corrupt,
            Self::Store(error) => error.class(),
        }
    }

    /// Of the operation that the key names. Not begun here, but in doubt it may have happened before.
    fn effect(&self) -> Effect {
        match self {
            Self::InDoubt { .. } | Self::Corrupt(_) => Effect::Unknown,
            _ => Effect::NotDone,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            Self::Store(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// Why the end of an operation was not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// The claim is another's by now, or was resolved.
    #[error("the claim is no longer held")]
    Superseded,
    /// The response is too long to be kept.
    #[error("response: {got} bytes are more than {limit}")]
    TooLong {
        /// Bytes of the response.
        got: usize,
        /// The largest response.
        limit: usize,
    },
    /// The record changed at every try.
    #[error("races: lost {limit} in a row for the key")]
    Contended {
        /// How often it was tried.
        limit: u32,
    },
    /// The stored record cannot be read.
    #[error("stored record: {0}")]
    Corrupt(#[source] DecodeError),
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] StoreError),
}

impl Classify for FinishError {
    fn class(&self) -> Class {
        match self {
            Self::Superseded => Class::Conflict,
            Self::TooLong { .. } => Class::InvalidInput,
            Self::Contended { .. } => Class::Transient,
            Self::Corrupt(_) => Class::Corrupt,
            Self::Store(error) => error.class(),
        }
    }

    /// Of the record, not of the operation.
    fn effect(&self) -> Effect {
        match self {
            Self::Store(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// Why a key was not resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The key is not in doubt.
    #[error("key: not in doubt")]
    NotInDoubt,
    /// The write failed.
    #[error(transparent)]
    Finish(#[from] FinishError),
}

impl Classify for ResolveError {
    fn class(&self) -> Class {
        match self {
            Self::NotInDoubt => Class::Conflict,
            Self::Finish(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::NotInDoubt => Effect::NotDone,
            Self::Finish(error) => error.effect(),
        }
    }
}

/// Why [`Responses::run`](crate::Responses::run) has no answer that later calls will have too.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// The operation was not begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The operation failed.
    #[error("{0}")]
    Inner(#[source] E),
    /// The operation succeeded, and its response is not known to be stored: later calls may find it in doubt.
    #[error("the response was not stored: {error}")]
    NotStored {
        /// What the operation answered.
        response: bytes::Bytes,
        /// Why it is not stored.
        error: FinishError,
    },
}

impl<E: Classify> Classify for RunError<E> {
    fn class(&self) -> Class {
        match self {
            Self::Begin(error) => error.class(),
            Self::Inner(error) => error.class(),
            Self::NotStored { error, .. } => error.class(),
        }
    }

    /// Of the operation.
    fn effect(&self) -> Effect {
        match self {
            Self::Begin(error) => error.effect(),
            Self::Inner(error) => error.effect(),
            Self::NotStored { .. } => Effect::Unknown,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Begin(error) => error.retry_after(),
            Self::Inner(error) => error.retry_after(),
            Self::NotStored { .. } => None,
        }
    }
}
