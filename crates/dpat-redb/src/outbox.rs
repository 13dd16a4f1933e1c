//! An outbox in a redb database.

mod lanes;
mod rows;
mod store;
mod tables;

use std::fmt;
use std::sync::Arc;

use dpat_core::Wall;
use dpat_outbox::{
    AppendError, Appended, Event, Lag, Limits, Parked, Position, RowState, Signal, Ticket,
};
use redb::{Database, ReadableDatabase, WriteTransaction};

use crate::config::{Config, Threads};
use crate::error::{EngineError, OpenError, commit};
pub use rows::OutboxTx;
use tables::Names;

/// An outbox in a redb database: appends in your transactions, and a [`Store`](dpat_outbox::Store) for relays. Clones
/// share it.
///
/// A database has one writer at a time, so transactions do not overlap: positions are drawn in the order of the commits.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, SystemClock, SystemEntropy, Uuid7Generator};
/// use dpat_outbox::{Event, Limits};
/// use dpat_redb::redb::{Database, TableDefinition, backends::InMemoryBackend};
/// use dpat_redb::{Config, Outbox};
/// use std::sync::Arc;
///
/// const ORDERS: TableDefinition<'_, &str, &str> = TableDefinition::new("orders");
/// static IDS: Uuid7Generator = Uuid7Generator::new();
///
/// let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
/// let database = Arc::new(database); // or `Database::create("shop.redb")`
/// let outbox = Outbox::open(Arc::clone(&database), Config::new("outbox")?, Limits::DEFAULT)?;
///
/// let now = SystemClock.wall();
/// let event = Event::builder(IDS.next(now, &SystemEntropy)?, "orders.completed").build()?;
/// let tx = database.begin_write()?;
/// tx.open_table(ORDERS)?.insert("order-7", "completed")?; // the change
/// outbox.append(&tx, &event, now)?; // and what is told of it
/// outbox.commit(tx)?; // both, or neither
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    database: Arc<Database>,
    names: Names,
    limits: Limits,
    threads: Threads,
    signal: Signal,
}

impl Outbox {
    /// Opens the outbox of this prefix, and makes its tables if there are none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        database: Arc<Database>,
        config: Config,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let names = Names::of(&config);
        crate::schema::open(&database, &names.meta, |tx| names.open(tx).map(drop))?;
        Ok(Self {
            shared: Arc::new(Shared {
                database,
                names,
                limits,
                threads: config.threads,
                signal: Signal::new(),
            }),
        })
    }

    /// Adds an event to your transaction; relays see it once the transaction is committed.
    ///
    /// The tables of the outbox are opened and closed again. To append many events, open them once by
    /// [`within`](Self::within).
    ///
    /// # Errors
    /// [`AppendError`]. Roll the transaction back, or go on without the event.
    pub fn append(
        &self,
        tx: &WriteTransaction,
        event: &Event,
        now: Wall,
    ) -> Result<Appended, AppendError> {
        self.within(tx)?.append(event, now)
    }

    /// Opens the tables of the outbox within a transaction of the same database.
    ///
    /// # Errors
    /// [`EngineError`], also while they are open in the same transaction already.
    pub fn within<'t>(&'t self, tx: &'t WriteTransaction) -> Result<OutboxTx<'t>, EngineError> {
        let Shared { names, limits, .. } = &*self.shared;
        Ok(OutboxTx::new(names.open(tx)?, *limits))
    }

    /// Commits a transaction and tells the relays of this process.
    ///
    /// # Errors
    /// [`EngineError`] with `Effect::Unknown`.
    pub fn commit(&self, tx: WriteTransaction) -> Result<(), EngineError> {
        commit(tx)?;
        self.notify();
        Ok(())
    }

    /// Tells the relays of this process to look, after a transaction was committed otherwise.
    ///
    /// Without it they look by the clock (`RelayConfig::poll`).
    pub fn notify(&self) {
        self.shared.signal.notify();
    }

    /// Returns what [`Store::wait`](dpat_outbox::Store::wait) takes; to be asked for before looking.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.shared.signal.ticket()
    }

    /// Returns from when on something can be claimed, as far as it is committed; none: not before something changes.
    ///
    /// Waits for no writer.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn next_due(&self) -> Result<Option<Wall>, EngineError> {
        let snapshot = self.shared.names.read(&self.snapshot()?)?;
        snapshot.next_due()
    }

    /// Returns how far the relays are behind, as far as it is committed. Waits for no writer.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn lag_now(&self) -> Result<Lag, EngineError> {
        self.shared.names.read(&self.snapshot()?)?.lag()
    }

    /// Returns up to `max` events that were given up, from the first behind `after`. Waits for no writer.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn parked_now(
        &self,
        after: Option<Position>,
        max: usize,
    ) -> Result<Vec<Parked>, EngineError> {
        let snapshot = self.shared.names.read(&self.snapshot()?)?;
        snapshot.parked(after, max)
    }

    /// Returns up to `max` events with where they stand, from the first behind `after`. Waits for no writer.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn rows_now(
        &self,
        after: Option<Position>,
        max: usize,
    ) -> Result<Vec<(Position, Event, RowState)>, EngineError> {
        let snapshot = self.shared.names.read(&self.snapshot()?)?;
        snapshot.rows(after, max)
    }

    fn snapshot(&self) -> Result<redb::ReadTransaction, EngineError> {
        self.shared.database.begin_read().map_err(EngineError::of)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("meta", &self.shared.names.meta)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
