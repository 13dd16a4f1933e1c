//! The laws hold on a log.

use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::conformance::{Harness, Setup};
use dpat_queue::conformance::{declared, laws};
use dpat_queue::{Builder, Queue, WalQueue};
use dpat_storage::MemStorage;
use dpat_testkit::live::{Law, conformance};

/// A log in memory, of small segments.
pub(crate) fn config() -> dpat_wal::Config {
    let log = dpat_wal::Config::builder();
    log.segment_bytes(16 << 20)
        .frame_bytes_max(2 << 20)
        .preallocate_bytes(0)
        .build()
        .unwrap()
}

pub(crate) struct OnLog;

pub(crate) struct World {
    wal: WalQueue<MemStorage>,
    storage: MemStorage,
    pub(crate) time: ManualTime,
}

fn open(storage: MemStorage, builder: Builder, time: ManualTime) -> World {
    let opened = WalQueue::open(storage.clone(), config(), builder, time.clone());
    World {
        wal: opened.unwrap().0,
        storage,
        time,
    }
}

impl Harness for OnLog {
    type World = World;

    fn open(&self, setup: &Setup) -> World {
        open(MemStorage::new(), setup.builder(), ManualTime::new())
    }

    fn queue<'w>(&self, world: &'w World) -> &'w Queue {
        world.wal.queue()
    }

    fn reopen(&self, world: World, setup: &Setup) -> World {
        let World { wal, storage, time } = world;
        drop(wal);
        open(storage, setup.builder(), time)
    }

    fn advance(&self, world: &World, by: Duration) {
        world.time.advance(by);
    }
}

dpat_queue::queue_laws!(OnLog);

/// As the log, with a snapshot before each restart.
struct OnSnapshots;

impl Harness for OnSnapshots {
    type World = World;

    fn open(&self, setup: &Setup) -> World {
        OnLog.open(setup)
    }

    fn queue<'w>(&self, world: &'w World) -> &'w Queue {
        OnLog.queue(world)
    }

    fn reopen(&self, world: World, setup: &Setup) -> World {
        world.wal.snapshot().unwrap();
        OnLog.reopen(world, setup)
    }

    fn advance(&self, world: &World, by: Duration) {
        world.time.advance(by);
    }
}

mod snapshots {
    use super::OnSnapshots;

    dpat_queue::queue_laws!(OnSnapshots);
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let world = OnLog.open(&Setup::DEFAULT);
    let offered = OnLog.queue(&world).capabilities();
    let laws = Law::all(
        laws(),
        || OnLog,
        |name| {
            let declared = declared(name, &offered);
            (declared.offered, declared.note)
        },
    );
    conformance("log", "queue", laws).unwrap();
}
