//! A store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;

use crate::error::StoreError;
use crate::key::Key;
use crate::store::{Change, Inserted, Row, Store, Swap, Version};
use crate::sync::Mutex;

/// A bounded [`Store`] in memory: for one process, and for tests. Clones share the rows.
///
/// What is open (claimed or in doubt) is never dropped to make room, nor is what has not expired: a full store refuses
/// new keys.
///
/// # Examples
/// ```
/// use dpat_idempotency::{Config, MemoryStore, Responses};
///
/// let store = MemoryStore::with_limits(10_000, 16 << 20);
/// let responses = Responses::in_memory(Config::default(), store);
/// # let _ = responses;
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    rows_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Entry>,
    by_expiry: BTreeSet<(Wall, Key)>,
    bytes: usize,
    last_version: u64,
}

#[derive(Debug)]
struct Entry {
    version: Version,
    bytes: Bytes,
    expires: Option<Wall>,
}

impl MemoryStore {
    /// The number of rows unless told otherwise: 100 000.
    pub const ROWS_MAX: usize = 100_000;

    /// The bytes of keys and rows unless told otherwise: 64 MiB.
    pub const BYTES_MAX: usize = 64 << 20;

    /// Makes an empty store with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(Self::ROWS_MAX, Self::BYTES_MAX)
    }

    /// Makes an empty store of at most so many rows and bytes of keys and rows.
    #[must_use]
    pub fn with_limits(rows_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Arc::default(),
            rows_max,
            bytes_max,
        }
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.with(|state| state.rows.len())
    }

    /// Says whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of keys and rows.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.state.with(|state| state.bytes)
    }

    pub(crate) fn load_now(&self, key: &Key) -> Option<Row> {
        self.state.with(|state| state.rows.get(key).map(Entry::row))
    }

    pub(crate) fn swap_now(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        self.state.with(|state| {
            let old = state.rows.get(key);
            if old.map(|entry| entry.version) != expected {
                return Ok(Swap::Conflict);
            }
            if let Change::Put { bytes, .. } = &change {
                self.check_room(state, key, bytes)?;
            }
            state.remove(key);
            if let Change::Put { bytes, expires } = change {
                state.insert(key, bytes, expires);
            }
            Ok(Swap::Done)
        })
    }

    pub(crate) fn insert_now(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        self.state.with(|state| {
            if let Some(entry) = state.rows.get(key) {
                return Ok(Inserted::Found(Some(entry.row())));
            }
            self.check_room(state, key, &bytes)?;
            state.insert(key, bytes, expires);
            Ok(Inserted::New(Some(Version(state.last_version))))
        })
    }

    fn check_room(&self, state: &State, key: &Key, bytes: &Bytes) -> Result<(), StoreError> {
        let old = state.rows.get(key);
        let freed = old.map_or(0, |entry| size(key, &entry.bytes));
        if old.is_none() && state.rows.len() >= self.rows_max {
            return Err(StoreError::full("rows", self.rows_max));
        }
        if state.bytes - freed + size(key, bytes) > self.bytes_max {
            return Err(StoreError::full("bytes", self.bytes_max));
        }
        Ok(())
    }

    pub(crate) fn scan_now(&self, after: Option<&Key>, max: usize) -> Vec<(Key, Row)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.state.with(|state| {
            let rows = state.rows.range::<Key, _>((from, Bound::Unbounded));
            rows.take(max)
                .map(|(key, entry)| (key.clone(), entry.row()))
                .collect()
        })
    }

    pub(crate) fn purge_now(&self, now: Wall, max: usize) -> usize {
        self.state.with(|state| {
            let expired = state.by_expiry.iter().take(max);
            let expired: Vec<Key> = expired
                .take_while(|(expires, _)| *expires <= now)
                .map(|(_, key)| key.clone())
                .collect();
            expired.iter().for_each(|key| state.remove(key));
            expired.len()
        })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn size(key: &Key, bytes: &Bytes) -> usize {
    key.as_bytes().len() + bytes.len()
}

impl Entry {
    fn row(&self) -> Row {
        Row {
            version: self.version,
            bytes: self.bytes.clone(),
        }
    }
}

impl State {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.rows.remove(key) {
            self.bytes -= size(key, &entry.bytes);
            if let Some(expires) = entry.expires {
                self.by_expiry.remove(&(expires, key.clone()));
            }
        }
    }

    fn insert(&mut self, key: &Key, bytes: Bytes, expires: Option<Wall>) {
        // One count for all rows: no version comes twice.
        self.last_version += 1;
        self.bytes += size(key, &bytes);
        if let Some(expires) = expires {
            self.by_expiry.insert((expires, key.clone()));
        }
        let entry = Entry {
            version: Version(self.last_version),
            bytes,
            expires,
        };
        self.rows.insert(key.clone(), entry);
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        Ok(self.load_now(key))
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        self.swap_now(key, expected, change)
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        self.insert_now(key, bytes, expires)
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        Ok(self.scan_now(after, max))
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        Ok(self.purge_now(now, max))
    }
}
