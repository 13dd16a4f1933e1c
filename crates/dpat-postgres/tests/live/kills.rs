//! The server is killed at random moments, and started again on its data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Classify, Effect, Entropy, SplitMix64, SystemClock, TokioTime};
use dpat_idempotency::conformance::Written;
use dpat_idempotency::{Fingerprint, Key};
use dpat_postgres::tokio_postgres::Client;
use dpat_postgres::{
    Arrived, Config, EngineError, Inbox, QueueSettings, QueueStore, ResponseLimits, ResponseStore,
    commit,
};
use dpat_queue::{Delivery, Message, Outcome, Queue, Survives};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// How many rounds there are, unless `DPAT_KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 5;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.faults(
            "a_killed_server_loses_no_message_acknowledged_and_brings_nothing_back",
            a_killed_server_loses_no_message_acknowledged_and_brings_nothing_back,
        ),
        live.faults(
            "with_an_inbox_a_message_takes_effect_once_though_the_server_is_killed",
            with_an_inbox_a_message_takes_effect_once_though_the_server_is_killed,
        ),
        live.faults(
            "a_killed_server_keeps_every_row_whose_change_was_acknowledged",
            a_killed_server_keeps_every_row_whose_change_was_acknowledged,
        ),
    ]
}

pub(crate) fn rounds() -> u64 {
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
    done: BTreeSet<u64>,
    /// Nobody knows whether they are done.
    maybe_done: BTreeSet<u64>,
    seen: BTreeMap<u64, u32>,
}

struct Round {
    url: String,
    store: QueueStore,
    queue: Queue,
    book: Mutex<Book>,
    next: AtomicU64,
}

fn number(delivery: &Delivery) -> u64 {
    let text = std::str::from_utf8(delivery.payload()).unwrap();
    text.parse().unwrap()
}

/// Some have keys, some are deduplicated.
fn message(number: u64) -> Message {
    let message = Message::new(number.to_string());
    match number % 4 {
        0 => message.key(format!("k{}", number % 3)),
        1 => message.dedup(number.to_string()),
        _ => message,
    }
}

impl Round {
    fn noted(&self, number: u64, sent: Result<(), Effect>) -> bool {
        let mut book = self.book.lock().unwrap();
        match sent {
            Ok(()) => book.sent.insert(number),
            Err(Effect::Unknown) => {
                book.unknown.insert(number);
                false
            }
            Err(Effect::NotDone) => {
                book.not_sent.insert(number);
                false
            }
        }
    }

    /// Sends until it fails.
    async fn send(self: Arc<Self>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = self.queue.send(message(number)).await;
            let sent = sent.map(drop).map_err(|error| error.effect());
            if !self.noted(number, sent) {
                return;
            }
        }
    }

    /// Sends with a change in one transaction, until it fails.
    async fn send_within(self: Arc<Self>) {
        // It may be killed before this is connected.
        let Ok(mut client) = kit::connected(&self.url).await else {
            return;
        };
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = self.send_with_change(&mut client, number).await;
            if !self.noted(number, sent) {
                return;
            }
        }
    }

    async fn send_with_change(&self, client: &mut Client, number: u64) -> Result<(), Effect> {
        let failed = |error| EngineError::of(error).effect();
        let mut tx = client.transaction().await.map_err(failed)?;
        let change = "INSERT INTO own VALUES ($1)";
        tx.execute(change, &[&number.cast_signed()])
            .await
            .map_err(failed)?;
        let sent = self.store.send(&mut tx, &message(number)).await;
        sent.map_err(|error| error.effect())?;
        commit(tx).await.map_err(|error| error.effect())
    }

    /// Receives and settles until it fails.
    async fn handle(self: Arc<Self>) {
        loop {
            let Ok(received) = self.queue.receive_batch(2, Duration::from_secs(1)).await else {
                return;
            };
            for delivery in received {
                if !self.settle(&delivery).await {
                    return;
                }
            }
        }
    }

    async fn settle(&self, delivery: &Delivery) -> bool {
        let number = number(delivery);
        {
            let mut book = self.book.lock().unwrap();
            assert!(
                !book.done.contains(&number),
                "{number} is done, and comes again"
            );
            assert!(
                !book.not_sent.contains(&number),
                "{number} was not sent, and comes"
            );
            let before = book.seen.insert(number, delivery.count);
            assert!(
                before.is_none_or(|before| before < delivery.count),
                "{number}: the count falls"
            );
        }
        let settled = self.queue.settle(delivery.receipt, Outcome::Done).await;
        let mut book = self.book.lock().unwrap();
        match settled {
            Ok(()) => book.done.insert(number),
            Err(error) if error.effect() == Effect::Unknown => book.maybe_done.insert(number),
            // Stale: it was settled by a call of which nobody heard, or will come again.
            Err(_) => false,
        }
    }
}

fn a_killed_server_loses_no_message_acknowledged_and_brings_nothing_back(
    mut server: Server,
) -> Result<(), Failed> {
    let rounds = rounds();
    let config = Config::new(&server.url(), "kills")?.timeout(Duration::from_secs(20))?;
    let settings = QueueSettings {
        visibility: Duration::from_secs(600),
        ..QueueSettings::DEFAULT
    };
    let round = run(async {
        let client = kit::client(&server.url()).await;
        client.batch_execute("CREATE TABLE own (n bigint)").await?;
        let store = QueueStore::open(&config, settings, TokioTime).await?;
        Ok::<_, Failed>(Arc::new(Round {
            url: server.url(),
            queue: store.queue(),
            store,
            book: Mutex::default(),
            next: AtomicU64::new(0),
        }))
    })?;
    assert_eq!(round.queue.capabilities().survives, Survives::PowerLoss);
    let entropy = SplitMix64::stream(7, "kills");
    let (mut counted, mut tried) = (0, 0);
    while counted < rounds {
        tried += 1;
        assert!(
            tried <= 10 * rounds,
            "{counted} of {tried} rounds had an unknown outcome"
        );
        let (sent, unknown) = sizes(&round);
        let mut tasks = Vec::new();
        run(async {
            for _ in 0..2 {
                tasks.push(tokio::spawn(Arc::clone(&round).send()));
                tasks.push(tokio::spawn(Arc::clone(&round).send_within()));
                tasks.push(tokio::spawn(Arc::clone(&round).handle()));
            }
            // A moment that is different each time, by what has happened and not by the clock.
            let enough = sent + 1 + usize::try_from(entropy.below(200)).unwrap();
            while sizes(&round).0 < enough {
                tokio::task::yield_now().await;
            }
        });
        server.kill();
        run(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        server.restart()?;
        let (sent_now, unknown_now) = sizes(&round);
        if sent_now > sent && unknown_now > unknown {
            counted += 1;
        }
        // What was handed out and not settled comes again.
        run(round.store.release_all())?;
        run(drain(&round))?;
        check(&round);
    }
    let changes = run(changes(&server.url()))?;
    assert!(!changes.is_empty(), "nobody was ever connected");
    let book = round.book.lock().unwrap();
    for change in &changes {
        assert!(book.seen.contains_key(change), "{change} has no message");
    }
    println!(
        "{counted} rounds counted of {tried}: {} acknowledged, {} unknown, {} done, {} changes with their messages, \
         nothing lost",
        book.sent.len(),
        book.unknown.len(),
        book.done.len(),
        changes.len()
    );
    Ok(())
}

async fn changes(url: &str) -> Result<Vec<u64>, Failed> {
    let client = kit::client(url).await;
    let rows = client.query("SELECT n FROM own", &[]).await?;
    let changes = rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned());
    Ok(changes.collect())
}

fn sizes(round: &Round) -> (usize, usize) {
    let book = round.book.lock().unwrap();
    (book.sent.len(), book.unknown.len())
}

async fn drain(round: &Round) -> Result<(), Failed> {
    loop {
        let received = round.queue.receive_batch(100, Duration::ZERO).await?;
        if received.is_empty() {
            return Ok(());
        }
        for delivery in received {
            assert!(round.settle(&delivery).await, "the server is there again");
        }
    }
}

/// Everything that was acknowledged was seen, and is gone.
fn check(round: &Round) {
    let mut book = round.book.lock().unwrap();
    // After the drain nothing is left, so that what was settled without an answer is done.
    let maybe = std::mem::take(&mut book.maybe_done);
    let lost: Vec<&u64> = book
        .sent
        .iter()
        .filter(|one| !book.done.contains(one) && !maybe.contains(one))
        .collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    book.done.extend(maybe);
}

/// Acts once on what comes more than once.
struct Acting {
    url: String,
    queue: Queue,
    inbox: Inbox,
    handled: AtomicU64,
}

impl Acting {
    /// Handles what comes until the server is gone, or there is nothing more; false: it is gone.
    async fn handle(&self) -> bool {
        let Ok(mut client) = kit::connected(&self.url).await else {
            return false;
        };
        loop {
            let received = self
                .queue
                .receive_batch(5, Duration::from_millis(200))
                .await;
            let Ok(received) = received else {
                return false;
            };
            if received.is_empty() {
                return true;
            }
            for delivery in received {
                if self.act(&mut client, number(&delivery)).await.is_err() {
                    return false;
                }
                // Whether or not it is heard of: what comes again has its marker.
                drop(self.queue.settle(delivery.receipt, Outcome::Done).await);
            }
        }
    }

    async fn act(&self, client: &mut Client, number: u64) -> Result<(), Failed> {
        let key = Key::new("effects", &number.to_string())?;
        let mut tx = client.transaction().await?;
        let arrived = self.inbox.accept(&mut tx, &key, Fingerprint::NONE).await?;
        if let Arrived::First(accepting) = arrived {
            let effect = "INSERT INTO own VALUES ($1)";
            tx.execute(effect, &[&number.cast_signed()]).await?;
            let now = dpat_core::Clock::wall(&SystemClock);
            accepting.done(&mut tx, Bytes::new(), now).await?;
        }
        commit(tx).await?;
        self.handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn with_an_inbox_a_message_takes_effect_once_though_the_server_is_killed(
    mut server: Server,
) -> Result<(), Failed> {
    const EACH: u64 = 40;
    let config = Config::new(&server.url(), "acting")?.timeout(Duration::from_secs(20))?;
    let settings = QueueSettings {
        visibility: Duration::from_millis(100),
        ..QueueSettings::DEFAULT
    };
    let acting = run(async {
        let client = kit::client(&server.url()).await;
        client.batch_execute("CREATE TABLE own (n bigint)").await?;
        let store = QueueStore::open(&config, settings, TokioTime).await?;
        Ok::<_, Failed>(Arc::new(Acting {
            url: server.url(),
            queue: store.queue(),
            inbox: Inbox::open(&config).await?,
            handled: AtomicU64::new(0),
        }))
    })?;
    let entropy = SplitMix64::stream(11, "acting");
    for round in 0..3 {
        let mut handlers = Vec::new();
        run(async {
            for number in round * EACH..(round + 1) * EACH {
                acting.queue.send(Message::new(number.to_string())).await?;
            }
            let enough = acting.handled.load(Ordering::Relaxed) + 1 + entropy.below(20);
            for _ in 0..3 {
                let acting = Arc::clone(&acting);
                handlers.push(tokio::spawn(async move { acting.handle().await }));
            }
            while acting.handled.load(Ordering::Relaxed) < enough {
                tokio::task::yield_now().await;
            }
            Ok::<_, Failed>(())
        })?;
        server.kill();
        run(async {
            for handler in handlers {
                handler.await?;
            }
            Ok::<_, Failed>(())
        })?;
        server.restart()?;
        for _ in 0..1_000 {
            let stats = run(acting.queue.stats())?;
            if stats.ready + stats.waiting + stats.leased == 0 {
                break;
            }
            run(acting.handle());
        }
    }
    let mut effects = run(changes(&server.url()))?;
    effects.sort_unstable();
    assert!(
        effects.iter().copied().eq(0..3 * EACH),
        "each once: {effects:?}"
    );
    Ok(())
}

fn a_killed_server_keeps_every_row_whose_change_was_acknowledged(
    mut server: Server,
) -> Result<(), Failed> {
    let config = Config::new(&server.url(), "rows")?.timeout(Duration::from_secs(2))?;
    let written = Written::new(run(ResponseStore::open(&config, ResponseLimits::DEFAULT))?);
    let entropy = SplitMix64::stream(13, "rows");
    let counted = written.rounds(
        rounds(),
        &entropy,
        &mut server,
        Server::kill,
        Server::restart,
    );
    println!("{}", run(counted)?);
    Ok(())
}
