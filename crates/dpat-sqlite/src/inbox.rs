//! An inbox in a SQLite database: markers in the transaction of the effect.

#[cfg(feature = "sqlx")]
mod in_sqlx;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::inbox::{self, AcceptError, Accepted, Markers};
use dpat_idempotency::{Fingerprint, Key};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::config::Config;
use crate::error::{EngineError, OpenError, commit};
use crate::schema;
use crate::sql::{self, Part, nanos, number};

/// The number of markers unless told otherwise: 10 000 000.
pub const MARKERS_MAX: u64 = 10_000_000;

/// An inbox in a SQLite database. Clones share it.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, SystemClock};
/// use dpat_idempotency::{Fingerprint, Key};
/// use dpat_sqlite::{Config, Inbox, commit};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shipping.db");
/// let config = Config::new(path, "shipping")?;
/// let mut connection = config.connect()?;
/// connection.execute("CREATE TABLE parcels (id TEXT)", [])?;
///
/// let inbox = Inbox::open(&connection, &config)?;
/// let key = Key::new("shipping", "order-7")?;
/// for _delivery in 0..2 {
///     let tx = connection.transaction()?;
///     let now = SystemClock.wall();
///     inbox.accept(&tx, &key, Fingerprint::NONE, now, |tx| {
///         tx.execute("INSERT INTO parcels VALUES ('order-7')", [])?; // the effect
///         Ok::<_, dpat_sqlite::rusqlite::Error>("label 1".into())
///     })?;
///     commit(tx)?; // marker and effect, or neither
/// }
/// let parcels: i64 = connection.query_row("SELECT count(*) FROM parcels", [], |row| row.get(0))?;
/// assert_eq!(parcels, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    marker: String,
    set_marker: String,
    sweep: String,
    table: String,
    markers_max: u64,
}

/// The inbox within a transaction.
///
/// [`dpat_idempotency::inbox::accept`] and [`cancel`](dpat_idempotency::inbox::cancel) work on it. After an error roll the
/// transaction back.
pub struct InboxTx<'t> {
    tx: &'t Transaction<'t>,
    shared: &'t Shared,
}

impl Inbox {
    /// Opens the inbox of this prefix on your connection.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(connection: &Connection, config: &Config) -> Result<Self, OpenError> {
        Self::with_limit(connection, config, MARKERS_MAX)
    }

    /// Opens the inbox, which refuses new messages above so many markers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn with_limit(
        connection: &Connection,
        config: &Config,
        markers_max: u64,
    ) -> Result<Self, OpenError> {
        schema::open(connection, config, Part::Inbox)?;
        Ok(Self {
            shared: Arc::new(Shared {
                marker: config.sql(sql::MARKER),
                set_marker: config.sql(sql::SET_MARKER),
                sweep: config.sql(sql::SWEEP),
                table: config.sql("{prefix}_markers"),
                markers_max,
            }),
        })
    }

    /// Returns the inbox within a transaction on the same file, on any connection.
    #[must_use]
    pub fn within<'t>(&'t self, tx: &'t Transaction<'_>) -> InboxTx<'t> {
        InboxTx {
            tx,
            shared: &self.shared,
        }
    }

    /// Lets a message take effect unless it did before or was cancelled.
    ///
    /// `effect` works on the same transaction; its outcome is remembered, and returned to whoever sends the message again.
    ///
    /// # Errors
    /// [`AcceptError`]. The transaction may hold parts of the effect: roll it back.
    pub fn accept<E>(
        &self,
        tx: &Transaction<'_>,
        key: &Key,
        fingerprint: Fingerprint,
        now: Wall,
        effect: impl FnOnce(&Transaction<'_>) -> Result<Bytes, E>,
    ) -> Result<Accepted, AcceptError<EngineError, E>> {
        inbox::accept(&mut self.within(tx), key, fingerprint, now, |within| {
            effect(within.transaction())
        })
    }

    /// Cancels a message: undoes its effect if it had one, and refuses it from now on.
    ///
    /// # Errors
    /// [`AcceptError`]. The transaction may hold parts of the undoing: roll it back.
    pub fn cancel<E>(
        &self,
        tx: &Transaction<'_>,
        key: &Key,
        now: Wall,
        undo: impl FnOnce(&Transaction<'_>, &Bytes) -> Result<(), E>,
    ) -> Result<inbox::Undo, AcceptError<EngineError, E>> {
        inbox::cancel(&mut self.within(tx), key, now, |within, outcome| {
            undo(within.transaction(), outcome)
        })
    }

    /// Forgets up to `max` markers that were written before `before`, in a transaction of its own; returns how many.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn sweep(
        &self,
        connection: &mut Connection,
        before: Wall,
        max: usize,
    ) -> Result<usize, EngineError> {
        let tx = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(EngineError::of)?;
        let swept = self.within(&tx).sweep(before, max)?;
        if swept > 0 {
            commit(tx)?;
        }
        Ok(swept)
    }
}

impl<'t> InboxTx<'t> {
    /// Returns the transaction, for the effect.
    #[must_use]
    pub fn transaction(&self) -> &'t Transaction<'t> {
        self.tx
    }

    /// Forgets up to `max` markers that were written before `before`, oldest first; returns how many.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn sweep(&mut self, before: Wall, max: usize) -> Result<usize, EngineError> {
        let max = number(max as u64);
        let mut statement = self
            .tx
            .prepare_cached(&self.shared.sweep)
            .map_err(EngineError::of)?;
        statement
            .execute(params![nanos(before), max])
            .map_err(EngineError::of)
    }
}

impl fmt::Debug for InboxTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxTx")
            .field("table", &self.shared.table)
            .finish_non_exhaustive()
    }
}

impl Markers for InboxTx<'_> {
    type Error = EngineError;

    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, EngineError> {
        let mut statement = self
            .tx
            .prepare_cached(&self.shared.marker)
            .map_err(EngineError::of)?;
        let marker: Option<Vec<u8>> = statement
            .query_row([key.scope(), key.id()], |row| row.get(0))
            .optional()
            .map_err(EngineError::of)?;
        Ok(marker.map(Bytes::from))
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), EngineError> {
        let limit = self.shared.markers_max;
        let mut statement = self
            .tx
            .prepare_cached(&self.shared.set_marker)
            .map_err(EngineError::of)?;
        let written = statement
            .execute(params![
                key.scope(),
                key.id(),
                nanos(at),
                &marker[..],
                number(limit),
            ])
            .map_err(EngineError::of)?;
        match written {
            0 => Err(EngineError::full("markers", limit)),
            _ => Ok(()),
        }
    }
}
