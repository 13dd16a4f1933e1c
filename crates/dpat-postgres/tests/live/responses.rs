//! The laws of a response store, and its limits.

use std::sync::Arc;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::conformance::{Harness, response_laws, store_laws};
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use dpat_postgres::{Config, ResponseLimits, ResponseStore};
use dpat_testkit::live::{Law, Live};
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// A store with its tables, which the laws reopen.
#[derive(Clone)]
struct World {
    store: ResponseStore,
    config: Arc<Config>,
}

impl World {
    fn open(config: Arc<Config>) -> Self {
        Self {
            store: run(ResponseStore::open(&config, ResponseLimits::DEFAULT)).unwrap(),
            config,
        }
    }
}

#[async_trait::async_trait]
impl Store for World {
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

struct OnServer;

impl Harness for OnServer {
    type Store = World;
    fn fresh(&self) -> World {
        World::open(Arc::new(kit::config(&kit::url())))
    }
    fn reopen(&self, store: World) -> World {
        let World { config, store } = store;
        drop(store);
        World::open(config)
    }
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        run(future)
    }
}

fn postgres_keeps_the_laws_of_responses(live: &Live) -> Trial {
    let mut laws = Law::plain(store_laws(), || OnServer);
    laws.extend(Law::plain(response_laws(), || OnServer));
    live.laws("responses", laws)
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        postgres_keeps_the_laws_of_responses(live),
        live.trial(
            "a_full_store_refuses_new_keys",
            a_full_store_refuses_new_keys,
        ),
    ]
}

fn a_full_store_refuses_new_keys(url: &str) -> Result<(), Failed> {
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
        run(async {
            let store = ResponseStore::open(&kit::config(url), limits).await?;
            let swapped = store.swap(&key("a"), None, put("1234")).await?;
            assert_eq!(swapped, Swap::Done);
            let refused = store.swap(&key("b"), None, put("1234")).await.unwrap_err();
            assert_eq!(refused.to_string(), expected);
            assert_eq!(
                (refused.class(), refused.effect()),
                (Class::Overloaded, Effect::NotDone)
            );
            // What is there can be changed.
            let version = store.load(&key("a")).await?.unwrap().version;
            let swapped = store.swap(&key("a"), Some(version), put("4321")).await?;
            assert_eq!(swapped, Swap::Done);
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}
