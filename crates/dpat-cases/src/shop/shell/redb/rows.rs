//! Rows, markers and events in a redb database, within one transaction of many callers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::Key;
use dpat_idempotency::inbox::Markers;
use dpat_outbox::{AppendError, Appended, Event, Limits};
use dpat_redb::{Config, Inbox, InboxTx, Outbox, OutboxTx, commit};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use super::super::group::{self, Job, Look, Rows, engine, run_all};
use super::super::relay::OutboxRows;
use crate::shop::service::ports::{Read, StoreError, Table, Write};

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.0)
}

/// A database with an outbox and an inbox. Clones share it.
#[derive(Clone)]
pub(super) struct Ground {
    database: Arc<Database>,
    outbox: Outbox,
    inbox: Inbox,
    durability: Durability,
}

impl Ground {
    /// Opens what is in a database, or makes it. What is committed is as durable as asked for.
    pub(super) fn open(
        database: Database,
        limits: Limits,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let database = Arc::new(database);
        let config = |prefix| Config::new(prefix).map_err(engine);
        let outbox = Outbox::open(Arc::clone(&database), config("outbox")?, limits);
        Ok(Self {
            outbox: outbox.map_err(engine)?,
            inbox: Inbox::open(&database, &config("inbox")?).map_err(engine)?,
            database,
            durability,
        })
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Calls `key` with the key of each event that is known to have arrived.
    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        const PAGE: usize = 1_000;
        let mut after = None;
        loop {
            let rows = self.outbox.rows_now(after, PAGE).map_err(engine)?;
            for (position, event, state) in &rows {
                after = Some(*position);
                if state.sent_at().is_some() {
                    key(event.key().unwrap_or_default());
                }
            }
            if rows.len() < PAGE {
                return Ok(());
            }
        }
    }
}

impl group::Ground for Ground {
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(engine)?;
        transaction
            .set_durability(self.durability)
            .map_err(engine)?;
        let mut tables = Tables {
            ground: self,
            transaction: &transaction,
            open: BTreeMap::new(),
            outbox: None,
            inbox: None,
            appended: false,
        };
        run_all(group, &mut tables)?;
        let appended = tables.appended;
        drop(tables);
        commit(transaction).map_err(engine)?;
        if appended {
            self.outbox.notify();
        }
        Ok(())
    }
}

impl Look for Ground {
    fn look(
        &self,
        work: &mut dyn FnMut(&dyn Read) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        work(&Snapshot {
            tx: self.database.begin_read().map_err(engine)?,
            ground: self,
        })
    }
}

/// The tables of the running group, each opened once.
struct Tables<'t> {
    ground: &'t Ground,
    transaction: &'t WriteTransaction,
    open: BTreeMap<Table, redb::Table<'t, &'static str, &'static [u8]>>,
    outbox: Option<OutboxTx<'t>>,
    inbox: Option<InboxTx<'t>>,
    appended: bool,
}

impl<'t> Tables<'t> {
    fn table(
        &mut self,
        table: Table,
    ) -> Result<&mut redb::Table<'t, &'static str, &'static [u8]>, StoreError> {
        match self.open.entry(table) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let opened = self.transaction.open_table(definition(table));
                Ok(entry.insert(opened.map_err(engine)?))
            }
        }
    }

    fn inbox(&mut self) -> Result<&mut InboxTx<'t>, StoreError> {
        let inbox = match self.inbox.take() {
            Some(open) => open,
            None => {
                let opened = self.ground.inbox.within(self.transaction);
                opened.map_err(engine)?
            }
        };
        Ok(self.inbox.insert(inbox))
    }

    fn events(&mut self) -> Result<&mut OutboxTx<'t>, StoreError> {
        let outbox = match self.outbox.take() {
            Some(open) => open,
            None => {
                let opened = self.ground.outbox.within(self.transaction);
                opened.map_err(engine)?
            }
        };
        Ok(self.outbox.insert(outbox))
    }
}

impl Read for Tables<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.open.get(&table) {
            Some(open) => get(open, key),
            None => {
                let opened = self.transaction.open_table(definition(table));
                get(&opened.map_err(engine)?, key)
            }
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        match self.open.get(&table) {
            Some(open) => scan(open, prefix, row),
            None => {
                let opened = self.transaction.open_table(definition(table));
                scan(&opened.map_err(engine)?, prefix, row)
            }
        }
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.ground.acknowledged(key)
    }
}

impl Markers for Tables<'_> {
    type Error = StoreError;

    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.inbox()?.marker(key).map_err(engine)
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), StoreError> {
        self.inbox()?.set_marker(key, marker, at).map_err(engine)
    }
}

impl Write for Tables<'_> {
    fn put(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.table(table)?.insert(key, value).map_err(engine)?;
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &str) -> Result<(), StoreError> {
        self.table(table)?.remove(key).map_err(engine)?;
        Ok(())
    }

    fn append(&mut self, event: &Event, now: Wall) -> Result<Option<Appended>, StoreError> {
        match self.events()?.append(event, now) {
            Ok(appended) => {
                self.appended = true;
                Ok(Some(appended))
            }
            Err(AppendError::Full { .. }) => Ok(None),
            Err(error) => Err(engine(error)),
        }
    }

    fn forget(&mut self, before: Wall, max: usize) -> Result<usize, StoreError> {
        self.inbox()?.sweep(before, max).map_err(engine)
    }
}

impl Rows for Tables<'_> {
    fn outbox(&mut self) -> Result<&mut dyn OutboxRows, StoreError> {
        Ok(self.events()?)
    }
}

fn get(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row = table.get(key).map_err(engine)?;
    Ok(row.map(|guard| guard.value().to_vec()))
}

fn scan(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
    row: &mut dyn FnMut(&str, &[u8]) -> bool,
) -> Result<(), StoreError> {
    for entry in table.range(prefix..).map_err(engine)? {
        let (key, value) = entry.map_err(engine)?;
        if !key.value().starts_with(prefix) || !row(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

/// A snapshot of the latest durable state.
struct Snapshot<'g> {
    tx: redb::ReadTransaction,
    ground: &'g Ground,
}

impl Snapshot<'_> {
    fn table(
        &self,
        table: Table,
    ) -> Result<Option<redb::ReadOnlyTable<&'static str, &'static [u8]>>, StoreError> {
        match self.tx.open_table(definition(table)) {
            Ok(open) => Ok(Some(open)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(engine(error)),
        }
    }
}

impl Read for Snapshot<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.table(table)? {
            Some(open) => get(&open, key),
            None => Ok(None),
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        match self.table(table)? {
            Some(open) => scan(&open, prefix, row),
            None => Ok(()),
        }
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.ground.acknowledged(key)
    }
}
