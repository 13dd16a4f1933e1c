//! The laws of a queue.

use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::Queue;
use dpat_queue::conformance::{Harness, Setup};
use dpat_redis::{Config, QueueClock, QueueSettings, QueueStore};
use dpat_testkit::live::{Law, Live, conformance};
use libtest_mimic::Trial;

use crate::kit::{self, url};

/// A queue of its own for each world, by a clock that the law moves.
struct OnServer;

struct World {
    config: Config,
    store: QueueStore,
    queue: Queue,
    time: ManualTime,
}

fn open(config: Config, time: ManualTime, setup: &Setup) -> World {
    let settings = QueueSettings {
        visibility: setup.visibility,
        dedup_window: setup.dedup_window,
        messages_max: setup.messages_max,
        dead_max: setup.dead_max,
        clock: QueueClock::Caller,
        ..QueueSettings::DEFAULT
    };
    let store = kit::run(QueueStore::open(&config, settings, time.clone())).unwrap();
    World {
        queue: store.queue(),
        config,
        store,
        time,
    }
}

impl Harness for OnServer {
    type World = World;

    fn open(&self, setup: &Setup) -> World {
        open(kit::config(&url()), ManualTime::new(), setup)
    }

    fn queue<'w>(&self, world: &'w World) -> &'w Queue {
        &world.queue
    }

    fn reopen(&self, world: World, setup: &Setup) -> World {
        let World { config, time, .. } = world;
        let world = open(config, time, setup);
        // The only process that receives.
        kit::run(world.store.release_all()).unwrap();
        world
    }

    fn advance(&self, world: &World, by: Duration) {
        world.time.advance(by);
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        kit::run(future)
    }
}

fn suite() -> Vec<Law> {
    let capabilities = OnServer.open(&Setup::DEFAULT).queue.capabilities();
    let laws = dpat_queue::conformance::laws::<OnServer>().into_iter();
    let laws = laws.map(|(name, law)| {
        let declared = dpat_queue::conformance::declared(name, &capabilities);
        Law::new(name, declared.offered, declared.note, move || {
            law(&OnServer).map_err(|violation| violation.to_string())
        })
    });
    laws.collect()
}

pub(crate) fn redis_keeps_the_laws_of_queue(live: &Live) -> Trial {
    // The suite asks the server what it offers: when it runs, not when it is listed.
    live.trial("redis_keeps_the_laws_of_queue", |_| {
        conformance("redis", "queue", suite())
    })
}
