//! The server is killed at random moments, and started again on its data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Classify, Effect, Entropy, SplitMix64, SystemClock, SystemEntropy, TokioTime};
use dpat_idempotency::conformance::Written;
use dpat_idempotency::{AnyStore, BeginError, Begun, Fingerprint, Key, Resolution, Responses};
use dpat_queue::{Delivery, Message, Outcome, Queue, Survives};
use dpat_redis::{Config, QueueSettings, QueueStore, ResponseLimits, ResponseStore};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// How many rounds there are, unless `DPAT_KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 5;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.faults(
            "a_killed_server_loses_nothing_acknowledged_and_brings_nothing_back",
            a_killed_server_loses_nothing_acknowledged_and_brings_nothing_back,
        ),
        live.faults(
            "with_a_response_store_no_effect_is_there_twice_though_the_server_is_killed",
            with_a_response_store_no_effect_is_there_twice_though_the_server_is_killed,
        ),
        live.faults(
            "a_killed_server_keeps_every_row_whose_change_was_acknowledged",
            a_killed_server_keeps_every_row_whose_change_was_acknowledged,
        ),
    ]
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
    done: BTreeSet<u64>,
    /// Nobody knows whether they are done.
    maybe_done: BTreeSet<u64>,
    seen: BTreeMap<u64, u32>,
}

struct Round {
    queue: Queue,
    book: Mutex<Book>,
    next: AtomicU64,
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(delivery.payload())
        .unwrap()
        .parse()
        .unwrap()
}

impl Round {
    /// Sends until it fails.
    async fn send(self: Arc<Self>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = self.queue.send(Message::new(number.to_string())).await;
            let mut book = self.book.lock().unwrap();
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

fn a_killed_server_loses_nothing_acknowledged_and_brings_nothing_back(
    mut server: Server,
) -> Result<(), Failed> {
    let rounds = rounds();
    let config = Config::new(&server.url(), "kills")?.timeout(Duration::from_secs(20))?;
    let settings = QueueSettings {
        visibility: Duration::from_secs(600),
        ..QueueSettings::DEFAULT
    };
    let store = run(QueueStore::open(&config, settings, TokioTime))?;
    let queue = store.queue();
    assert_eq!(queue.capabilities().survives, Survives::PowerLoss);
    let round = Arc::new(Round {
        queue,
        book: Mutex::default(),
        next: AtomicU64::new(0),
    });
    let entropy = SplitMix64::stream(7, "kills");
    let (mut counted, mut tried) = (0, 0);
    while counted < rounds {
        tried += 1;
        assert!(
            tried <= 3 * rounds,
            "{counted} of {tried} rounds had an unknown outcome"
        );
        let (sent, unknown) = sizes(&round);
        let mut tasks = Vec::new();
        run(async {
            for _ in 0..4 {
                tasks.push(tokio::spawn(Arc::clone(&round).send()));
            }
            for _ in 0..2 {
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
        run(store.release_all())?;
        run(drain(&round))?;
        check(&round);
    }
    let book = round.book.lock().unwrap();
    println!(
        "{counted} rounds counted of {tried}: {} acknowledged, {} unknown, {} done, nothing lost",
        book.sent.len(),
        book.unknown.len(),
        book.done.len()
    );
    Ok(())
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
    queue: Queue,
    responses: Responses<SystemClock>,
    /// How often each message took effect.
    effects: Mutex<BTreeMap<u64, u32>>,
    sent: Mutex<BTreeSet<u64>>,
}

impl Acting {
    /// Handles what comes until the server is gone, or there is nothing more; false: it is gone.
    async fn handle(&self) -> bool {
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
                let number = number(&delivery);
                let Some(outcome) = self.act(number).await else {
                    return false;
                };
                // Whether or not it is heard of: what comes again is answered as before.
                drop(self.queue.settle(delivery.receipt, outcome).await);
            }
        }
    }

    /// None: the store is gone.
    async fn act(&self, number: u64) -> Option<Outcome> {
        let key = Key::new("effects", &number.to_string()).unwrap();
        match self.responses.begin(&key, Fingerprint::NONE).await {
            Ok(Begun::First(claim)) => {
                *self.effects.lock().unwrap().entry(number).or_default() += 1;
                // If this is not heard of, the key is in doubt, or it is done.
                drop(claim.complete(Bytes::from_static(b"done")).await);
                Some(Outcome::Done)
            }
            Ok(Begun::Replay(_)) => Some(Outcome::Done),
            Err(BeginError::InDoubt { .. }) => {
                // An operator looks at what the effect has left.
                let acted = self.effects.lock().unwrap().contains_key(&number);
                let resolution = match acted {
                    true => Resolution::Done(Bytes::from_static(b"done")),
                    false => Resolution::NotDone,
                };
                drop(self.responses.resolve(&key, resolution).await);
                Some(Outcome::release())
            }
            Err(BeginError::Busy { .. }) => Some(Outcome::Retry {
                delay: Duration::from_millis(20),
                reason: "under way".to_owned(),
            }),
            Err(_) => None,
        }
    }
}

fn with_a_response_store_no_effect_is_there_twice_though_the_server_is_killed(
    mut server: Server,
) -> Result<(), Failed> {
    let config = Config::new(&server.url(), "acting")?.timeout(Duration::from_secs(20))?;
    let settings = QueueSettings {
        visibility: Duration::from_millis(100),
        ..QueueSettings::DEFAULT
    };
    let leases = dpat_idempotency::Config::builder()
        .lease(Duration::from_millis(100))
        .build()?;
    let (queue, store) = run(async {
        let queue = QueueStore::open(&config, settings, TokioTime)
            .await?
            .queue();
        let store = ResponseStore::open(&config, ResponseLimits::DEFAULT).await?;
        Ok::<_, Failed>((queue, store))
    })?;
    let acting = Arc::new(Acting {
        queue,
        responses: Responses::new(leases, AnyStore::new(store), SystemClock, SystemEntropy),
        effects: Mutex::default(),
        sent: Mutex::default(),
    });
    let entropy = SplitMix64::stream(11, "acting");
    for round in 0..3 {
        let all = 40;
        run(async {
            for number in round * all..(round + 1) * all {
                acting.queue.send(Message::new(number.to_string())).await?;
                acting.sent.lock().unwrap().insert(number);
            }
            Ok::<_, Failed>(())
        })?;
        let handlers: Vec<_> = (0..3)
            .map(|_| {
                let acting = Arc::clone(&acting);
                kit::spawn(async move { acting.handle().await })
            })
            .collect();
        let before = acting.effects.lock().unwrap().len();
        let enough = before + 1 + usize::try_from(entropy.below(20)).unwrap();
        while acting.effects.lock().unwrap().len() < enough {
            std::thread::yield_now();
        }
        server.kill();
        for handler in handlers {
            run(handler)?;
        }
        server.restart()?;
        let gave_up = tokio::time::Instant::now() + Duration::from_secs(60);
        while acting.effects.lock().unwrap().len() < acting.sent.lock().unwrap().len()
            || left(&acting)?
        {
            assert!(
                tokio::time::Instant::now() < gave_up,
                "messages do not come"
            );
            run(acting.handle());
        }
    }
    let effects = acting.effects.lock().unwrap();
    let twice: Vec<_> = effects.iter().filter(|(_, times)| **times != 1).collect();
    assert!(
        twice.is_empty(),
        "effects and how often they are there: {twice:?}"
    );
    Ok(())
}

fn left(acting: &Acting) -> Result<bool, Failed> {
    let stats = run(acting.queue.stats())?;
    Ok(stats.ready + stats.waiting + stats.leased > 0)
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
