//! The port to whatever keeps the records.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;

use crate::error::StoreError;
use crate::key::Key;
use crate::memory::MemoryStore;

/// Tells one content of a row from every other that the row ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// What a store holds for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of this content.
    pub version: Version,
    /// The content.
    pub bytes: Bytes,
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has this content from now on.
    Put {
        /// The content.
        bytes: Bytes,
        /// From when the store may forget the row; none: it must be kept.
        expires: Option<Wall>,
    },
    /// It is gone.
    Remove,
}

/// How a swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The change was made.
    Done,
    /// The row was not what the caller expected; nothing was changed.
    Conflict,
}

/// How an insert ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The row is there now. Its version, if the store tells.
    New(Option<Version>),
    /// There was a row; nothing was changed. None: it was gone when the store looked at it.
    Found(Option<Row>),
}

/// A place for records, with compare-and-swap a row. All logic stands above it.
///
/// A swap is atomic and, once it has returned, durable; a load sees every swap that has returned before it, from any
/// process. A row that was removed and put again has a version that it never had. A row that may be forgotten is
/// forgotten by [`purge`](Self::purge) or by the store itself, never earlier than it may.
///
/// The feature `conformance` has these sentences as tests.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads a row.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError>;

    /// Changes a row if it has the expected version; none: if there is no row.
    ///
    /// # Errors
    /// [`StoreError`], with `Effect::Unknown` unless the change surely was not made; [`StoreError::full`] if there is no
    /// room.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the change made or not made.
    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError>;

    /// Puts a row if there is none, and returns what is there otherwise.
    ///
    /// A swap from nothing, and a load if it was refused: so it is done here. A store that can do both at once saves its
    /// callers a round trip.
    ///
    /// # Errors
    /// As those of [`swap`](Self::swap). A store may be full for a row that is there already.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the row put or not put.
    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        match self.swap(key, None, Change::Put { bytes, expires }).await? {
            Swap::Done => Ok(Inserted::New(None)),
            Swap::Conflict => Ok(Inserted::Found(self.load(key).await?)),
        }
    }

    /// Returns up to `max` rows in the order of their keys' bytes, from the first after `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError>;

    /// Forgets up to `max` rows that may be forgotten at `now`, and returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError>;
}

/// Any store behind one type: memory without a box, everything else with one a call.
#[derive(Clone)]
pub struct AnyStore(Kind);

#[derive(Clone)]
enum Kind {
    Memory(MemoryStore),
    Port(Arc<dyn Store>),
}

impl AnyStore {
    /// Takes any store.
    #[must_use]
    pub fn new(store: impl Store + 'static) -> Self {
        Self(Kind::Port(Arc::new(store)))
    }

    pub(crate) async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        match &self.0 {
            Kind::Memory(memory) => Ok(memory.load_now(key)),
            Kind::Port(port) => port.load(key).await,
        }
    }

    pub(crate) async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        match &self.0 {
            Kind::Memory(memory) => memory.swap_now(key, expected, change),
            Kind::Port(port) => port.swap(key, expected, change).await,
        }
    }

    pub(crate) async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        match &self.0 {
            Kind::Memory(memory) => memory.insert_now(key, bytes, expires),
            Kind::Port(port) => port.insert(key, bytes, expires).await,
        }
    }

    pub(crate) async fn scan(
        &self,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Vec<(Key, Row)>, StoreError> {
        match &self.0 {
            Kind::Memory(memory) => Ok(memory.scan_now(after, max)),
            Kind::Port(port) => port.scan(after, max).await,
        }
    }

    pub(crate) async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        match &self.0 {
            Kind::Memory(memory) => Ok(memory.purge_now(now, max)),
            Kind::Port(port) => port.purge(now, max).await,
        }
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Memory(memory) => memory.fmt(f),
            Kind::Port(_) => f.debug_struct("AnyStore").finish_non_exhaustive(),
        }
    }
}

impl From<MemoryStore> for AnyStore {
    fn from(memory: MemoryStore) -> Self {
        Self(Kind::Memory(memory))
    }
}

impl From<Arc<dyn Store>> for AnyStore {
    fn from(port: Arc<dyn Store>) -> Self {
        Self(Kind::Port(port))
    }
}
