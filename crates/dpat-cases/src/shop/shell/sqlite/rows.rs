//! Rows, markers and events in a SQLite file, within one transaction of many callers.

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::Key;
use dpat_idempotency::inbox::Markers;
use dpat_outbox::{AppendError, Appended, Event};
use dpat_sqlite::rusqlite::{self, Connection, OptionalExtension, Transaction, params};
use dpat_sqlite::{Inbox, InboxTx, Outbox, OutboxTx};

use super::super::group::{Rows, below, engine};
use super::super::relay::OutboxRows;
use crate::shop::service::ports::{Read, StoreError, Table, Write};

/// The shop's own table, beside those of outbox and inbox.
pub(super) const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS shop_rows (
  tab TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (tab, key)
) STRICT, WITHOUT ROWID";

const GET: &str = "SELECT value FROM shop_rows WHERE tab = ?1 AND key = ?2";
const SCAN: &str =
    "SELECT key, value FROM shop_rows WHERE tab = ?1 AND key >= ?2 AND key < ?3 ORDER BY key";
const PUT: &str = "\
INSERT INTO shop_rows (tab, key, value) VALUES (?1, ?2, ?3)
ON CONFLICT (tab, key) DO UPDATE SET value = excluded.value";
const REMOVE: &str = "DELETE FROM shop_rows WHERE tab = ?1 AND key = ?2";
const ARRIVED: &str = "SELECT key FROM shop_states WHERE sent_at IS NOT NULL AND key IS NOT NULL";

/// The rows as one transaction sees them.
pub(super) struct Snapshot<'t>(pub(super) &'t Connection);

impl Read for Snapshot<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self.0.prepare_cached(GET).map_err(engine)?;
        let row = statement.query_row([table.0, key], |row| row.get(0));
        row.optional().map_err(engine)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(SCAN).map_err(engine)?;
        let mut rows = statement
            .query([table.0, prefix, &below(prefix)])
            .map_err(engine)?;
        while let Some(found) = rows.next().map_err(engine)? {
            let (key, value) = cells(found).map_err(engine)?;
            if !row(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(ARRIVED).map_err(engine)?;
        let mut rows = statement.query([]).map_err(engine)?;
        while let Some(found) = rows.next().map_err(engine)? {
            key(&found.get::<_, String>(0).map_err(engine)?);
        }
        Ok(())
    }
}

fn cells<'r>(row: &'r rusqlite::Row<'_>) -> rusqlite::Result<(&'r str, &'r [u8])> {
    Ok((row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?))
}

/// Everything within the transaction of a group.
pub(super) struct Tables<'t> {
    tx: &'t Transaction<'t>,
    outbox: OutboxTx<'t>,
    inbox: InboxTx<'t>,
    pub(super) appended: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn of(tx: &'t Transaction<'t>, outbox: &'t Outbox, inbox: &'t Inbox) -> Self {
        Self {
            tx,
            outbox: outbox.within(tx),
            inbox: inbox.within(tx),
            appended: false,
        }
    }

    fn rows(&self) -> Snapshot<'_> {
        Snapshot(self.tx)
    }

    fn execute(&self, text: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        let mut statement = self.tx.prepare_cached(text).map_err(engine)?;
        statement.execute(params).map_err(engine)?;
        Ok(())
    }
}

impl Read for Tables<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.rows().scan(table, prefix, row)
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.rows().acknowledged(key)
    }
}

impl Markers for Tables<'_> {
    type Error = StoreError;

    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.inbox.marker(key).map_err(engine)
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), StoreError> {
        self.inbox.set_marker(key, marker, at).map_err(engine)
    }
}

impl Write for Tables<'_> {
    fn put(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.execute(PUT, params![table.0, key, value])
    }

    fn remove(&mut self, table: Table, key: &str) -> Result<(), StoreError> {
        self.execute(REMOVE, [table.0, key])
    }

    fn append(&mut self, event: &Event, now: Wall) -> Result<Option<Appended>, StoreError> {
        match self.outbox.append(event, now) {
            Ok(appended) => {
                self.appended = true;
                Ok(Some(appended))
            }
            Err(AppendError::Full { .. }) => Ok(None),
            Err(error) => Err(engine(error)),
        }
    }

    fn forget(&mut self, before: Wall, max: usize) -> Result<usize, StoreError> {
        self.inbox.sweep(before, max).map_err(engine)
    }
}

impl Rows for Tables<'_> {
    fn outbox(&mut self) -> Result<&mut dyn OutboxRows, StoreError> {
        Ok(&mut self.outbox)
    }
}
