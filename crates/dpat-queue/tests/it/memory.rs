//! The laws hold in memory.

use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::Queue;
use dpat_queue::conformance::{Harness, Setup};

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
