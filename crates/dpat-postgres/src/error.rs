//! What PostgreSQL refuses, with its class and its effect.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Class, Classify, Effect};

use crate::config::ConfigError;

/// A failure of the database or of the way to it, or a row that cannot be read.
#[derive(Clone, Debug)]
pub struct EngineError {
    class: Class,
    effect: Effect,
    code: Option<Box<str>>,
    what: Box<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl EngineError {
    fn new(class: Class, effect: Effect, what: impl Into<Box<str>>) -> Self {
        Self {
            class,
            effect,
            code: None,
            what: what.into(),
            source: None,
        }
    }

    /// Takes the error of a statement: once the transaction is rolled back, nothing has happened.
    ///
    /// For effects of your own. Not for the error of a commit: `commit` knows that it may be done.
    #[must_use]
    pub fn of(error: tokio_postgres::Error) -> Self {
        Self::with_effect(error, Effect::NotDone)
    }

    fn with_effect(error: tokio_postgres::Error, effect: Effect) -> Self {
        let (class, code, what) = match error.as_db_error() {
            Some(refusal) => {
                let code = refusal.code().code();
                let (class, advice) = meaning(code);
                let what = match advice {
                    None => format!("{} ({code})", refusal.message()),
                    Some(advice) => format!("{} ({code}): {advice}", refusal.message()),
                };
                (class, Some(code.into()), what)
            }
            None => {
                let why = error.source().map(ToString::to_string);
                let what = match why {
                    Some(why) => format!("{error}: {why}"),
                    None => error.to_string(),
                };
                let unreadable = what.contains("deserializing") || what.contains("serializing");
                let class = match unreadable {
                    true => Class::Corrupt,
                    false => Class::Unavailable,
                };
                (class, None, what)
            }
        };
        Self {
            class,
            effect,
            code,
            what: what.into(),
            source: Some(Arc::new(error)),
        }
    }

    /// [`of`](Self::of) for an error of sqlx.
    #[cfg(feature = "sqlx")]
    #[must_use]
    pub fn of_sqlx(error: sqlx::Error) -> Self {
        Self::sqlx_with_effect(error, Effect::NotDone)
    }

    /// The error of a commit by sqlx: only what the server refused is surely not done.
    #[cfg(feature = "sqlx")]
    pub(crate) fn committing_sqlx(error: sqlx::Error) -> Self {
        let refusal = error.as_database_error();
        let code = refusal.and_then(|refusal| refusal.code());
        let effect = commit_effect(code.as_deref());
        Self::sqlx_with_effect(error, effect)
    }

    #[cfg(feature = "sqlx")]
    fn sqlx_with_effect(error: sqlx::Error, effect: Effect) -> Self {
        let (class, code, what) = match error.as_database_error() {
            Some(refusal) => {
                let code = refusal.code().unwrap_or_default();
                let (class, advice) = meaning(&code);
                let what = match advice {
                    None => format!("{} ({code})", refusal.message()),
                    Some(advice) => format!("{} ({code}): {advice}", refusal.message()),
                };
                (class, Some(code.as_ref().into()), what)
            }
            None => {
                let class = match &error {
                    sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Class::Corrupt,
                    sqlx::Error::PoolTimedOut => Class::Overloaded,
                    _ => Class::Unavailable,
                };
                (class, None, error.to_string())
            }
        };
        Self {
            class,
            effect,
            code,
            what: what.into(),
            source: Some(Arc::new(error)),
        }
    }

    /// The error of a connection that was not made.
    pub(crate) fn connecting(address: &str, error: tokio_postgres::Error) -> Self {
        let mut failed = Self::of(error);
        failed.what = format!("{address}: {}", failed.what).into();
        failed
    }

    /// The error of a commit: only what the server refused is surely not done.
    pub(crate) fn committing(error: tokio_postgres::Error) -> Self {
        let code = error.code().map(|code| code.code().to_owned());
        Self::with_effect(error, commit_effect(code.as_deref()))
    }

    /// The error of a statement that commits by itself.
    pub(crate) fn changing(error: tokio_postgres::Error) -> Self {
        match error.code().map(|code| code.code()) {
            // Ended before its end.
            Some("57014") => Self::of(error),
            _ => Self::committing(error),
        }
    }

    pub(crate) fn timeout(address: &str, timeout: Duration, effect: Effect) -> Self {
        let what = format!("{address}: no answer within `timeout` {timeout:?}");
        Self::new(Class::Timeout, effect, what)
    }

    pub(crate) fn not_connected(address: &str, timeout: Duration) -> Self {
        let what = format!("{address}: no connection within {timeout:?}: is the server up?");
        Self::new(Class::Unavailable, Effect::NotDone, what)
    }

    pub(crate) fn busy(address: &str, connections: usize) -> Self {
        let what = format!(
            "{address}: all {connections} connections were in use until the deadline: raise `connections`, or ask less at once"
        );
        Self::new(Class::Overloaded, Effect::NotDone, what)
    }

    /// No room.
    #[cfg(any(feature = "idempotency", feature = "queue"))]
    pub(crate) fn full(field: &str, limit: u64) -> Self {
        let what = format!("{field}: the limit of {limit} is reached");
        Self::new(Class::Overloaded, Effect::NotDone, what)
    }

    /// A row that does not decode.
    pub(crate) fn corrupt(
        table: impl fmt::Display,
        row: impl fmt::Display,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        let what = format!("table {table}: row {row} does not decode: {error}");
        let mut corrupt = Self::new(Class::Corrupt, Effect::NotDone, what);
        corrupt.source = Some(Arc::new(error));
        corrupt
    }

    /// Tables that do not fit together.
    pub(crate) fn inconsistent(
        table: impl fmt::Display,
        row: impl fmt::Display,
        what: &str,
    ) -> Self {
        let what = format!("table {table}: row {row}: {what}");
        Self::new(Class::Corrupt, Effect::NotDone, what)
    }

    /// Others remember and forget the same deduplication key all the time.
    #[cfg(feature = "queue")]
    pub(crate) fn contended(table: &str) -> Self {
        let what = format!(
            "{table}: others remember and forget this deduplication key at the same time; send again"
        );
        Self::new(Class::Transient, Effect::NotDone, what)
    }

    /// A column that is not what the statement returns.
    pub(crate) fn column(at: usize) -> Self {
        let what = format!("column {at} is not what it should be: are the tables those of dpat?");
        Self::new(Class::Corrupt, Effect::NotDone, what)
    }

    /// Returns the SQLSTATE, if the server refused.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// What a commit did that failed: a refusal that rolls back is one; after anything else nobody knows.
fn commit_effect(code: Option<&str>) -> Effect {
    match code.and_then(|code| code.get(..2)) {
        // The connection, the operator, the machine, a bug: it may have been after the commit.
        None | Some("08" | "57" | "58" | "F0" | "XX") => Effect::Unknown,
        Some(_) if code == Some("40003") => Effect::Unknown,
        Some(_) => Effect::NotDone,
    }
}

/// What repeating can cure, and what to do.
fn meaning(code: &str) -> (Class, Option<&'static str>) {
    match code {
        "40001" | "40P01" => (
            Class::Transient,
            Some("others changed the same: do it again"),
        ),
        "55P03" | "57014" => (
            Class::Timeout,
            Some("it took longer than `timeout`, or waited for a lock: do it again, or raise it"),
        ),
        "25P03" | "25P04" => (Class::Timeout, Some("do it again")),
        "28P01" | "28000" => (
            Class::Permanent,
            Some("the login is refused: check user and password in `url`, and pg_hba.conf"),
        ),
        "3D000" => (
            Class::Permanent,
            Some("check the database in `url`, or create it"),
        ),
        "3F000" => (
            Class::Permanent,
            Some("check `schema`, or create it: CREATE SCHEMA"),
        ),
        "42501" => (
            Class::Permanent,
            Some("grant the user of `url` what the guide lists (GRANT)"),
        ),
        "42P01" => (
            Class::Permanent,
            Some("check `schema` and `prefix`, or make the tables: run `migrate`"),
        ),
        "42703" | "42883" | "42704" => (
            Class::Permanent,
            Some("the tables are not those of this version: run `migrate`"),
        ),
        "26000" => (
            Class::Permanent,
            Some(
                "the statements are of another connection: keep one `Prepared` for each, and none behind a pooler",
            ),
        ),
        "25006" => (
            Class::Unavailable,
            Some("`url` names a standby: name its primary"),
        ),
        "53300" => (
            Class::Overloaded,
            Some(
                "the server has no connection left: lower `connections`, or raise its `max_connections`",
            ),
        ),
        "53100" => (Class::Overloaded, Some("the disk of the server is full")),
        "54000" => (Class::InvalidInput, Some("it is too large")),
        "57P01" | "57P02" | "57P03" => (
            Class::Unavailable,
            Some("the server stops or starts: do it again"),
        ),
        "XX001" | "XX002" => (Class::Corrupt, None),
        _ => (by_family(code.get(..2).unwrap_or_default()), None),
    }
}

fn by_family(family: &str) -> Class {
    match family {
        "08" | "57" | "58" => Class::Unavailable,
        "53" => Class::Overloaded,
        "40" => Class::Transient,
        "22" | "54" => Class::InvalidInput,
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

    /// Nothing was changed, unless the commit itself got no answer.
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

#[cfg(feature = "queue")]
impl From<EngineError> for dpat_queue::BackendError {
    fn from(error: EngineError) -> Self {
        Self::new(error.class, error.effect, error)
    }
}

/// Why something was not opened.
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
    /// The server is too old.
    #[error("{address}: PostgreSQL {found} is too old: take 12 or later")]
    OldServer {
        /// The server.
        address: String,
        /// Its version.
        found: String,
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
        "{table}: {part} is at version {found} of {expected}: run your migrations, or `migrate`"
    )]
    Outdated {
        /// The table that says so.
        table: String,
        /// Whose tables.
        part: &'static str,
        /// Their version; 0: there are none.
        found: i64,
        /// The version that is expected.
        expected: i64,
    },
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            #[cfg(feature = "queue")]
            Self::Queue(error) => error.class(),
            Self::OldServer { .. } | Self::NewerSchema { .. } | Self::Outdated { .. } => {
                Class::Permanent
            }
            Self::Engine(error) => error.class(),
        }
    }

    /// Of the tables: they may have been made.
    fn effect(&self) -> Effect {
        match self {
            Self::Engine(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// Commits a transaction, and says by the effect of an error whether it may be committed all the same.
///
/// The same as [`tokio_postgres::Transaction::commit`] with an error that retry and relay understand.
///
/// # Errors
/// [`EngineError`]. What the server rolls back is not done; after a connection that broke nobody knows: look.
///
/// # Cancel safety
/// Once polled it may be committed.
#[cfg(feature = "tokio-postgres")]
pub async fn commit(tx: tokio_postgres::Transaction<'_>) -> Result<(), EngineError> {
    tx.commit().await.map_err(EngineError::committing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_say_what_cures() {
        for (code, expected) in [
            ("40001", Class::Transient),
            ("40P01", Class::Transient),
            ("55P03", Class::Timeout),
            ("57014", Class::Timeout),
            ("28P01", Class::Permanent),
            ("42501", Class::Permanent),
            ("42P01", Class::Permanent),
            ("23505", Class::Permanent),
            ("25006", Class::Unavailable),
            ("57P01", Class::Unavailable),
            ("08006", Class::Unavailable),
            ("53300", Class::Overloaded),
            ("53200", Class::Overloaded),
            ("22021", Class::InvalidInput),
            ("54001", Class::InvalidInput),
            ("XX001", Class::Corrupt),
        ] {
            assert_eq!(meaning(code).0, expected, "{code}");
        }
    }

    #[test]
    fn a_commit_that_got_no_answer_is_unknown() {
        assert_eq!(commit_effect(None), Effect::Unknown);
        for (code, expected) in [
            ("40001", Effect::NotDone),
            ("23503", Effect::NotDone),
            ("42P01", Effect::NotDone),
            ("40003", Effect::Unknown),
            ("57P01", Effect::Unknown),
            ("08006", Effect::Unknown),
        ] {
            assert_eq!(commit_effect(Some(code)), expected, "{code}");
        }
    }
}
