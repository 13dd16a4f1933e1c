//! What redb refuses, with its class and its effect.

use std::error::Error;
use std::fmt;

use dpat_core::{Class, Classify, Effect};
use redb::WriteTransaction;

use crate::config::ConfigError;

/// A failure of the database, or a row that cannot be read.
#[derive(Debug)]
pub struct EngineError {
    class: Class,
    effect: Effect,
    what: Box<str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl EngineError {
    /// Before a commit: once the transaction is rolled back, nothing has happened.
    pub(crate) fn of(error: impl Into<redb::Error>) -> Self {
        Self::new(Effect::NotDone, error.into())
    }

    fn new(effect: Effect, error: redb::Error) -> Self {
        Self {
            class: class(&error),
            effect,
            what: error.to_string().into(),
            source: Some(Box::new(error)),
        }
    }

    /// A row that does not decode.
    pub(crate) fn corrupt(
        table: &str,
        row: impl fmt::Display,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            class: Class::Corrupt,
            effect: Effect::NotDone,
            what: format!("table {table}: row {row} does not decode: {error}").into(),
            source: Some(Box::new(error)),
        }
    }

    /// Tables that do not fit together.
    #[cfg(feature = "outbox")]
    pub(crate) fn inconsistent(table: &str, row: impl fmt::Display, what: &str) -> Self {
        Self {
            class: Class::Corrupt,
            effect: Effect::NotDone,
            what: format!("table {table}: row {row}: {what}").into(),
            source: None,
        }
    }

    /// No room.
    #[cfg(feature = "idempotency")]
    pub(crate) fn full(field: &str, limit: u64) -> Self {
        Self {
            class: Class::Overloaded,
            effect: Effect::NotDone,
            what: format!("{field}: the limit of {limit} is reached").into(),
            source: None,
        }
    }

    /// A thread that ended before it answered.
    #[cfg(feature = "tokio")]
    pub(crate) fn abandoned(error: tokio::task::JoinError) -> Self {
        Self {
            class: Class::Cancelled,
            effect: Effect::Unknown,
            what: "the thread that waited for the disk has ended".into(),
            source: Some(Box::new(error)),
        }
    }
}

/// What reopening or repeating can cure.
fn class(error: &redb::Error) -> Class {
    match error {
        redb::Error::Corrupted(_) => Class::Corrupt,
        redb::Error::ValueTooLarge(_) => Class::InvalidInput,
        redb::Error::DatabaseAlreadyOpen => Class::Unavailable,
        redb::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Class::Overloaded
            }
            _ => Class::Unavailable,
        },
        // After an I/O error redb refuses everything until it is opened again; and tables of other types stay so.
        _ => Class::Permanent,
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Classify for EngineError {
    fn class(&self) -> Class {
        self.class
    }

    /// Nothing was changed, unless the commit itself failed.
    fn effect(&self) -> Effect {
        self.effect
    }
}

#[cfg(feature = "outbox")]
impl From<EngineError> for dpat_outbox::StoreError {
    fn from(error: EngineError) -> Self {
        Self::new(error.class, error.effect, error.what.clone()).with_source(error)
    }
}

#[cfg(feature = "outbox")]
impl From<EngineError> for dpat_outbox::AppendError {
    fn from(error: EngineError) -> Self {
        Self::Store(error.into())
    }
}

#[cfg(feature = "idempotency")]
impl From<EngineError> for dpat_idempotency::StoreError {
    fn from(error: EngineError) -> Self {
        Self::new(error.class, error.effect, error.what.clone()).with_source(error)
    }
}

/// Why the tables were not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A later version of this crate wrote the tables.
    #[error(
        "{table}: schema {found} is newer than {supported}, the newest that this version knows"
    )]
    NewerSchema {
        /// The table that says so.
        table: String,
        /// What it says.
        found: u64,
        /// The newest that is known.
        supported: u64,
    },
    /// The database failed.
    #[error("database: {0}")]
    Engine(#[from] EngineError),
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::NewerSchema { .. } => Class::Permanent,
            Self::Engine(error) => error.class(),
        }
    }

    /// Of the tables: they may have been made.
    fn effect(&self) -> Effect {
        match self {
            Self::Config(_) | Self::NewerSchema { .. } => Effect::NotDone,
            Self::Engine(error) => error.effect(),
        }
    }
}

/// Commits a transaction, and says by the effect of an error that nobody knows whether it is committed.
///
/// The same as [`WriteTransaction::commit`] with an error that retry and relay understand.
///
/// # Errors
/// [`EngineError`] with `Effect::Unknown`. Open the database again to see what is there.
pub fn commit(tx: WriteTransaction) -> Result<(), EngineError> {
    tx.commit()
        .map_err(|error| EngineError::new(Effect::Unknown, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_say_what_cures() {
        let io = |kind| redb::Error::Io(std::io::Error::from(kind));
        for (error, expected) in [
            (redb::Error::Corrupted(String::new()), Class::Corrupt),
            (redb::Error::ValueTooLarge(1), Class::InvalidInput),
            (redb::Error::DatabaseAlreadyOpen, Class::Unavailable),
            (io(std::io::ErrorKind::StorageFull), Class::Overloaded),
            (io(std::io::ErrorKind::Other), Class::Unavailable),
            (redb::Error::PreviousIo, Class::Permanent),
            (
                redb::Error::TableIsMultimap(String::new()),
                Class::Permanent,
            ),
        ] {
            let error = EngineError::of(error);
            assert_eq!(error.class(), expected, "{error}");
            assert_eq!(error.effect(), Effect::NotDone);
        }
    }
}
