//! What SQLite refuses, with its class and its effect.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use dpat_core::{Class, Classify, Effect};
use rusqlite::{ErrorCode, Transaction};

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
    /// Takes the error of a statement: once the transaction is rolled back, nothing has happened.
    ///
    /// For effects of your own. Not for the error of a commit: [`commit`] knows that it may be done.
    #[must_use]
    pub fn of(error: rusqlite::Error) -> Self {
        Self::new(Effect::NotDone, error)
    }

    fn new(effect: Effect, error: rusqlite::Error) -> Self {
        Self {
            class: class(&error),
            effect,
            what: what(error.sqlite_error_code(), &error.to_string()).into(),
            source: Some(Box::new(error)),
        }
    }

    /// Takes the error of a statement of sqlx: once the transaction is rolled back, nothing has happened.
    ///
    /// For effects of your own. Not for the error of a commit: [`commit_sqlx`](crate::commit_sqlx) knows that it may be done.
    #[cfg(feature = "sqlx")]
    #[must_use]
    pub fn of_sqlx(error: sqlx::Error) -> Self {
        Self::new_sqlx(Effect::NotDone, error)
    }

    /// The error of a commit.
    #[cfg(feature = "sqlx")]
    pub(crate) fn committing_sqlx(error: sqlx::Error) -> Self {
        Self::new_sqlx(effect_of_commit(code_sqlx(&error)), error)
    }

    #[cfg(feature = "sqlx")]
    fn new_sqlx(effect: Effect, error: sqlx::Error) -> Self {
        let words = match &error {
            sqlx::Error::Database(error) => error.message().to_owned(),
            error => error.to_string(),
        };
        Self {
            class: class_sqlx(&error),
            effect,
            what: what(code_sqlx(&error), &words).into(),
            source: Some(Box::new(error)),
        }
    }

    /// A row that does not decode.
    #[cfg(any(feature = "idempotency", feature = "outbox", feature = "queue"))]
    pub(crate) fn corrupt(
        table: impl fmt::Display,
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
    #[cfg(any(feature = "idempotency", feature = "outbox", feature = "queue"))]
    pub(crate) fn inconsistent(
        table: impl fmt::Display,
        row: impl fmt::Display,
        what: &str,
    ) -> Self {
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
fn class(error: &rusqlite::Error) -> Class {
    use rusqlite::Error as E;
    match error {
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..) => Class::Corrupt,
        E::InvalidPath(_) | E::NulError(_) => Class::InvalidInput,
        _ => class_of(error.sqlite_error_code()),
    }
}

fn class_of(code: Option<ErrorCode>) -> Class {
    match code {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
        ) => Class::Transient,
        Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory) => Class::Overloaded,
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => Class::Unavailable,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Class::Corrupt,
        Some(ErrorCode::TooBig) => Class::InvalidInput,
        Some(ErrorCode::OperationInterrupted) => Class::Cancelled,
        _ => Class::Permanent,
    }
}

/// Whether a commit that failed may be done.
fn effect_of_commit(code: Option<ErrorCode>) -> Effect {
    match code {
        // Refused before anything was written, and rolled back by the drop.
        Some(
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::ConstraintViolation,
        ) => Effect::NotDone,
        _ => Effect::Unknown,
    }
}

/// The code of SQLite, of which sqlx has the decimal digits.
#[cfg(feature = "sqlx")]
fn code_sqlx(error: &sqlx::Error) -> Option<ErrorCode> {
    let code = error.as_database_error()?.code()?.parse().ok()?;
    Some(rusqlite::ffi::Error::new(code).code)
}

#[cfg(feature = "sqlx")]
fn class_sqlx(error: &sqlx::Error) -> Class {
    use sqlx::Error as E;
    match error {
        E::ColumnDecode { .. }
        | E::ColumnIndexOutOfBounds { .. }
        | E::ColumnNotFound(_)
        | E::Decode(_)
        | E::TypeNotFound { .. } => Class::Corrupt,
        E::Configuration(_) | E::Encode(_) | E::InvalidArgument(_) => Class::InvalidInput,
        E::Io(_) | E::PoolClosed | E::WorkerCrashed => Class::Unavailable,
        E::PoolTimedOut => Class::Overloaded,
        error => class_of(code_sqlx(error)),
    }
}

/// The words of SQLite, and what to do about it.
fn what(code: Option<ErrorCode>, error: &str) -> String {
    let advice = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another connection kept writing for longer than `busy_timeout`: do it again, or make its transactions shorter"
        }
        Some(ErrorCode::DiskFull) => {
            "the disk is full, or `max_page_count` is reached: make room, and do it again"
        }
        Some(ErrorCode::CannotOpen) => {
            "check that the folder of `path` is there and may be written"
        }
        Some(ErrorCode::NotADatabase) => "`path` names a file that is no SQLite database",
        Some(ErrorCode::ReadOnly) => "check that `path` and its folder may be written",
        _ if error.starts_with("no such table") => {
            "check `path` and `prefix`, or make the tables by `migrate` or the texts of `sql`"
        }
        _ => return error.to_owned(),
    };
    format!("{error}: {advice}")
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
    /// The settings of a queue.
    #[cfg(feature = "queue")]
    #[error(transparent)]
    Queue(#[from] dpat_queue::ConfigError),
    /// The file cannot be opened as a database.
    #[error("path: `{}`: {error}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: EngineError,
    },
    /// The database has no write-ahead log: it is in memory, or on a file system without shared memory.
    #[error(
        "path: `{}`: the journal is `{mode}` and cannot be a write-ahead log: name a file on a local disk",
        path.display()
    )]
    NotWal {
        /// The file.
        path: PathBuf,
        /// The mode of its journal.
        mode: String,
    },
    /// A later version of this crate made the tables.
    #[error(
        "{table}: {part} {found} is newer than {supported}, the newest that this version knows: update the crate"
    )]
    NewerSchema {
        /// The table that says so.
        table: String,
        /// Whose tables.
        part: &'static str,
        /// What it says.
        found: i64,
        /// The newest that is known.
        supported: i64,
    },
    /// The tables are expected, and are not there or are older.
    #[error(
        "tables: the {part} of prefix `{prefix}` is at version {found} of {expected}: run your migrations, or `migrate`"
    )]
    Outdated {
        /// The prefix.
        prefix: String,
        /// Whose tables.
        part: &'static str,
        /// Their version; 0: there are none.
        found: i64,
        /// The version that is expected.
        expected: i64,
    },
    /// The database failed.
    #[error("database: {0}")]
    Engine(#[from] EngineError),
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            #[cfg(feature = "queue")]
            Self::Queue(error) => error.class(),
            Self::NotWal { .. } => Class::InvalidInput,
            Self::NewerSchema { .. } | Self::Outdated { .. } => Class::Permanent,
            Self::Path { error, .. } | Self::Engine(error) => error.class(),
        }
    }

    /// Of the tables: they may have been made.
    fn effect(&self) -> Effect {
        match self {
            Self::Path { error, .. } | Self::Engine(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// Commits a transaction, and says by the effect of an error whether it may be committed all the same.
///
/// The same as [`Transaction::commit`] with an error that retry and relay understand.
///
/// # Errors
/// [`EngineError`]. What was refused because others write, or by a constraint, is not done; after any other failure nobody
/// knows: look.
pub fn commit(tx: Transaction<'_>) -> Result<(), EngineError> {
    tx.commit().map_err(|error| {
        let effect = effect_of_commit(error.sqlite_error_code());
        EngineError::new(effect, error)
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn classes_say_what_cures() {
        let failure = |code: i32| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for (error, expected) in [
            (failure(ffi::SQLITE_BUSY), Class::Transient),
            (failure(ffi::SQLITE_BUSY_SNAPSHOT), Class::Transient),
            (failure(ffi::SQLITE_LOCKED), Class::Transient),
            (failure(ffi::SQLITE_FULL), Class::Overloaded),
            (failure(ffi::SQLITE_IOERR), Class::Unavailable),
            (failure(ffi::SQLITE_CANTOPEN), Class::Unavailable),
            (failure(ffi::SQLITE_CORRUPT), Class::Corrupt),
            (failure(ffi::SQLITE_NOTADB), Class::Corrupt),
            (failure(ffi::SQLITE_TOOBIG), Class::InvalidInput),
            (failure(ffi::SQLITE_READONLY), Class::Permanent),
            (failure(ffi::SQLITE_CONSTRAINT), Class::Permanent),
            (
                rusqlite::Error::IntegralValueOutOfRange(0, -1),
                Class::Corrupt,
            ),
        ] {
            let error = EngineError::of(error);
            assert_eq!(error.class(), expected, "{error}");
            assert_eq!(error.effect(), Effect::NotDone);
        }
    }
}
