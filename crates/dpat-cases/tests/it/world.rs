//! What a service needs, without sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dpat_cases::shop::service::ports::{Env, Transport};
use dpat_cases::shop::shell::redb::{self, RedbStore};
use dpat_core::{Entropy, ManualTime, SplitMix64};
use dpat_outbox::Limits;

/// A service's environment: virtual time, a store of its own, and a network given by the test.
#[derive(Clone)]
pub(crate) struct World<T> {
    pub(crate) time: ManualTime,
    pub(crate) store: RedbStore,
    pub(crate) transport: T,
    entropy: Arc<SplitMix64>,
}

impl<T: Transport> Env for World<T> {
    type Time = ManualTime;
    type Transport = T;
    type Store = RedbStore;

    fn time(&self) -> &ManualTime {
        &self.time
    }
    fn transport(&self) -> &T {
        &self.transport
    }
    fn store(&self) -> &RedbStore {
        &self.store
    }
    fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }
    async fn at_point(&self, _: &'static str, _: &str) {}
}

/// Runs a test in a world with a fresh store.
pub(crate) fn with_world<T: Transport>(transport: T, test: impl AsyncFnOnce(World<T>)) {
    with_limits(Limits::DEFAULT, transport, test);
}

/// Runs a test in a world with a fresh store, whose outbox has these limits.
pub(crate) fn with_limits<T: Transport>(
    limits: Limits,
    transport: T,
    test: impl AsyncFnOnce(World<T>),
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (store, owner) = redb::open_with(&path, Arc::new(AtomicBool::new(false)), limits).unwrap();
    let world = World {
        time: ManualTime::new(),
        store,
        transport,
        entropy: Arc::new(SplitMix64::new(1)),
    };
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(test(world));
    owner.join().unwrap();
}
