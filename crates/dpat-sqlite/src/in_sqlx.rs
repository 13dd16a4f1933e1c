//! Transactions of sqlx.

use sqlx::query::Query;
use sqlx::sqlite::{
    Sqlite, SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Decode, Row, Type};

use crate::config::Config;
use crate::error::EngineError;

/// A transaction of the caller.
pub(crate) type Tx<'c> = sqlx::Transaction<'c, Sqlite>;

/// A statement and its parameters.
pub(crate) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

impl Config {
    /// Returns the options for connections of sqlx: as those that [`Config::connect`] opens.
    ///
    /// Write-ahead log, `synchronous = FULL`, foreign keys, the busy timeout; the file is made if there is none.
    ///
    /// # Examples
    /// ```no_run
    /// use dpat_sqlite::Config;
    /// use dpat_sqlite::sqlx::SqlitePool;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::new("shop.db", "orders")?;
    /// let pool = SqlitePool::connect_with(config.sqlx_options()).await?;
    /// // The right to write at once: one that reads first may find that another was faster.
    /// let tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    /// # tx.rollback().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn sqlx_options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(self.busy_timeout)
            .foreign_keys(true)
    }
}

/// Commits a transaction of sqlx, as [`commit`](crate::commit) does one of rusqlite.
///
/// The same as [`sqlx::Transaction::commit`] with an error that retry and relay understand.
///
/// # Errors
/// [`EngineError`]. What was refused because others write, or by a constraint, is not done; after any other failure nobody
/// knows: look.
///
/// # Cancel safety
/// Once polled it may be committed: look.
pub async fn commit_sqlx(tx: sqlx::Transaction<'_, Sqlite>) -> Result<(), EngineError> {
    tx.commit().await.map_err(EngineError::committing_sqlx)
}

/// Begins a statement. The texts are ours, and the prefix in them was checked.
pub(crate) fn statement<'q>(text: &str) -> Statement<'q> {
    sqlx::query(AssertSqlSafe(text.to_owned()))
}

/// Runs a statement to its end; returns how many rows it changed.
#[cfg(any(feature = "idempotency", feature = "queue"))]
pub(crate) async fn execute(tx: &mut Tx<'_>, statement: Statement<'_>) -> Result<u64, EngineError> {
    let done = statement.execute(&mut **tx).await;
    Ok(done.map_err(EngineError::of_sqlx)?.rows_affected())
}

/// Runs a statement to its end; returns its first row.
pub(crate) async fn find(
    tx: &mut Tx<'_>,
    statement: Statement<'_>,
) -> Result<Option<SqliteRow>, EngineError> {
    // All of them: a statement that is left in the middle may not have failed yet.
    let rows = statement.fetch_all(&mut **tx).await;
    Ok(rows.map_err(EngineError::of_sqlx)?.into_iter().next())
}

/// Reads a column.
pub(crate) fn column<'r, T>(row: &'r SqliteRow, at: usize) -> Result<T, EngineError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(at).map_err(EngineError::of_sqlx)
}
