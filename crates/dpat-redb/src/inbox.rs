//! An inbox in a redb database: markers in the transaction of the effect.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::inbox::{self, AcceptError, Accepted, Markers};
use dpat_idempotency::{Fingerprint, Key};
use redb::{
    Database, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};

use crate::config::Config;
use crate::error::{EngineError, OpenError, commit};
use crate::schema;

/// The number of markers unless told otherwise: 10 000 000.
pub const MARKERS_MAX: u64 = 10_000_000;

/// An inbox in a redb database. Clones share it.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, SystemClock};
/// use dpat_idempotency::{Fingerprint, Key};
/// use dpat_redb::redb::{Database, TableDefinition, backends::InMemoryBackend};
/// use dpat_redb::{Config, Inbox, commit};
/// use std::sync::Arc;
///
/// const PARCELS: TableDefinition<'_, &str, u64> = TableDefinition::new("parcels");
///
/// let database = Arc::new(Database::builder().create_with_backend(InMemoryBackend::new())?);
/// let inbox = Inbox::open(&database, &Config::new("inbox")?)?;
/// let key = Key::new("shipping", "order-7")?;
/// let mut parcels = 0;
/// for _delivery in 0..2 {
///     let tx = database.begin_write()?;
///     let now = SystemClock.wall();
///     inbox.accept(&tx, &key, Fingerprint::NONE, now, |tx| {
///         tx.open_table(PARCELS)?.insert("order-7", 1)?; // the effect
///         parcels += 1;
///         Ok::<_, dpat_redb::redb::Error>("label 1".into())
///     })?;
///     commit(tx)?; // marker and effect, or neither
/// }
/// assert_eq!(parcels, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Inbox {
    names: Arc<Names>,
}

#[derive(Debug)]
struct Names {
    meta: String,
    markers: String,
    times: String,
    markers_max: u64,
}

type MarkerTable<'t> = Table<'t, &'static [u8], (u64, &'static [u8])>;
type TimeTable<'t> = Table<'t, (u64, &'static [u8]), ()>;

/// The inbox within a transaction, its tables open.
///
/// [`dpat_idempotency::inbox::accept`] and [`cancel`](dpat_idempotency::inbox::cancel) work on it. After an error roll the
/// transaction back.
pub struct InboxTx<'t> {
    tx: &'t WriteTransaction,
    names: &'t Names,
    markers: MarkerTable<'t>,
    times: TimeTable<'t>,
}

impl Inbox {
    /// Opens the inbox of this prefix, and makes its tables if there are none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(database: &Database, config: &Config) -> Result<Self, OpenError> {
        Self::with_limit(database, config, MARKERS_MAX)
    }

    /// Opens the inbox, which refuses new messages above so many markers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn with_limit(
        database: &Database,
        config: &Config,
        markers_max: u64,
    ) -> Result<Self, OpenError> {
        let inbox = Self {
            names: Arc::new(Names {
                meta: config.table("meta"),
                markers: config.table("markers"),
                times: config.table("times"),
                markers_max,
            }),
        };
        schema::open(database, &inbox.names.meta, |tx| inbox.within(tx).map(drop))?;
        Ok(inbox)
    }

    /// Opens the tables of the inbox within a transaction of the same database.
    ///
    /// # Errors
    /// [`EngineError`], also while they are open in the same transaction already.
    pub fn within<'t>(&'t self, tx: &'t WriteTransaction) -> Result<InboxTx<'t>, EngineError> {
        Ok(InboxTx {
            tx,
            names: &self.names,
            markers: tx
                .open_table(TableDefinition::new(&self.names.markers))
                .map_err(EngineError::of)?,
            times: tx
                .open_table(TableDefinition::new(&self.names.times))
                .map_err(EngineError::of)?,
        })
    }

    /// Lets a message take effect unless it did before or was cancelled.
    ///
    /// `effect` works on the same transaction; its outcome is remembered, and returned to whoever sends the message again.
    ///
    /// # Errors
    /// [`AcceptError`]. The transaction may hold parts of the effect: roll it back.
    pub fn accept<E>(
        &self,
        tx: &WriteTransaction,
        key: &Key,
        fingerprint: Fingerprint,
        now: Wall,
        effect: impl FnOnce(&WriteTransaction) -> Result<Bytes, E>,
    ) -> Result<Accepted, AcceptError<EngineError, E>> {
        let mut within = self.within(tx).map_err(AcceptError::Store)?;
        inbox::accept(&mut within, key, fingerprint, now, |within| {
            effect(within.transaction())
        })
    }

    /// Cancels a message: undoes its effect if it had one, and refuses it from now on.
    ///
    /// # Errors
    /// [`AcceptError`]. The transaction may hold parts of the undoing: roll it back.
    pub fn cancel<E>(
        &self,
        tx: &WriteTransaction,
        key: &Key,
        now: Wall,
        undo: impl FnOnce(&WriteTransaction, &Bytes) -> Result<(), E>,
    ) -> Result<inbox::Undo, AcceptError<EngineError, E>> {
        let mut within = self.within(tx).map_err(AcceptError::Store)?;
        inbox::cancel(&mut within, key, now, |within, outcome| {
            undo(within.transaction(), outcome)
        })
    }

    /// Forgets up to `max` markers that were written before `before`, in a transaction of its own; returns how many.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn sweep(
        &self,
        database: &Database,
        before: Wall,
        max: usize,
    ) -> Result<usize, EngineError> {
        let tx = database.begin_write().map_err(EngineError::of)?;
        let swept = self.within(&tx)?.sweep(before, max)?;
        if swept > 0 {
            commit(tx)?;
        }
        Ok(swept)
    }
}

impl<'t> InboxTx<'t> {
    /// Returns the transaction, for the effect.
    #[must_use]
    pub fn transaction(&self) -> &'t WriteTransaction {
        self.tx
    }

    /// Forgets up to `max` markers that were written before `before`, oldest first; returns how many.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn sweep(&mut self, before: Wall, max: usize) -> Result<usize, EngineError> {
        let old = self.times.range(..(before.as_nanos(), &[][..]));
        let mut found = Vec::new();
        for entry in old.map_err(EngineError::of)?.take(max) {
            let key = entry.map_err(EngineError::of)?.0;
            let (at, key) = key.value();
            found.push((at, key.to_vec()));
        }
        for (at, key) in &found {
            self.times
                .remove((*at, &key[..]))
                .map_err(EngineError::of)?;
            self.markers.remove(&key[..]).map_err(EngineError::of)?;
        }
        Ok(found.len())
    }
}

impl fmt::Debug for InboxTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxTx")
            .field("markers", &self.names.markers)
            .finish_non_exhaustive()
    }
}

impl Markers for InboxTx<'_> {
    type Error = EngineError;

    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, EngineError> {
        let marker = self.markers.get(key.as_bytes()).map_err(EngineError::of)?;
        Ok(marker.map(|marker| Bytes::copy_from_slice(marker.value().1)))
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), EngineError> {
        let at = at.as_nanos();
        let value = (at, &marker[..]);
        let old = self
            .markers
            .insert(key.as_bytes(), value)
            .map_err(EngineError::of)?
            .map(|old| old.value().0);
        match old {
            Some(old) => {
                self.times
                    .remove((old, key.as_bytes()))
                    .map_err(EngineError::of)?;
            }
            None => {
                let limit = self.names.markers_max;
                if self.markers.len().map_err(EngineError::of)? > limit {
                    return Err(EngineError::full("markers", limit));
                }
            }
        }
        self.times
            .insert((at, key.as_bytes()), ())
            .map_err(EngineError::of)?;
        Ok(())
    }
}
