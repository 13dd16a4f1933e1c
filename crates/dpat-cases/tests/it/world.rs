//! What a service needs, without sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dpat_cases::shop::chaos::Fate;
use dpat_cases::shop::service::ports::{Env, Request, Transport};
use dpat_cases::shop::service::shipping::queue_limits;
use dpat_cases::shop::shell::{NodeStore, redb};
use dpat_core::{Entropy, ManualTime, SplitMix64};
use dpat_outbox::Limits;
use dpat_queue::Queue;
use futures_util::FutureExt;

/// A service's environment: virtual time, a store of its own, and a network given by the test.
#[derive(Clone)]
pub(crate) struct World<T> {
    pub(crate) time: ManualTime,
    pub(crate) store: NodeStore,
    pub(crate) transport: T,
    pub(crate) queue: Queue,
    entropy: Arc<SplitMix64>,
}

impl<T: Transport> Env for World<T> {
    type Time = ManualTime;
    type Transport = T;
    type Store = NodeStore;

    fn time(&self) -> &ManualTime {
        &self.time
    }
    fn transport(&self) -> &T {
        &self.transport
    }
    fn store(&self) -> &NodeStore {
        &self.store
    }
    fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }
    fn queue(&self) -> Option<&Queue> {
        Some(&self.queue)
    }
    fn fate(&self, _: &Request) -> Fate {
        Fate::Pass
    }
    fn note_queued(&self, _: u64, _: &str) {}
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
    let time = ManualTime::new();
    let world = World {
        queue: queue_limits(true).in_memory(time.clone()).unwrap(),
        time,
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

/// Waits for what an embedded store answers at once.
pub(crate) fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("it answers at once")
}
