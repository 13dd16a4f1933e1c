//! The laws of a queue, and sends in transactions.

use std::time::Duration;

use dpat_core::ManualTime;
use dpat_postgres::{Config, QueueSettings, QueueStore, commit};
use dpat_queue::conformance::{Harness, Setup};
use dpat_queue::{Capabilities, Capability, Message, Queue, Requirements, Survives};
use dpat_testkit::live::{Law, Live};
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

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
        ..QueueSettings::DEFAULT
    };
    let store = run(QueueStore::open(&config, settings, time.clone())).unwrap();
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
        open(kit::config(&kit::url()), ManualTime::new(), setup)
    }

    fn queue<'w>(&self, world: &'w World) -> &'w Queue {
        &world.queue
    }

    fn reopen(&self, world: World, setup: &Setup) -> World {
        let World { config, time, .. } = world;
        let world = open(config, time, setup);
        // The only process that receives.
        run(world.store.release_all()).unwrap();
        world
    }

    fn advance(&self, world: &World, by: Duration) {
        world.time.advance(by);
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        run(future)
    }
}

fn postgres_keeps_the_laws_of_queue(live: &Live) -> Trial {
    let capabilities = match std::env::var("DPAT_POSTGRES_URL") {
        Ok(_) => OnServer.open(&Setup::DEFAULT).queue.capabilities(),
        Err(_) => Capabilities::default(),
    };
    let laws = dpat_queue::conformance::laws::<OnServer>().into_iter();
    let laws = laws.map(|(name, law)| {
        let declared = dpat_queue::conformance::declared(name, &capabilities);
        Law::new(name, declared.offered, declared.note, move || {
            law(&OnServer).map_err(|violation| violation.to_string())
        })
    });
    live.laws("queue", laws.collect())
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        postgres_keeps_the_laws_of_queue(live),
        live.trial(
            "a_message_is_sent_with_the_change_or_not_at_all",
            a_message_is_sent_with_the_change_or_not_at_all,
        ),
    ]
}

fn a_message_is_sent_with_the_change_or_not_at_all(url: &str) -> Result<(), Failed> {
    let world = OnServer.open(&Setup::DEFAULT);
    let needs = Requirements::new()
        .needs(Capability::TransactionalSend)
        .survives(Survives::PowerLoss);
    world.queue.require(&needs)?;
    run(async {
        let mut client = kit::client(url).await;
        let none = Duration::ZERO;
        for commits in [false, true] {
            let mut tx = client.transaction().await?;
            world.store.send(&mut tx, &Message::new("m")).await?;
            let before = world.queue.receive_batch(9, none).await?;
            assert!(before.is_empty(), "before the commit");
            match commits {
                true => commit(tx).await?,
                false => tx.rollback().await?,
            }
            let received = world.queue.receive_batch(9, none).await?;
            assert_eq!(received.len(), usize::from(commits));
        }
        Ok(())
    })
}
