//! A response store in a key-value bucket.

use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_nats::dpat_idempotency::conformance::{Harness, response_laws, store_laws};
use dpat_nats::dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use dpat_nats::{ResponseStore, StoreSettings};
use dpat_testkit::live::{Law, Live};
use libtest_mimic::Trial;

use super::kit::{block_on, connect, name};

/// A store with the name of its bucket, which the laws open again.
#[derive(Clone)]
pub(crate) struct Bucket {
    store: ResponseStore,
    name: String,
}

impl Bucket {
    fn open(name: String) -> Self {
        let url = std::env::var("DPAT_NATS_URL").unwrap_or_default();
        let connection = connect(&url).expect("a server that is there");
        // Servers set the bytes aside when a bucket is made.
        let settings = StoreSettings::new(&name)
            .expect("a name")
            .bytes_max(4 << 20);
        let store = block_on(ResponseStore::open(&connection, settings)).expect("a bucket");
        Self { store, name }
    }
}

#[async_trait]
impl Store for Bucket {
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

struct Buckets;

impl Harness for Buckets {
    type Store = Bucket;

    fn fresh(&self) -> Bucket {
        Bucket::open(name("responses"))
    }

    fn reopen(&self, store: Bucket) -> Bucket {
        Bucket::open(store.name)
    }

    fn row_bytes_max(&self) -> usize {
        // A server's `max_payload`, unless told otherwise, without room for headers.
        (1 << 20) - (1 << 10)
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(future)
    }
}

fn nats_keeps_the_laws_of_responses(live: &Live) -> Trial {
    let laws = store_laws().into_iter().chain(response_laws()).collect();
    live.laws("responses", Law::plain(laws, || Buckets))
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![nats_keeps_the_laws_of_responses(live)]
}
