//! The laws hold in memory.

use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::Queue;
use dpat_queue::conformance::{Harness, Setup};
use dpat_queue::conformance::{declared, laws};
use dpat_testkit::live::{Law, conformance};

pub(crate) struct InMemory;

impl Harness for InMemory {
    type World = (Queue, ManualTime);

    fn open(&self, setup: &Setup) -> Self::World {
        let time = ManualTime::new();
        (setup.builder().in_memory(time.clone()).unwrap(), time)
    }

    fn queue<'w>(&self, world: &'w Self::World) -> &'w Queue {
        &world.0
    }

    fn reopen(&self, world: Self::World, setup: &Setup) -> Self::World {
        drop(world);
        self.open(setup)
    }

    fn advance(&self, world: &Self::World, by: Duration) {
        world.1.advance(by);
    }
}

dpat_queue::queue_laws!(InMemory);

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let world = InMemory.open(&Setup::DEFAULT);
    let offered = InMemory.queue(&world).capabilities();
    let laws = Law::all(
        laws(),
        || InMemory,
        |name| {
            let declared = declared(name, &offered);
            (declared.offered, declared.note)
        },
    );
    conformance("memory", "queue", laws).unwrap();
}
