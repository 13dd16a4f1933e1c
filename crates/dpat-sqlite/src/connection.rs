//! Connections: of the callers, and the one that a store has for itself.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::config::{Config, Threads};
use crate::error::{EngineError, OpenError, commit};
use crate::sync::Mutex;

/// Room for all statements of a part, and some of the caller's.
const STATEMENTS: usize = 64;

impl Config {
    /// Opens a connection to the file, which is made if there is none: write-ahead log, `synchronous = FULL`, and the busy
    /// timeout.
    ///
    /// # Errors
    /// [`OpenError::Path`], [`OpenError::NotWal`], [`OpenError::Engine`].
    pub fn connect(&self) -> Result<Connection, OpenError> {
        let connection = Connection::open(&self.path).map_err(|error| OpenError::Path {
            path: self.path.clone(),
            error: EngineError::of(error),
        })?;
        connection
            .busy_timeout(self.busy_timeout)
            .map_err(EngineError::of)?;
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .map_err(|error| OpenError::Path {
                path: self.path.clone(),
                error: EngineError::of(error),
            })?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(OpenError::NotWal {
                path: self.path.clone(),
                mode,
            });
        }
        connection
            .pragma_update(None, "synchronous", "full")
            .map_err(EngineError::of)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }
}

/// The connection of a store, one transaction at a time.
pub(crate) struct Own {
    connection: Mutex<Connection>,
    pub(crate) threads: Threads,
}

impl Own {
    pub(crate) const fn new(connection: Connection, threads: Threads) -> Self {
        Self {
            connection: Mutex::new(connection),
            threads,
        }
    }

    /// Looks at one moment, without waiting for a writer of another connection.
    pub(crate) fn read<R>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        self.connection.with(|connection| {
            let tx = connection.transaction().map_err(EngineError::of)?;
            work(&tx)
        })
    }

    /// Works in a transaction; commits it unless `changed` says that there is nothing to commit.
    pub(crate) fn write<R>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, EngineError>,
        changed: impl FnOnce(&R) -> bool,
    ) -> Result<R, EngineError> {
        self.connection.with(|connection| {
            // The right to write at once: one that is upgraded later may find that another was faster.
            let tx = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(EngineError::of)?;
            let result = work(&tx)?;
            if changed(&result) {
                commit(tx)?;
            }
            Ok(result)
        })
    }
}

/// Runs `work`; a future that is dropped meanwhile leaves it running to its end.
pub(crate) async fn run<T: Send + 'static>(
    threads: Threads,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match threads {
        Threads::Caller => work(),
        #[cfg(feature = "tokio")]
        Threads::TokioBlocking => match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(EngineError::abandoned(error)),
        },
    }
}
