//! The store of one node, on redb.
//!
//! A thread of its own takes every transaction that waits, runs them one after the other in one redb transaction,
//! commits once, and only then answers them all.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use redb::backends::FileBackend;
use redb::{
    Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError,
    WriteTransaction,
};
use tokio::sync::mpsc;

use super::group::{self, Answer, GROUP_MAX, Job, QUEUE_MAX};
use crate::shop::service::ports::{Read, Store, StoreError, Table, Write};

/// Memory for pages, per store.
const CACHE_BYTES: usize = 16 << 20;

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.0)
}

fn engine(error: impl fmt::Display) -> StoreError {
    StoreError::Engine(error.to_string())
}

/// A file that can be cut off, as a killed process is cut off from its files.
#[derive(Debug)]
struct Severable {
    file: FileBackend,
    severed: Arc<AtomicBool>,
}

impl Severable {
    fn check(&self) -> io::Result<()> {
        if self.severed.load(Ordering::Acquire) {
            return Err(io::Error::other("the node was killed"));
        }
        Ok(())
    }
}

impl StorageBackend for Severable {
    fn len(&self) -> io::Result<u64> {
        self.check()?;
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check()?;
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct RedbStore {
    jobs: mpsc::Sender<Job>,
    database: Arc<Database>,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").finish_non_exhaustive()
    }
}

/// Owns the writer of a store.
#[derive(Debug)]
pub struct StoreOwner {
    writer: JoinHandle<()>,
}

impl StoreOwner {
    /// Waits until the file is closed; every [`RedbStore`] must have been dropped before.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if the writer panicked.
    pub fn join(self) -> Result<(), StoreError> {
        self.writer
            .join()
            .map_err(|_| engine("the writer panicked"))
    }
}

/// Opens or creates the store in `path`; repairs it after a crash.
///
/// Setting `severed` cuts the store off from its file, as a killed process is: nothing is written any more, not even
/// the marks of a clean close.
///
/// # Errors
/// [`StoreError::Engine`].
pub fn open(path: &Path, severed: Arc<AtomicBool>) -> Result<(RedbStore, StoreOwner), StoreError> {
    let database = Arc::new(open_database(path, severed)?);
    let (jobs, queue) = mpsc::channel(QUEUE_MAX);
    let writer = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn({
            let database = Arc::clone(&database);
            move || write_loop(&database, queue)
        })
        .map_err(engine)?;
    Ok((RedbStore { jobs, database }, StoreOwner { writer }))
}

fn open_database(path: &Path, severed: Arc<AtomicBool>) -> Result<Database, StoreError> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(engine)?;
    let file = FileBackend::new(file).map_err(engine)?;
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(Severable { file, severed })
        .map_err(engine)
}

fn write_loop(database: &Database, mut queue: mpsc::Receiver<Job>) {
    let mut group = Vec::new();
    loop {
        if queue.blocking_recv_many(&mut group, GROUP_MAX) == 0 {
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        let result = commit(database, group.drain(..), &mut answers);
        for answer in answers {
            answer(result.clone());
        }
        if result.is_err() {
            // The state of a store that could not commit is not known; only a restart tells.
            return;
        }
    }
}

fn commit(
    database: &Database,
    group: impl Iterator<Item = Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(engine)?;
    let mut tables = Tables {
        transaction: &transaction,
        open: BTreeMap::new(),
    };
    for job in group {
        match job(&mut tables) {
            Ok(answer) => answers.push(answer),
            Err(refusal) => {
                (refusal.answer)(Err(refusal.error.clone()));
                return Err(refusal.error);
            }
        }
    }
    drop(tables);
    transaction.commit().map_err(engine)
}

/// The tables of the running group, each opened once.
struct Tables<'t> {
    transaction: &'t WriteTransaction,
    open: BTreeMap<Table, redb::Table<'t, &'static str, &'static [u8]>>,
}

impl<'t> Tables<'t> {
    fn table(
        &mut self,
        table: Table,
    ) -> Result<&mut redb::Table<'t, &'static str, &'static [u8]>, StoreError> {
        match self.open.entry(table) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let opened = self
                    .transaction
                    .open_table(definition(table))
                    .map_err(engine)?;
                Ok(entry.insert(opened))
            }
        }
    }
}

impl Read for Tables<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.open.get(&table) {
            Some(open) => get(open, key),
            None => {
                let opened = self
                    .transaction
                    .open_table(definition(table))
                    .map_err(engine)?;
                get(&opened, key)
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
                let opened = self
                    .transaction
                    .open_table(definition(table))
                    .map_err(engine)?;
                scan(&opened, prefix, row)
            }
        }
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
struct Snapshot(redb::ReadTransaction);

impl Snapshot {
    fn table(
        &self,
        table: Table,
    ) -> Result<Option<redb::ReadOnlyTable<&'static str, &'static [u8]>>, StoreError> {
        match self.0.open_table(definition(table)) {
            Ok(open) => Ok(Some(open)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(engine(error)),
        }
    }
}

impl Read for Snapshot {
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
}

impl Store for RedbStore {
    fn transact<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Write) -> Result<R, StoreError> + Send + 'static,
    {
        group::transact(self.jobs.clone(), work)
    }

    fn read<R>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let snapshot = Snapshot(self.database.begin_read().map_err(engine)?);
        work(&snapshot)
    }
}
