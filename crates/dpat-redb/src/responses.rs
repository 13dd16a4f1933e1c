//! The rows of a response store in a redb database.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use crate::config::{Config, Threads};
use crate::error::{EngineError, OpenError, commit};
use crate::schema::{self, Meta};
use crate::threads;

const LAST_VERSION: &str = "last_version";
const BYTES: &str = "bytes";

/// Version, when it may be forgotten, content.
type RowValue = (u64, Option<u64>, &'static [u8]);

/// How much a [`ResponseStore`] holds before it refuses new keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and rows.
    pub bytes: u64,
}

impl ResponseLimits {
    /// A million rows, 1 GiB.
    pub const DEFAULT: Self = Self {
        rows: 1_000_000,
        bytes: 1 << 30,
    };
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A [`Store`] of [`dpat_idempotency::Responses`] in a redb database. Clones share it.
///
/// # Examples
/// ```
/// use dpat_core::SystemClock;
/// use dpat_idempotency::{AnyStore, Config as ResponseConfig, Responses};
/// use dpat_redb::redb::{Database, backends::InMemoryBackend};
/// use dpat_redb::{Config, ResponseLimits, ResponseStore};
/// use std::sync::Arc;
///
/// let database = Arc::new(Database::builder().create_with_backend(InMemoryBackend::new())?);
/// let store = ResponseStore::open(database, &Config::new("responses")?, ResponseLimits::DEFAULT)?;
/// let any = AnyStore::new(store);
/// # let _ = any;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ResponseStore {
    shared: Arc<Shared>,
}

struct Shared {
    database: Arc<Database>,
    names: Names,
    limits: ResponseLimits,
    threads: Threads,
}

struct Names {
    meta: String,
    rows: String,
    expiry: String,
}

struct Tables<'t> {
    meta: Meta<'t>,
    rows: Table<'t, &'static [u8], RowValue>,
    expiry: Table<'t, (u64, &'static [u8]), ()>,
}

impl Names {
    fn rows(&self) -> TableDefinition<'_, &'static [u8], RowValue> {
        TableDefinition::new(&self.rows)
    }

    fn open<'t>(&self, tx: &'t WriteTransaction) -> Result<Tables<'t>, EngineError> {
        Ok(Tables {
            meta: tx
                .open_table(schema::definition(&self.meta))
                .map_err(EngineError::of)?,
            rows: tx.open_table(self.rows()).map_err(EngineError::of)?,
            expiry: tx
                .open_table(TableDefinition::new(&self.expiry))
                .map_err(EngineError::of)?,
        })
    }
}

impl Tables<'_> {
    fn remove(&mut self, key: &[u8]) -> Result<(), EngineError> {
        let old = self.rows.remove(key).map_err(EngineError::of)?;
        let old = old.map(|old| {
            let (_, expires, bytes) = old.value();
            (expires, bytes.len())
        });
        if let Some((expires, bytes)) = old {
            self.add_bytes(|all| all.saturating_sub((key.len() + bytes) as u64))?;
            if let Some(expires) = expires {
                self.expiry
                    .remove((expires, key))
                    .map_err(EngineError::of)?;
            }
        }
        Ok(())
    }

    fn insert(
        &mut self,
        key: &[u8],
        bytes: &Bytes,
        expires: Option<Wall>,
    ) -> Result<Version, EngineError> {
        // One count for all rows: no version comes twice.
        let version = schema::get(&self.meta, LAST_VERSION)?.unwrap_or(0) + 1;
        schema::put(&mut self.meta, LAST_VERSION, version)?;
        self.add_bytes(|all| all.saturating_add((key.len() + bytes.len()) as u64))?;
        let expires = expires.map(Wall::as_nanos);
        self.rows
            .insert(key, (version, expires, &bytes[..]))
            .map_err(EngineError::of)?;
        if let Some(expires) = expires {
            self.expiry
                .insert((expires, key), ())
                .map_err(EngineError::of)?;
        }
        Ok(Version(version))
    }

    /// Inserts if there is no row and room for one.
    fn insert_new(
        &mut self,
        key: &[u8],
        bytes: &Bytes,
        expires: Option<Wall>,
        limits: ResponseLimits,
    ) -> Result<Inserted, EngineError> {
        // Others may have written since it was looked for.
        if let Some(found) = self.rows.get(key).map_err(EngineError::of)? {
            return Ok(Inserted::Found(Some(row(found.value()))));
        }
        self.check_room(key, bytes, None, limits)?;
        let version = self.insert(key, bytes, expires)?;
        Ok(Inserted::New(Some(version)))
    }

    /// Checks that a row fits in the place of one of so many bytes, or of none.
    fn check_room(
        &self,
        key: &[u8],
        bytes: &Bytes,
        old: Option<usize>,
        limits: ResponseLimits,
    ) -> Result<(), EngineError> {
        let rows = self.rows.len().map_err(EngineError::of)?;
        if old.is_none() && rows >= limits.rows {
            return Err(EngineError::full("rows", limits.rows));
        }
        let all = schema::get(&self.meta, BYTES)?.unwrap_or(0);
        let freed = old.map_or(0, |bytes| (key.len() + bytes) as u64);
        let added = (key.len() + bytes.len()) as u64;
        if all.saturating_sub(freed).saturating_add(added) > limits.bytes {
            return Err(EngineError::full("bytes", limits.bytes));
        }
        Ok(())
    }

    fn add_bytes(&mut self, add: impl FnOnce(u64) -> u64) -> Result<(), EngineError> {
        let bytes = schema::get(&self.meta, BYTES)?.unwrap_or(0);
        schema::put(&mut self.meta, BYTES, add(bytes))
    }

    fn swap(
        &mut self,
        key: &[u8],
        expected: Option<Version>,
        change: &Change,
        limits: ResponseLimits,
    ) -> Result<Swap, EngineError> {
        let old = self.rows.get(key).map_err(EngineError::of)?.map(|old| {
            let (version, _, bytes) = old.value();
            (Version(version), bytes.len())
        });
        if old.map(|(version, _)| version) != expected {
            return Ok(Swap::Conflict);
        }
        if let Change::Put { bytes, .. } = change {
            let old = old.map(|(_, bytes)| bytes);
            self.check_room(key, bytes, old, limits)?;
        }
        self.remove(key)?;
        if let Change::Put { bytes, expires } = change {
            self.insert(key, bytes, *expires)?;
        }
        Ok(Swap::Done)
    }

    fn purge(&mut self, now: Wall, max: usize) -> Result<usize, EngineError> {
        let until = now.as_nanos().saturating_add(1);
        let old = self.expiry.range(..(until, &[][..]));
        let mut keys = Vec::new();
        for entry in old.map_err(EngineError::of)?.take(max) {
            keys.push(entry.map_err(EngineError::of)?.0.value().1.to_vec());
        }
        keys.iter().try_for_each(|key| self.remove(key))?;
        Ok(keys.len())
    }
}

impl ResponseStore {
    /// Opens the rows of this prefix, and makes their tables if there are none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        database: Arc<Database>,
        config: &Config,
        limits: ResponseLimits,
    ) -> Result<Self, OpenError> {
        let names = Names {
            meta: config.table("meta"),
            rows: config.table("rows"),
            expiry: config.table("expiry"),
        };
        schema::open(&database, &names.meta, |tx| names.open(tx).map(drop))?;
        Ok(Self {
            shared: Arc::new(Shared {
                database,
                names,
                limits,
                threads: config.threads,
            }),
        })
    }

    async fn on<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let shared = Arc::clone(&self.shared);
        let result = threads::run(self.shared.threads, move || work(&shared)).await;
        Ok(result?)
    }
}

impl Shared {
    fn write<R>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<R, EngineError>,
        changed: impl FnOnce(&R) -> bool,
    ) -> Result<R, EngineError> {
        let tx = self.database.begin_write().map_err(EngineError::of)?;
        let result = work(&mut self.names.open(&tx)?)?;
        if changed(&result) {
            commit(tx)?;
        }
        Ok(result)
    }

    fn read(&self) -> Result<redb::ReadOnlyTable<&'static [u8], RowValue>, EngineError> {
        let tx = self.database.begin_read().map_err(EngineError::of)?;
        tx.open_table(self.names.rows()).map_err(EngineError::of)
    }
}

fn row(value: (u64, Option<u64>, &[u8])) -> Row {
    Row {
        version: Version(value.0),
        bytes: Bytes::copy_from_slice(value.2),
    }
}

#[async_trait]
impl Store for ResponseStore {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let key = key.clone();
        self.on(move |shared| {
            let found = shared
                .read()?
                .get(key.as_bytes())
                .map_err(EngineError::of)?;
            Ok(found.map(|found| row(found.value())))
        })
        .await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        let key = key.clone();
        self.on(move |shared| {
            shared.write(
                |tables| tables.swap(key.as_bytes(), expected, &change, shared.limits),
                |swap| *swap == Swap::Done,
            )
        })
        .await
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        let key = key.clone();
        self.on(move |shared| {
            let key = key.as_bytes();
            // What is there is read beside those who write.
            if let Some(found) = shared.read()?.get(key).map_err(EngineError::of)? {
                return Ok(Inserted::Found(Some(row(found.value()))));
            }
            shared.write(
                |tables| tables.insert_new(key, &bytes, expires, shared.limits),
                |inserted| matches!(inserted, Inserted::New(_)),
            )
        })
        .await
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        let after = after.cloned();
        self.on(move |shared| {
            let from = after
                .as_ref()
                .map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_bytes()));
            let table = shared.read()?;
            let rows = table.range::<&[u8]>((from, Bound::Unbounded));
            let mut found = Vec::new();
            for entry in rows.map_err(EngineError::of)?.take(max) {
                let (key, value) = entry.map_err(EngineError::of)?;
                let key = Key::from_bytes(key.value()).map_err(|error| {
                    EngineError::corrupt(&shared.names.rows, found.len(), error)
                })?;
                found.push((key, row(value.value())));
            }
            Ok(found)
        })
        .await
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        self.on(move |shared| shared.write(|tables| tables.purge(now, max), |rows| *rows > 0))
            .await
    }
}

impl fmt::Debug for ResponseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStore")
            .field("rows", &self.shared.names.rows)
            .finish_non_exhaustive()
    }
}
