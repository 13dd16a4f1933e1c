//! The store of one node, on redb.

mod rows;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpat_outbox::Limits;
use redb::backends::FileBackend;
use redb::{Database, Durability, StorageBackend};

use super::group::{NodeStore, Parts, StoreOwner, engine};
use super::relay::GroupOutbox;
use crate::shop::service::ports::StoreError;
use rows::Ground;

/// Memory for pages, per store.
const CACHE_BYTES: usize = 16 << 20;

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

/// Opens or creates the store in `path`; repairs it after a crash.
///
/// Setting `severed` cuts the store off from its file, as a killed process is: nothing is written any more, not even
/// the marks of a clean close.
///
/// # Errors
/// [`StoreError::Engine`].
pub fn open(path: &Path, severed: Arc<AtomicBool>) -> Result<(NodeStore, StoreOwner), StoreError> {
    open_with(path, severed, Limits::DEFAULT)
}

/// Opens or creates the store in `path`, with an outbox of these limits.
///
/// # Errors
/// [`StoreError::Engine`].
pub fn open_with(
    path: &Path,
    severed: Arc<AtomicBool>,
    limits: Limits,
) -> Result<(NodeStore, StoreOwner), StoreError> {
    let database = open_database(path, severed)?;
    let ground = Ground::open(database, limits, Durability::Immediate)?;
    let outbox = ground.outbox().clone();
    let parts = Parts {
        look: Some(Arc::new(ground.clone())),
        ground,
    };
    NodeStore::start(parts, |jobs| Arc::new(GroupOutbox::new(jobs, outbox)))
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
