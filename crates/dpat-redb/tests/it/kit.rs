//! Databases to test on.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpat_core::Uuid7;
use dpat_outbox::{Event, Limits, Token};
use dpat_redb::redb::backends::{FileBackend, InMemoryBackend};
use dpat_redb::redb::{Database, StorageBackend};
use dpat_redb::{Config, Outbox};

pub(crate) fn memory() -> Arc<Database> {
    let backend = InMemoryBackend::new();
    Arc::new(Database::builder().create_with_backend(backend).unwrap())
}

pub(crate) fn outbox_on(database: &Arc<Database>, limits: Limits) -> Outbox {
    let config = Config::new("outbox").unwrap();
    Outbox::open(Arc::clone(database), config, limits).unwrap()
}

pub(crate) fn id(number: u64) -> Uuid7 {
    let low = 0x8000_0000_0000_0000 | u128::from(number);
    Uuid7::from_bytes((0x7000_u128 << 64 | low).to_be_bytes()).unwrap()
}

/// An event with a number as its payload; an empty key is none.
pub(crate) fn event(number: u64, key: &str) -> Event {
    let event = Event::builder(id(number), "topic").payload(number.to_string());
    match key {
        "" => event.build(),
        key => event.key(key).build(),
    }
    .unwrap()
}

pub(crate) fn number(event: &Event) -> u64 {
    std::str::from_utf8(event.payload())
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn claim(token: u8, now: u64) -> dpat_outbox::Claim {
    dpat_outbox::Claim {
        token: Token::from_bytes([token; 16]),
        now: dpat_core::Wall::from_nanos(now),
        lease: std::time::Duration::from_nanos(100),
        rows_max: 1_000,
        bytes_max: usize::MAX,
        lane_rows_max: 100,
    }
}

/// A folder that goes when the last database in it is closed.
#[derive(Clone)]
pub(crate) struct Folder(Arc<tempfile::TempDir>);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("test.redb")
    }

    pub(crate) fn open(&self) -> Arc<Database> {
        Arc::new(Database::create(self.file()).unwrap())
    }
}

/// Counts what a database asks of its file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reads: Arc<AtomicU64>,
    pub(crate) syncs: Arc<AtomicU64>,
}

impl Counts {
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn on<B: StorageBackend>(&self, backend: B) -> Counting<B> {
        Counting {
            backend,
            counts: self.clone(),
        }
    }
}

/// A backend that counts.
#[derive(Debug)]
pub(crate) struct Counting<B> {
    backend: B,
    counts: Counts,
}

impl<B: StorageBackend + fmt::Debug> StorageBackend for Counting<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        self.backend.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.backend.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

/// A database on a file of the system, whose operations are counted.
pub(crate) fn counted(folder: &Folder, cache_bytes: usize) -> (Arc<Database>, Counts) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.file())
        .unwrap();
    let counts = Counts::default();
    let backend = counts.on(FileBackend::new(file).unwrap());
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(backend)
        .unwrap();
    (Arc::new(database), counts)
}
