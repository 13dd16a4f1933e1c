//! The store of one node, on redb.
//!
//! A thread of its own takes every transaction that waits, runs them one after the other in one redb transaction,
//! commits once, and only then answers them all.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use dpat_outbox::Limits;
use redb::backends::FileBackend;
use redb::{Database, Durability, StorageBackend};
use tokio::sync::mpsc;

use super::group::{self, GROUP_MAX, Job, QUEUE_MAX};
use super::relay::GroupOutbox;
use super::rows::{Ground, engine};
use crate::shop::service::ports::{Read, Store, StoreError, Write};

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

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct RedbStore {
    jobs: mpsc::Sender<Job>,
    ground: Ground,
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
) -> Result<(RedbStore, StoreOwner), StoreError> {
    let database = open_database(path, severed)?;
    let ground = Ground::open(database, limits, Durability::Immediate)?;
    let (jobs, queue) = mpsc::channel(QUEUE_MAX);
    let writer = std::thread::Builder::new()
        .name("store".to_owned())
        .spawn({
            let ground = ground.clone();
            move || write_loop(&ground, queue)
        })
        .map_err(engine)?;
    Ok((RedbStore { jobs, ground }, StoreOwner { writer }))
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

fn write_loop(ground: &Ground, mut queue: mpsc::Receiver<Job>) {
    let mut group = Vec::new();
    loop {
        if queue.blocking_recv_many(&mut group, GROUP_MAX) == 0 {
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        let result = ground.commit(group.drain(..), &mut answers);
        for answer in answers {
            answer(result.clone());
        }
        if result.is_err() {
            // The state of a store that could not commit is not known; only a restart tells.
            return;
        }
    }
}

impl Store for RedbStore {
    fn transact<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Write) -> Result<R, StoreError> + Send + 'static,
    {
        group::transact(self.jobs.clone(), |rows| work(rows))
    }

    fn read<R>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.ground.read(work)
    }

    fn outbox(&self) -> Arc<dyn dpat_outbox::Store> {
        Arc::new(GroupOutbox::new(self.jobs.clone(), &self.ground))
    }

    fn backlog(&self) -> Result<u64, StoreError> {
        self.ground.backlog()
    }
}
