//! What the tests share: an operation that counts its effects, and a store whose calls can be cut.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, ManualTime, SplitMix64, Wall};
use dpat_idempotency::{
    AnyStore, Change, Config, Fingerprint, Inserted, Key, MemoryStore, Responses, Row, Store,
    StoreError, Swap, Version,
};
use dpat_testkit::run_with;

pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) fn key() -> Key {
    Key::new("account-7", "charge-1").unwrap()
}

pub(crate) fn body() -> Fingerprint {
    Fingerprint::of(&[b"body"])
}

pub(crate) fn config() -> Config {
    Config::builder().lease(LEASE).build().unwrap()
}

pub(crate) fn responses(
    store: impl Into<AnyStore>,
    time: &ManualTime,
    seed: u64,
) -> Responses<ManualTime> {
    Responses::new(config(), store, time.clone(), SplitMix64::new(seed))
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    run_with(|| false, future)
}

/// An error that says what it did.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) Effect);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "failed, {:?}", self.0)
    }
}

impl std::error::Error for Failed {}

impl Classify for Failed {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn effect(&self) -> Effect {
        self.0
    }
}

/// Counts how often something happened, with two awaits around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects(Rc<Cell<u32>>);

impl Effects {
    pub(crate) fn count(&self) -> u32 {
        self.0.get()
    }

    pub(crate) async fn act(self) -> Result<Bytes, Failed> {
        yield_once().await;
        self.0.set(self.0.get() + 1);
        yield_once().await;
        Ok(Bytes::from_static(b"charged"))
    }
}

pub(crate) async fn yield_once() {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}

/// When a call is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before it did anything.
    Before,
    /// After it took effect, before its answer.
    After,
}

/// A store whose calls take an await each, and of which one call is cut.
#[derive(Clone, Debug)]
pub(crate) struct Shaky {
    pub(crate) inner: MemoryStore,
    calls: Arc<AtomicU64>,
    cut: Option<(u64, Cut)>,
    /// Whether everything after the cut fails, too.
    dead: bool,
}

impl Shaky {
    pub(crate) fn sound() -> Self {
        Self {
            inner: MemoryStore::new(),
            calls: Arc::default(),
            cut: None,
            dead: false,
        }
    }

    /// Cuts call `at`, counted from 0; `dead`: and all that follow.
    pub(crate) fn cut(at: u64, cut: Cut, dead: bool) -> Self {
        Self {
            cut: Some((at, cut)),
            dead,
            ..Self::sound()
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn call<T>(&self, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        yield_once().await;
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let lost = || StoreError::new(Class::Timeout, Effect::Unknown, "no answer");
        match self.cut {
            Some((at, _)) if self.dead && number > at => Err(lost()),
            Some((at, Cut::Before)) if number == at => Err(lost()),
            Some((at, Cut::After)) if number == at => {
                work();
                Err(lost())
            }
            _ => {
                let done = work();
                yield_once().await;
                Ok(done)
            }
        }
    }
}

#[async_trait]
impl Store for Shaky {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.call(|| run(self.inner.load(key))).await?
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        self.call(|| run(self.inner.swap(key, expected, change)))
            .await?
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        self.call(|| run(self.inner.insert(key, bytes, expires)))
            .await?
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.call(|| run(self.inner.scan(after, max))).await?
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        self.call(|| run(self.inner.purge(now, max))).await?
    }
}
