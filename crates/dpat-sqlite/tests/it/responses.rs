//! The laws of a response store, on the caller's thread and on blocking threads.

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::conformance::Harness;
use dpat_idempotency::conformance::{response_laws, store_laws};
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use dpat_sqlite::{ResponseLimits, ResponseStore, Threads};
use dpat_testkit::live::{Law, conformance};

use crate::kit::Folder;

/// A store with its file, which the laws reopen.
#[derive(Clone)]
struct OnSqlite {
    store: ResponseStore,
    folder: Folder,
}

impl OnSqlite {
    fn new(folder: Folder, threads: Threads) -> Self {
        let config = folder.config().threads(threads);
        Self {
            store: ResponseStore::open(&config, ResponseLimits::DEFAULT).unwrap(),
            folder,
        }
    }
}

#[async_trait::async_trait]
impl Store for OnSqlite {
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
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        self.store.insert(key, bytes, expires).await
    }
    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.store.scan(after, max).await
    }
    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        self.store.purge(now, max).await
    }
}

macro_rules! harness {
    ($name:ident, $threads:expr $(, $run:item)?) => {
        struct $name;

        impl Harness for $name {
            type Store = OnSqlite;
            fn fresh(&self) -> OnSqlite {
                OnSqlite::new(Folder::new(), $threads)
            }
            fn reopen(&self, store: OnSqlite) -> OnSqlite {
                let OnSqlite { store, folder } = store;
                drop(store);
                OnSqlite::new(folder, $threads)
            }
            $($run)?
        }
    };
}

harness!(OnFile, Threads::Caller);

harness!(
    OnThreads,
    Threads::TokioBlocking,
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }
);

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
    let harness = OnFile;
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
        let folder = Folder::new();
        let store = ResponseStore::open(&folder.config(), limits).unwrap();
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
    conformance("sqlite", "responses", laws).unwrap();
}
