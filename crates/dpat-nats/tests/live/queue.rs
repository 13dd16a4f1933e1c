//! A queue on JetStream.

use std::future::Future;
use std::time::Duration;

use dpat_nats::dpat_queue::conformance::{Harness, Pace, Setup, declared, laws};
use dpat_nats::dpat_queue::{Message, Outcome, Queue};
use dpat_nats::{Connection, QueueSettings, StreamQueue};
use dpat_testkit::live::{Law, Live, conformance};
use libtest_mimic::{Failed, Trial};

use super::kit::{block_on, connect, name, pass, trials};

const LEASE: Duration = Duration::from_millis(1_500);

struct Queues {
    url: String,
}

struct World {
    connection: Connection,
    store: StreamQueue,
    queue: Queue,
    name: String,
    /// Another world goes on with its streams.
    is_left: bool,
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.is_left {
            // The server goes as well, after all tests.
            drop(block_on(self.store.delete()));
        }
    }
}

impl Queues {
    fn of_env() -> Self {
        let url = std::env::var("DPAT_NATS_URL").unwrap_or_default();
        Self { url }
    }

    fn world(&self, name: String, setup: &Setup) -> World {
        let connection = connect(&self.url).expect("a server that is there");
        let settings = QueueSettings::new(&name)
            .expect("a name")
            // Servers set the bytes aside when a stream is made.
            .bytes_max(16 << 20)
            .dead_bytes_max(4 << 20)
            .visibility(setup.visibility)
            .dedup_window(setup.dedup_window)
            .messages_max(setup.messages_max)
            .dead_max(setup.dead_max);
        let store = block_on(StreamQueue::open(&connection, settings)).expect("a queue");
        World {
            connection,
            queue: store.queue(),
            store,
            name,
            is_left: false,
        }
    }
}

impl Harness for Queues {
    type World = World;

    fn pace(&self) -> Pace {
        Pace::Real
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::DEFAULT;
        (setup.visibility, setup.dedup_window) = (LEASE, 7 * LEASE / 2);
        setup
    }

    fn open(&self, setup: &Setup) -> World {
        self.world(name("queue"), setup)
    }

    fn queue<'w>(&self, world: &'w World) -> &'w Queue {
        &world.queue
    }

    fn reopen(&self, mut world: World, setup: &Setup) -> World {
        block_on(world.connection.close());
        world.is_left = true;
        self.world(world.name.clone(), setup)
    }

    fn advance(&self, _: &World, by: Duration) {
        pass(by);
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        block_on(future)
    }
}

fn suite() -> Vec<Law> {
    let harness = Queues::of_env();
    let offered = harness.open(&harness.setup()).queue.capabilities();
    Law::all(laws(), Queues::of_env, |name| {
        let told = declared(name, &offered);
        (told.offered, told.note)
    })
}

fn nats_keeps_the_laws_of_queue(live: &Live) -> Trial {
    // The suite asks the server what it offers: when it runs, not when it is listed.
    live.trial("nats_keeps_the_laws_of_queue", |_| {
        conformance("nats", "queue", suite())
    })
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    let mut all = trials!(live, trial a_receive_that_does_not_wait_finds_what_was_sent);
    all.push(nats_keeps_the_laws_of_queue(live));
    all
}

/// The consumer hears of a message a moment after the send was answered.
fn a_receive_that_does_not_wait_finds_what_was_sent(url: &str) -> Result<(), Failed> {
    const TURNS: u32 = 200;
    let connection = connect(url)?;
    let settings = QueueSettings::new(&name("at-once"))?.bytes_max(4 << 20);
    let store = block_on(StreamQueue::open(
        &connection,
        settings.dead_bytes_max(1 << 20),
    ))?;
    let queue = store.queue();
    block_on(async {
        for turn in 0..TURNS {
            let sent = queue.send(Message::new(turn.to_string())).await?;
            let received = queue.receive_batch(10, Duration::ZERO).await?;
            let [delivery] = &received[..] else {
                return Err(format!("turn {turn}: {} messages", received.len()).into());
            };
            assert_eq!(delivery.id(), sent.id);
            queue.settle(delivery.receipt, Outcome::Done).await?;
            assert!(queue.receive_batch(1, Duration::ZERO).await?.is_empty());
        }
        Ok(())
    })
}
