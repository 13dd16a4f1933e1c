//! The store of one node, on SQLite: rows, outbox and inbox in one file, and in one transaction.

mod rows;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_outbox::Limits;
use dpat_sqlite::rusqlite::{Connection, TransactionBehavior};
use dpat_sqlite::{Config, Inbox, Outbox, commit};

use super::group::{Ground, Job, Look, NodeStore, Parts, StoreOwner, engine, run_all};
use super::relay::GroupOutbox;
use crate::shop::service::ports::{Read, StoreError};
use crate::sync::Mutex;
use rows::{Snapshot, Tables};

/// What the names of the tables of outbox and inbox begin with.
const PREFIX: &str = "shop";
/// How long the store waits while somebody else writes to its file.
const BUSY: Duration = Duration::from_secs(20);

/// Opens or creates the store in `path`.
///
/// Setting `severed` cuts the store off from its file, as a killed process is: nothing is committed any more.
///
/// # Errors
/// [`StoreError::Engine`].
pub fn open(path: &Path, severed: Arc<AtomicBool>) -> Result<(NodeStore, StoreOwner), StoreError> {
    let config = config(path)?;
    let connection = config.connect().map_err(engine)?;
    connection.execute_batch(rows::TABLES).map_err(engine)?;
    let outbox = Outbox::open(&config, Limits::DEFAULT).map_err(engine)?;
    let inbox = Inbox::open(&connection, &config).map_err(engine)?;
    let ground = SqliteGround {
        connection,
        outbox: outbox.clone(),
        inbox,
        severed,
    };
    let looking = Mutex::new(config.connect().map_err(engine)?);
    let parts = Parts {
        ground,
        look: Some(Arc::new(Looking(looking))),
    };
    NodeStore::start(parts, |jobs| Arc::new(GroupOutbox::new(jobs, outbox)))
}

fn config(path: &Path) -> Result<Config, StoreError> {
    let config = Config::new(path, PREFIX).map_err(engine)?;
    config.busy_timeout(BUSY).map_err(engine)
}

struct SqliteGround {
    connection: Connection,
    outbox: Outbox,
    inbox: Inbox,
    severed: Arc<AtomicBool>,
}

impl Ground for SqliteGround {
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        // The right to write at once: one that is upgraded later may find that another was faster.
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(engine)?;
        let mut tables = Tables::of(&tx, &self.outbox, &self.inbox);
        run_all(group, &mut tables)?;
        let appended = tables.appended;
        if self.severed.load(Ordering::Acquire) {
            return Err(engine("the node was killed"));
        }
        commit(tx).map_err(engine)?;
        if appended {
            self.outbox.notify();
        }
        Ok(())
    }
}

/// A connection that only looks, which waits for no writer.
struct Looking(Mutex<Connection>);

impl Look for Looking {
    fn look(
        &self,
        work: &mut dyn FnMut(&dyn Read) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut connection = self.0.lock();
        let tx = connection.transaction().map_err(engine)?;
        work(&Snapshot(&tx))
    }
}

/// Another writer, who holds the file of a store: nobody else writes until this is dropped.
#[derive(Debug)]
pub struct Holder {
    _holds: Connection,
}

impl Holder {
    /// Takes the right to write; waits for whoever has it.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let connection = config(path)?.connect().map_err(engine)?;
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(engine)?;
        Ok(Self { _holds: connection })
    }
}
