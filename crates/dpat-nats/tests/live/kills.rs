//! The server is killed at random moments, and started again on its data.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dpat_core::{Classify as _, Effect, Entropy as _, SplitMix64};
use dpat_nats::dpat_idempotency::conformance::Written;
use dpat_nats::dpat_queue::{Delivery, Message, Outcome, Queue, Survives};
use dpat_nats::{Connection, ResponseStore, ServerVersion, StoreSettings, StreamQueue};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};
use tokio::sync::Mutex;

use super::faults::small;
use super::kit::{block_on, config, connect, trials};

/// How many rounds there are, unless `DPAT_KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 5;

const LEASE: Duration = Duration::from_secs(1);

/// Servers from here on write what is settled before they answer; tried on 2.15.1.
const SETTLED_STAYS: ServerVersion = ServerVersion::new(2, 15, 0);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    trials!(
        live,
        faults a_killed_server_loses_no_message_that_was_acknowledged,
        faults a_killed_server_keeps_every_row_whose_change_was_acknowledged,
    )
}

fn rounds() -> u64 {
    let rounds = std::env::var("DPAT_KILL_ROUNDS").ok();
    rounds
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS)
}

/// What became of each message, by its number.
#[derive(Default)]
struct Book {
    sent: BTreeSet<u64>,
    /// Nobody knows whether they are there.
    unknown: BTreeSet<u64>,
    not_sent: BTreeSet<u64>,
    seen: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// They were done, and came again.
    back: BTreeSet<u64>,
}

struct Round {
    queue: Queue,
    book: Mutex<Book>,
    next: AtomicU64,
}

fn number(delivery: &Delivery) -> u64 {
    let text = String::from_utf8_lossy(delivery.payload());
    text.parse().expect("a number that was sent")
}

impl Round {
    /// Sends until it fails.
    async fn send(self: Arc<Self>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = self.queue.send(Message::new(number.to_string())).await;
            let mut book = self.book.lock().await;
            match sent {
                Ok(_) => drop(book.sent.insert(number)),
                Err(error) => {
                    match error.effect() {
                        Effect::Unknown => book.unknown.insert(number),
                        Effect::NotDone => book.not_sent.insert(number),
                    };
                    return;
                }
            }
        }
    }

    /// Receives and settles until it fails.
    async fn handle(self: Arc<Self>) {
        while let Ok(received) = self.queue.receive_batch(2, LEASE).await {
            for delivery in received {
                if !self.settle(&delivery).await {
                    return;
                }
            }
        }
    }

    async fn settle(&self, delivery: &Delivery) -> bool {
        let number = number(delivery);
        let mut book = self.book.lock().await;
        assert!(
            !book.not_sent.contains(&number),
            "{number} was not sent, and comes"
        );
        if book.done.contains(&number) {
            book.back.insert(number);
        }
        book.seen.insert(number);
        drop(book);
        let settled = self.queue.settle(delivery.receipt, Outcome::Done).await;
        if settled.is_ok() {
            self.book.lock().await.done.insert(number);
        }
        settled.is_ok()
    }

    /// How many were sent, and of how many nobody knows.
    async fn sizes(&self) -> (usize, usize) {
        let book = self.book.lock().await;
        (book.sent.len(), book.unknown.len())
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a run of many rounds says what it has counted"
)]
fn a_killed_server_loses_no_message_that_was_acknowledged(
    mut server: Server,
) -> Result<(), Failed> {
    let rounds = rounds();
    let connection = connect(&server.url())?;
    let settings = small("kills")?.visibility(LEASE).bytes_max(64 << 20);
    let store = block_on(StreamQueue::open(&connection, settings.clone()))?;
    assert_eq!(store.queue().capabilities().survives, Survives::ProcessKill);
    let round = Arc::new(Round {
        queue: store.queue(),
        book: Mutex::default(),
        next: AtomicU64::new(0),
    });
    let entropy = SplitMix64::stream(7, "kills");
    let (mut counted, mut tried) = (0, 0);
    while counted < rounds {
        tried += 1;
        assert!(
            tried <= 3 * rounds + 3,
            "{counted} of {tried} rounds had an unknown outcome"
        );
        let (sent, unknown) = block_on(round.sizes());
        let tasks = block_on(async {
            let mut tasks = Vec::new();
            for _ in 0..4 {
                tasks.push(tokio::spawn(Arc::clone(&round).send()));
            }
            for _ in 0..2 {
                tasks.push(tokio::spawn(Arc::clone(&round).handle()));
            }
            // A moment that is different each time, by what has happened and not by the clock.
            let enough = sent + 1 + usize::try_from(entropy.below(200)).unwrap_or(0);
            while round.sizes().await.0 < enough {
                tokio::task::yield_now().await;
            }
            tasks
        });
        server.kill();
        block_on(async {
            for task in tasks {
                task.await.expect("no panic");
            }
        });
        server.restart()?;
        let now = block_on(round.sizes());
        counted += u64::from(now.0 > sent && now.1 > unknown);
        // A restart finds the streams, and sweeps them.
        block_on(StreamQueue::open(&connection, settings.clone()))?;
        block_on(drain(&round, &store))?;
        let book = block_on(round.book.lock());
        let lost: Vec<_> = book.sent.difference(&book.seen).collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        assert!(
            book.back.is_empty() || connection.server_version() < SETTLED_STAYS,
            "done, and came again: {:?}",
            book.back
        );
    }
    let book = block_on(round.book.lock());
    let (all, unknown, back) = (book.sent.len(), book.unknown.len(), book.back.len());
    println!(
        "{counted} rounds counted of {tried}: {all} acknowledged, {unknown} unknown, none lost, {back} came again although they were done"
    );
    Ok(())
}

/// Works off what is there, and what is out until its lease ends.
async fn drain(round: &Round, store: &StreamQueue) -> Result<(), Failed> {
    loop {
        let received = round.queue.receive_batch(100, LEASE).await?;
        for delivery in &received {
            assert!(round.settle(delivery).await, "the server is there again");
        }
        let status = store.status().await?;
        if received.is_empty() && status.out + status.fresh == 0 {
            return Ok(());
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a run of many rounds says what it has counted"
)]
fn a_killed_server_keeps_every_row_whose_change_was_acknowledged(
    mut server: Server,
) -> Result<(), Failed> {
    let config = config(&server.url())?.request_timeout(Duration::from_secs(2))?;
    let connection = block_on(Connection::open(&config))?;
    let settings = StoreSettings::new("rows")?.bytes_max(64 << 20);
    let written = Written::new(block_on(ResponseStore::open(&connection, settings))?);
    let entropy = SplitMix64::stream(13, "rows");
    // Each has to end within the deadline of what runs here.
    for _ in 0..rounds() {
        let counted = written.rounds(1, &entropy, &mut server, Server::kill, Server::restart);
        println!("{}", block_on(counted)?);
    }
    Ok(())
}
