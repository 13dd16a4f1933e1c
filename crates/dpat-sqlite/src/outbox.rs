//! An outbox in a SQLite database.

#[cfg(feature = "sqlx")]
mod in_sqlx;
#[cfg(test)]
mod plans;
mod row;
mod rows;
mod statements;
mod store;

use std::fmt;
use std::sync::Arc;

use dpat_core::Wall;
use dpat_outbox::{AppendError, Appended, Event, Lag, Limits, Parked, Position, Signal, Ticket};
use rusqlite::Transaction;

use crate::config::Config;
use crate::connection::Own;
use crate::error::{EngineError, OpenError, commit};
use crate::schema;
use crate::sql::Part;
pub use rows::OutboxTx;
use statements::Statements;

/// An outbox in a SQLite database: appends in your transactions, and a [`Store`](dpat_outbox::Store) for relays. Clones
/// share it.
///
/// The store has a connection of its own. A database has one writer at a time, so writing transactions do not overlap:
/// positions are drawn in the order of the commits.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, SystemClock, SystemEntropy, Uuid7Generator};
/// use dpat_outbox::{Event, Limits};
/// use dpat_sqlite::{Config, Outbox};
///
/// static IDS: Uuid7Generator = Uuid7Generator::new();
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
/// let config = Config::new(path, "orders")?;
/// let outbox = Outbox::open(&config, Limits::DEFAULT)?;
/// let mut connection = config.connect()?;
/// connection.execute("CREATE TABLE own (id TEXT, state TEXT)", [])?;
///
/// let now = SystemClock.wall();
/// let event = Event::builder(IDS.next(now, &SystemEntropy)?, "orders.completed").build()?;
/// let tx = connection.transaction()?;
/// tx.execute("INSERT INTO own VALUES ('order-7', 'completed')", [])?; // the change
/// outbox.append(&tx, &event, now)?; // and what is told of it
/// outbox.commit(tx)?; // both, or neither
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    own: Own,
    statements: Statements,
    limits: Limits,
    signal: Signal,
}

impl Outbox {
    /// Opens the outbox of this file and prefix.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: &Config, limits: Limits) -> Result<Self, OpenError> {
        let connection = config.connect()?;
        schema::open(&connection, config, Part::Outbox)?;
        Ok(Self {
            shared: Arc::new(Shared {
                own: Own::new(connection, config.threads),
                statements: Statements::of(config),
                limits,
                signal: Signal::new(),
            }),
        })
    }

    /// Adds an event to your transaction; relays see it once the transaction is committed.
    ///
    /// One statement: after an error nothing of it is in the transaction.
    ///
    /// # Errors
    /// [`AppendError`]. Roll the transaction back, or go on without the event.
    pub fn append(
        &self,
        tx: &Transaction<'_>,
        event: &Event,
        now: Wall,
    ) -> Result<Appended, AppendError> {
        self.within(tx).append(event, now)
    }

    /// Returns the outbox within a transaction on the same file.
    #[must_use]
    pub fn within<'t>(&'t self, tx: &'t Transaction<'_>) -> OutboxTx<'t> {
        let Shared {
            statements, limits, ..
        } = &*self.shared;
        OutboxTx::new(tx, statements, *limits)
    }

    /// Commits a transaction and tells the relays of this process.
    ///
    /// # Errors
    /// As [`commit`](crate::commit).
    pub fn commit(&self, tx: Transaction<'_>) -> Result<(), EngineError> {
        commit(tx)?;
        self.notify();
        Ok(())
    }

    /// Tells the relays of this process to look, after a transaction was committed otherwise.
    ///
    /// Without it, and in other processes, they look by the clock (`RelayConfig::poll`).
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
    /// Waits for no writer of another connection.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn next_due(&self) -> Result<Option<Wall>, EngineError> {
        let Shared { own, .. } = &*self.shared;
        own.read(|tx| self.within(tx).next_due())
    }

    /// Returns how far the relays are behind, as far as it is committed. Waits for no writer of another connection.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn lag_now(&self) -> Result<Lag, EngineError> {
        let Shared { own, .. } = &*self.shared;
        own.read(|tx| self.within(tx).lag())
    }

    /// Returns up to `max` events that were given up, from the first behind `after`. Waits for no writer of another
    /// connection.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn parked_now(
        &self,
        after: Option<Position>,
        max: usize,
    ) -> Result<Vec<Parked>, EngineError> {
        let Shared { own, .. } = &*self.shared;
        own.read(|tx| self.within(tx).parked(after, max))
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("table", &self.shared.statements.events)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
