//! The laws of a response store, in memory, on a file, and on blocking threads.

use std::sync::Arc;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect};
use dpat_idempotency::conformance::Harness;
use dpat_idempotency::conformance::{response_laws, store_laws};
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use dpat_redb::redb::Database;
use dpat_redb::{Config, ResponseLimits, ResponseStore, Threads};
use dpat_testkit::live::{Law, conformance};

use crate::kit::{Folder, memory};

/// A store with its database, which the laws reopen.
#[derive(Clone)]
struct OnRedb {
    database: Arc<Database>,
    store: ResponseStore,
    folder: Option<Folder>,
}

impl OnRedb {
    fn new(database: Arc<Database>, folder: Option<Folder>, threads: Threads) -> Self {
        let config = Config::new("responses").unwrap().threads(threads);
        let limits = ResponseLimits::DEFAULT;
        Self {
            store: ResponseStore::open(Arc::clone(&database), &config, limits).unwrap(),
            database,
            folder,
        }
    }

    fn reopen(self, threads: Threads) -> Self {
        let Self {
            database,
            store,
            folder,
        } = self;
        drop(store);
        let database = match &folder {
            Some(folder) => match Arc::try_unwrap(database) {
                Ok(database) => {
                    drop(database);
                    folder.open()
                }
                // A clone is alive: as two handles of one process.
                Err(database) => database,
            },
            None => database,
        };
        Self::new(database, folder, threads)
    }
}

#[async_trait::async_trait]
impl Store for OnRedb {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.store.load(key).await
    }
    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        self.store.swap(key, expected, change).await
    }
    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<dpat_core::Wall>,
    ) -> Result<Inserted, StoreError> {
        self.store.insert(key, bytes, expires).await
    }
    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.store.scan(after, max).await
    }
    async fn purge(&self, now: dpat_core::Wall, max: usize) -> Result<usize, StoreError> {
        self.store.purge(now, max).await
    }
}

struct InMemory;

impl Harness for InMemory {
    type Store = OnRedb;
    fn fresh(&self) -> OnRedb {
        OnRedb::new(memory(), None, Threads::Caller)
    }
    fn reopen(&self, store: OnRedb) -> OnRedb {
        store.reopen(Threads::Caller)
    }
}

struct OnFile;

impl Harness for OnFile {
    type Store = OnRedb;
    fn fresh(&self) -> OnRedb {
        let folder = Folder::new();
        OnRedb::new(folder.open(), Some(folder), Threads::Caller)
    }
    fn reopen(&self, store: OnRedb) -> OnRedb {
        store.reopen(Threads::Caller)
    }
}

struct OnThreads;

impl Harness for OnThreads {
    type Store = OnRedb;
    fn fresh(&self) -> OnRedb {
        OnRedb::new(memory(), None, Threads::TokioBlocking)
    }
    fn reopen(&self, store: OnRedb) -> OnRedb {
        store.reopen(Threads::TokioBlocking)
    }
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }
}

mod in_memory {
    dpat_idempotency::response_laws!(super::InMemory);
    dpat_idempotency::store_laws!(super::InMemory);
}

mod on_file {
    dpat_idempotency::response_laws!(super::OnFile);
    dpat_idempotency::store_laws!(super::OnFile);
}

mod on_threads {
    dpat_idempotency::response_laws!(super::OnThreads);
    dpat_idempotency::store_laws!(super::OnThreads);
}

#[test]
fn a_full_store_refuses_new_keys() {
    let harness = InMemory;
    let put = |text: &'static str| Change::Put {
        bytes: Bytes::from_static(text.as_bytes()),
        expires: None,
    };
    let key = |id: &str| Key::new("s", id).unwrap();
    for (limits, expected) in [
        (
            ResponseLimits { rows: 1, bytes: 99 },
            "rows: the limit of 1 is reached",
        ),
        (
            ResponseLimits { rows: 9, bytes: 7 },
            "bytes: the limit of 7 is reached",
        ),
    ] {
        let config = Config::new("responses").unwrap();
        let store = ResponseStore::open(memory(), &config, limits).unwrap();
        let swapped = harness.run(store.swap(&key("a"), None, put("1234")));
        assert_eq!(swapped.unwrap(), Swap::Done);
        let error = harness
            .run(store.swap(&key("b"), None, put("1234")))
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Overloaded, Effect::NotDone)
        );
        let row = harness.run(store.load(&key("a"))).unwrap().unwrap();
        let replaced = harness.run(store.swap(&key("a"), Some(row.version), put("4321")));
        assert_eq!(replaced.unwrap(), Swap::Done);
        let row = harness.run(store.load(&key("a"))).unwrap().unwrap();
        let removed = harness.run(store.swap(&key("a"), Some(row.version), Change::Remove));
        assert_eq!(removed.unwrap(), Swap::Done);
        let swapped = harness.run(store.swap(&key("b"), None, put("1234")));
        assert_eq!(swapped.unwrap(), Swap::Done);
    }
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let mut laws = Law::plain(store_laws(), || OnFile);
    laws.extend(Law::plain(response_laws(), || OnFile));
    conformance("redb", "responses", laws).unwrap();
}
