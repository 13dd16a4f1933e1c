//! A redb database on the disk of a simulated node.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use dpat_sim::disk::{SimDisk, SimFile};
use dpat_storage::{File, ROOT, Storage, StorageError};
use redb::{
    Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError,
    WriteTransaction,
};

use super::nodes::Error;
use crate::sync::Mutex;

/// Changes of the producer, effects of the receiver: order → how often.
const COUNTS: TableDefinition<'_, u64, u64> = TableDefinition::new("counts");

const FILE: &str = "redb";
/// Memory for pages.
const CACHE_BYTES: usize = 1 << 20;

/// A file of a simulated disk, as redb sees files.
struct OnDisk(Mutex<SimFile>);

impl fmt::Debug for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDisk")
    }
}

impl OnDisk {
    fn with<T>(&self, work: impl FnOnce(&mut SimFile) -> Result<T, StorageError>) -> io::Result<T> {
        work(&mut self.0.lock()).map_err(io::Error::other)
    }
}

impl StorageBackend for OnDisk {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|file| file.read_exact_at(offset, out))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|file| file.truncate(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.with(SimFile::sync_data)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|file| file.write_at(offset, data))
    }
}

/// Opens the database of a node, or makes it.
pub(super) fn open(disk: &SimDisk) -> Result<Arc<Database>, Error> {
    let file = match disk.open(FILE) {
        Ok(file) => file,
        Err(_) => {
            let file = disk.create(FILE)?;
            disk.sync_dir(ROOT)?;
            file
        }
    };
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(OnDisk(Mutex::new(file)))?;
    Ok(Arc::new(database))
}

/// Counts an order once more, and returns how often it was counted before.
pub(super) fn count(tx: &WriteTransaction, order: u64) -> Result<u64, redb::Error> {
    let mut counts = tx.open_table(COUNTS)?;
    let before = counts.get(order)?.map_or(0, |count| count.value());
    counts.insert(order, before + 1)?;
    Ok(before)
}

/// Says whether an order was counted.
pub(super) fn is_counted(tx: &WriteTransaction, order: u64) -> Result<bool, redb::Error> {
    Ok(tx.open_table(COUNTS)?.get(order)?.is_some())
}

/// Returns how often each order was counted on a disk, when the run is over.
pub(super) fn counts(disk: &SimDisk) -> Result<BTreeMap<u64, u64>, Error> {
    // Lives as long as its transaction: one whose database is closed reads nothing.
    let database = open(disk)?;
    let tx = database.begin_read()?;
    let table = match tx.open_table(COUNTS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut counts = BTreeMap::new();
    for entry in table.iter()? {
        let (order, count) = entry?;
        counts.insert(order.value(), count.value());
    }
    Ok(counts)
}
