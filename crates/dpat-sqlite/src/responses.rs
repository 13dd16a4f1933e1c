//! The rows of a response store in a SQLite database.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::config::Config;
use crate::connection::{self, Own};
use crate::error::{EngineError, OpenError};
use crate::schema;
use crate::sql::{Part, nanos, number};

const LOAD: &str = "SELECT version, record FROM {prefix}_records WHERE key = ?1";

const FIND: &str = "SELECT version, length(record) FROM {prefix}_records WHERE key = ?1";

const COUNTS: &str = "SELECT last_version, records, bytes FROM {prefix}_responses WHERE one = 1";

const PUT: &str = "\
INSERT INTO {prefix}_records (key, version, expires, record) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (key) DO UPDATE
SET version = excluded.version, expires = excluded.expires, record = excluded.record";

const REMOVE: &str = "DELETE FROM {prefix}_records WHERE key = ?1";

const SCAN: &str = "\
SELECT key, version, record FROM {prefix}_records WHERE key > ?1 ORDER BY key LIMIT ?2";

const PURGE: &str = "\
DELETE FROM {prefix}_records WHERE key IN (
  SELECT key FROM {prefix}_records WHERE expires <= ?1 ORDER BY expires LIMIT ?2
)";

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

/// A [`Store`] of [`dpat_idempotency::Responses`] in a SQLite database. Clones share it, and its own connection.
///
/// # Examples
/// ```
/// use dpat_idempotency::AnyStore;
/// use dpat_sqlite::{Config, ResponseLimits, ResponseStore};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
/// let config = Config::new(path, "api")?;
/// let store = ResponseStore::open(&config, ResponseLimits::DEFAULT)?;
/// let any = AnyStore::new(store); // for `dpat_idempotency::Responses`
/// # let _ = any;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ResponseStore {
    shared: Arc<Shared>,
}

struct Shared {
    own: Own,
    statements: Statements,
    limits: ResponseLimits,
}

struct Statements {
    records: String,
    counted: String,
    load: String,
    find: String,
    counts: String,
    put: String,
    remove: String,
    scan: String,
    purge: String,
}

impl Statements {
    fn of(config: &Config) -> Self {
        Self {
            records: config.sql("{prefix}_records"),
            counted: config.sql("{prefix}_responses"),
            load: config.sql(LOAD),
            find: config.sql(FIND),
            counts: config.sql(COUNTS),
            put: config.sql(PUT),
            remove: config.sql(REMOVE),
            scan: config.sql(SCAN),
            purge: config.sql(PURGE),
        }
    }
}

impl ResponseStore {
    /// Opens the response store of this file and prefix.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: &Config, limits: ResponseLimits) -> Result<Self, OpenError> {
        let connection = config.connect()?;
        schema::open(&connection, config, Part::Responses)?;
        Ok(Self {
            shared: Arc::new(Shared {
                own: Own::new(connection, config.threads),
                statements: Statements::of(config),
                limits,
            }),
        })
    }

    async fn on<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let shared = Arc::clone(&self.shared);
        let threads = self.shared.own.threads;
        let result = connection::run(threads, move || work(&shared)).await;
        Ok(result?)
    }
}

/// Version and bytes as they are read.
fn row((version, bytes): (i64, Vec<u8>)) -> Row {
    Row {
        version: Version(unsigned(version)),
        bytes: bytes.into(),
    }
}

/// Reads an integer that was never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Shared {
    fn load(&self, tx: &Transaction<'_>, key: &[u8]) -> Result<Option<Row>, EngineError> {
        let mut load = tx
            .prepare_cached(&self.statements.load)
            .map_err(EngineError::of)?;
        let found = load
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(EngineError::of)?;
        Ok(found.map(row))
    }

    /// Puts a row where there is none; returns its version.
    fn insert(
        &self,
        tx: &Transaction<'_>,
        key: &[u8],
        bytes: &[u8],
        expires: Option<Wall>,
    ) -> Result<Inserted, EngineError> {
        // Others may have written since it was looked for.
        if let Some(row) = self.load(tx, key)? {
            return Ok(Inserted::Found(Some(row)));
        }
        let version = self.put(tx, key, (bytes, expires), None)?;
        Ok(Inserted::New(Some(version)))
    }

    fn put(
        &self,
        tx: &Transaction<'_>,
        key: &[u8],
        (bytes, expires): (&[u8], Option<Wall>),
        freed: Option<u64>,
    ) -> Result<Version, EngineError> {
        let version = self.room(tx, key.len() + bytes.len(), freed)?;
        let mut put = tx
            .prepare_cached(&self.statements.put)
            .map_err(EngineError::of)?;
        put.execute(params![key, version, expires.map(nanos), bytes])
            .map_err(EngineError::of)?;
        Ok(Version(unsigned(version)))
    }

    fn swap(
        &self,
        tx: &Transaction<'_>,
        key: &[u8],
        expected: Option<Version>,
        change: &Change,
    ) -> Result<Swap, EngineError> {
        let mut find = tx
            .prepare_cached(&self.statements.find)
            .map_err(EngineError::of)?;
        let old: Option<(i64, i64)> = find
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(EngineError::of)?;
        if old.map(|(version, _)| Version(unsigned(version))) != expected {
            return Ok(Swap::Conflict);
        }
        match change {
            Change::Put { bytes, expires } => {
                let freed = old.map(|(_, bytes)| key.len() as u64 + unsigned(bytes));
                self.put(tx, key, (bytes, *expires), freed)?;
            }
            Change::Remove => {
                let mut remove = tx
                    .prepare_cached(&self.statements.remove)
                    .map_err(EngineError::of)?;
                remove.execute([key]).map_err(EngineError::of)?;
            }
        }
        Ok(Swap::Done)
    }

    /// Checks that so many bytes fit in the place of `freed` ones, or of nothing; returns a version.
    fn room(
        &self,
        tx: &Transaction<'_>,
        added: usize,
        freed: Option<u64>,
    ) -> Result<i64, EngineError> {
        let mut counts = tx
            .prepare_cached(&self.statements.counts)
            .map_err(EngineError::of)?;
        let counts: Option<(i64, i64, i64)> = counts
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()
            .map_err(EngineError::of)?;
        let Some((last_version, records, bytes)) = counts else {
            let what = "the row of counts is gone";
            return Err(EngineError::inconsistent(&self.statements.counted, 1, what));
        };
        let limits = self.limits;
        if freed.is_none() && unsigned(records) >= limits.rows {
            return Err(EngineError::full("rows", limits.rows));
        }
        let kept = unsigned(bytes).saturating_sub(freed.unwrap_or(0));
        if kept.saturating_add(added as u64) > limits.bytes {
            return Err(EngineError::full("bytes", limits.bytes));
        }
        Ok(last_version.saturating_add(1))
    }

    fn scan(
        &self,
        tx: &Transaction<'_>,
        after: &[u8],
        max: usize,
    ) -> Result<Vec<(Key, Row)>, EngineError> {
        let mut scan = tx
            .prepare_cached(&self.statements.scan)
            .map_err(EngineError::of)?;
        let mut rows = scan
            .query(params![after, number(max as u64)])
            .map_err(EngineError::of)?;
        let mut found = Vec::new();
        while let Some(one) = rows.next().map_err(EngineError::of)? {
            let key: Vec<u8> = one.get(0).map_err(EngineError::of)?;
            let key = Key::from_bytes(&key).map_err(|error| {
                EngineError::corrupt(&self.statements.records, found.len(), error)
            })?;
            let version = one.get(1).map_err(EngineError::of)?;
            let bytes = one.get(2).map_err(EngineError::of)?;
            found.push((key, row((version, bytes))));
        }
        Ok(found)
    }
}

#[async_trait]
impl Store for ResponseStore {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let key = key.clone();
        self.on(move |shared| shared.own.read(|tx| shared.load(tx, key.as_bytes())))
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
            shared.own.write(
                |tx| shared.swap(tx, key.as_bytes(), expected, &change),
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
            if let Some(row) = shared.own.read(|tx| shared.load(tx, key))? {
                return Ok(Inserted::Found(Some(row)));
            }
            shared.own.write(
                |tx| shared.insert(tx, key, &bytes, expires),
                |inserted| matches!(inserted, Inserted::New(_)),
            )
        })
        .await
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        // No key is empty.
        let after = after.map_or_else(Bytes::new, |after| Bytes::copy_from_slice(after.as_bytes()));
        self.on(move |shared| shared.own.read(|tx| shared.scan(tx, &after, max)))
            .await
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        self.on(move |shared| {
            shared.own.write(
                |tx| {
                    let mut purge = tx
                        .prepare_cached(&shared.statements.purge)
                        .map_err(EngineError::of)?;
                    purge
                        .execute(params![nanos(now), number(max as u64)])
                        .map_err(EngineError::of)
                },
                |rows| *rows > 0,
            )
        })
        .await
    }
}

impl fmt::Debug for ResponseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStore")
            .field("table", &self.shared.statements.records)
            .finish_non_exhaustive()
    }
}
