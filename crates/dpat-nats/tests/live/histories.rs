//! Several workers at once, judged by the delivery model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dpat_check::{History, Operation, Value, Violation, check_delivery};
use dpat_core::{Classify as _, Effect, Entropy as _, SplitMix64};
use dpat_model::{Event, Kind};
use dpat_nats::dpat_queue::{Message, MessageId, Outcome, Queue, Receipt};
use dpat_nats::{Connection, StreamQueue};
use dpat_testkit::live::Live;
use dpat_testkit::proxy::Proxy;
use libtest_mimic::{Failed, Trial};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::faults::small;
use super::kit::{block_on, config, connect, name, trials};
use super::promised::{LEASES_HOLD, promised};

const LEASE: Duration = Duration::from_secs(3);
const WORKERS: u64 = 6;
const OPS: u64 = 60;
const SEEDS: u64 = 3;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    trials!(live, trial histories_of_several_workers_are_those_of_a_queue_with_receipts)
}

/// A history in which each call is a process of its own.
struct Book {
    began: Instant,
    events: Mutex<(u64, Vec<Event<Value>>)>,
    names: AtomicU64,
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.map(|(name, value)| (name.into(), value)).into())
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

impl Book {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Not before this, whenever the server did it: it did it after the call.
    fn after(&self, time: Duration) -> Value {
        int(self.now() + u64::try_from(time.as_nanos()).unwrap_or(0))
    }

    async fn note(&self, process: Option<u64>, kind: Kind, f: &'static str, value: Value) -> u64 {
        let mut events = self.events.lock().await;
        let process = process.unwrap_or_else(|| {
            events.0 += 1;
            events.0
        });
        let (f, time_ns) = (f.into(), self.now());
        events.1.push(Event {
            time_ns,
            process,
            kind,
            f,
            value,
        });
        process
    }

    async fn call(&self, f: &'static str, value: Value) -> u64 {
        self.note(None, Kind::Invoke, f, value).await
    }

    async fn answer(&self, call: u64, f: &'static str, answer: Result<Value, Effect>) {
        let (kind, value) = match answer {
            Ok(value) => (Kind::Ok, value),
            Err(Effect::NotDone) => (Kind::Fail, Value::Nil),
            Err(Effect::Unknown) => (Kind::Info, Value::Nil),
        };
        self.note(Some(call), kind, f, value).await;
    }

    fn name(&self) -> u64 {
        self.names.fetch_add(1, Ordering::Relaxed)
    }
}

/// The sequence number of a message: the rules do not look at it, whoever reads a broken history does.
fn seq(id: MessageId) -> u64 {
    u64::try_from(id.get()).unwrap_or(u64::MAX)
}

fn id(payload: &[u8]) -> Value {
    let text = String::from_utf8_lossy(payload);
    int(text.parse().expect("a number that was sent"))
}

/// One worker: sends, receives, and settles what it got, each receipt once.
async fn work(queue: Queue, book: Arc<Book>, seed: u64) {
    let entropy = SplitMix64::stream(seed, "worker");
    let mut out = Vec::new();
    for _ in 0..OPS {
        match entropy.below(8) {
            0..=2 => send(&queue, &book).await,
            3..=5 => receive(&queue, &book, &mut out).await,
            _ => {
                if let Some((name, receipt)) = out.pop() {
                    settle(&queue, &book, &entropy, name, receipt).await;
                }
            }
        }
    }
}

async fn send(queue: &Queue, book: &Book) {
    let id = book.name();
    let value = map([("id", int(id)), ("after_ns", book.after(Duration::ZERO))]);
    let call = book.call("send", value).await;
    let sent = queue.send(Message::new(id.to_string())).await;
    let sent = sent.map(|sent| map([("seq", int(seq(sent.id)))]));
    let sent = sent.map_err(|error| error.effect());
    book.answer(call, "send", sent).await;
}

async fn receive(queue: &Queue, book: &Book, out: &mut Vec<(u64, Receipt)>) {
    let call = book.call("receive", Value::Nil).await;
    let until = book.after(LEASE);
    let received = queue.receive_batch(1, Duration::ZERO).await;
    let received = received.map_err(|error| error.effect());
    let answer = received.map(|received| {
        received.first().map_or(Value::Nil, |delivery| {
            let name = book.name();
            out.push((name, delivery.receipt));
            map([
                ("id", id(delivery.payload())),
                ("receipt", int(name)),
                ("count", int(delivery.count.into())),
                ("until_ns", until),
                ("seq", int(seq(delivery.id()))),
            ])
        })
    });
    book.answer(call, "receive", answer).await;
}

async fn settle(queue: &Queue, book: &Book, entropy: &SplitMix64, name: u64, receipt: Receipt) {
    let named = ("receipt", int(name));
    let delay = LEASE / 6 * u32::try_from(entropy.below(3)).unwrap_or(0);
    let reason = "no".to_owned();
    let (f, value, outcome) = match entropy.below(4) {
        0 => {
            let value = map([named, ("after_ns", book.after(delay))]);
            ("nack", value, Outcome::Retry { delay, reason })
        }
        1 => ("reject", map([named]), Outcome::Reject { reason }),
        _ => ("ack", map([named]), Outcome::Done),
    };
    let call = book.call(f, value).await;
    let settled = queue.settle(receipt, outcome).await;
    let settled = settled.map(|()| Value::Nil).map_err(|error| error.effect());
    book.answer(call, f, settled).await;
}

/// What is still there, once all leases are over.
async fn left(store: &StreamQueue) -> Result<Value, Failed> {
    let queue = store.queue();
    let mut ids = Vec::new();
    loop {
        for delivery in queue.receive_batch(100, LEASE).await? {
            ids.push(id(delivery.payload()));
            queue.settle(delivery.receipt, Outcome::Done).await?;
        }
        let status = store.status().await?;
        if status.out + status.fresh == 0 {
            break;
        }
    }
    let letters = queue.dead_letters(None, 1_000).await?;
    ids.extend(letters.iter().map(|one| id(one.message.payload())));
    Ok(Value::List(ids))
}

/// The violation, and every operation on the message that it is about.
fn told(history: &History, violation: &Violation) -> String {
    let key = violation.key.as_ref();
    let all = history.operations();
    let result = |one: &Operation, name: &str| one.result()?.field(name).cloned();
    let of_it = all.iter().filter(|one| result(one, "id").as_ref() == key);
    let receipts: Vec<_> = of_it.filter_map(|one| result(one, "receipt")).collect();
    let mut text = format!("{violation:?}");
    for (at, one) in all.iter().enumerate() {
        let receipt = one.value.field("receipt");
        let settles = receipt.is_some_and(|receipt| receipts.contains(receipt));
        if settles || one.value.field("id") == key || result(one, "id").as_ref() == key {
            let (from, to) = (one.called_ns, one.returned_ns);
            let line = format!(
                "\n  {at}: {} {}, {from}..{to} ns: {:?}",
                one.f, one.value, one.outcome
            );
            text.push_str(&line);
        }
    }
    text
}

fn histories_of_several_workers_are_those_of_a_queue_with_receipts(
    url: &str,
) -> Result<(), Failed> {
    for seed in 0..SEEDS {
        let proxy = Proxy::start(url.trim_start_matches("nats://").parse()?)?;
        let through = config(&format!("nats://{}", proxy.address()))?;
        let settings = small(&name("histories"))?.visibility(LEASE);
        let book = Arc::new(Book {
            began: Instant::now(),
            events: Mutex::default(),
            names: AtomicU64::new(1),
        });
        let straight = connect(url)?;
        let direct = block_on(StreamQueue::open(&straight, settings.clone()))?;
        // Without cuts it is judged by all rules, whatever the server.
        let cuts = seed > 0;
        block_on(async {
            let mut workers = Vec::new();
            for worker in 0..WORKERS {
                let connection = Connection::open(&through).await?;
                let queue = StreamQueue::open(&connection, settings.clone())
                    .await?
                    .queue();
                workers.push(tokio::spawn(work(
                    queue,
                    Arc::clone(&book),
                    WORKERS * seed + worker,
                )));
            }
            // Cut now and then: some answers are lost.
            while cuts && workers.iter().any(|worker| !worker.is_finished()) {
                let enough = book.events.lock().await.1.len() + 200;
                while book.events.lock().await.1.len() < enough
                    && workers.iter().any(|worker| !worker.is_finished())
                {
                    tokio::task::yield_now().await;
                }
                proxy.cut();
            }
            for worker in workers {
                worker.await?;
            }
            let call = book.call("drain", Value::Nil).await;
            book.answer(call, "drain", Ok(left(&direct).await?)).await;
            Ok::<_, Failed>(())
        })?;
        let events = std::mem::take(&mut block_on(book.events.lock()).1);
        let unknown = events
            .iter()
            .filter(|event| event.kind == Kind::Info)
            .count();
        let leases_hold = !cuts || straight.server_version() >= LEASES_HOLD;
        let history = History::from_events(promised(events, leases_hold)?)?;
        let verdict = check_delivery(&history)?;
        if let Some(violation) = verdict.violation() {
            return Err(format!("seed {seed}: {}", told(&history, violation)).into());
        }
        let operations = history.operations().len();
        assert!(
            operations > 100 && unknown < operations,
            "{operations} operations, {unknown} unknown"
        );
    }
    Ok(())
}
