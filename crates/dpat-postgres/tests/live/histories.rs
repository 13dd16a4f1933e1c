//! Several workers at once, judged by the delivery model.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dpat_check::{History, Value, check_delivery};
use dpat_core::{Classify, Effect, Entropy, SplitMix64, TokioTime};
use dpat_model::{Event, Kind};
use dpat_postgres::{Config, QueueSettings, QueueStore};
use dpat_queue::{Message, Outcome, Queue};
use dpat_testkit::live::Live;
use libtest_mimic::{Failed, Trial};
use tokio::time::Instant;

use crate::kit::{self, run};

const LEASE: Duration = Duration::from_millis(60);
const WORKERS: u64 = 6;
const OPS: u64 = 60;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![live.trial(
        "histories_of_several_workers_are_those_of_a_queue_with_receipts",
        histories_of_several_workers_are_those_of_a_queue_with_receipts,
    )]
}

/// A history in which each call is a process of its own.
struct Book {
    began: Instant,
    events: Mutex<(u64, Vec<Event<Value>>)>,
    names: Mutex<u64>,
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.map(|(name, value)| (name.into(), value)).into())
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap())
}

impl Book {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    /// Not before this, whenever the server did it: it did it after the call.
    fn after(&self, time: Duration) -> Value {
        int(self.now() + u64::try_from(time.as_nanos()).unwrap())
    }

    fn note(&self, process: Option<u64>, kind: Kind, f: &'static str, value: Value) -> u64 {
        let mut events = self.events.lock().unwrap();
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

    fn call(&self, f: &'static str, value: Value) -> u64 {
        self.note(None, Kind::Invoke, f, value)
    }

    fn answer(&self, call: u64, f: &'static str, answer: Result<Value, Effect>) {
        let (kind, value) = match answer {
            Ok(value) => (Kind::Ok, value),
            Err(Effect::NotDone) => (Kind::Fail, Value::Nil),
            Err(Effect::Unknown) => (Kind::Info, Value::Nil),
        };
        self.note(Some(call), kind, f, value);
    }

    fn name(&self) -> u64 {
        let mut names = self.names.lock().unwrap();
        *names += 1;
        *names
    }
}

/// One worker: sends, receives, and does something with what it got.
async fn work(queue: Queue, book: Arc<Book>, seed: u64) {
    let entropy = SplitMix64::stream(seed, "worker");
    let mut out = Vec::new();
    for _ in 0..OPS {
        match entropy.below(8) {
            0..=2 => send(&queue, &book, &entropy).await,
            3..=5 => {
                let call = book.call("receive", Value::Nil);
                let until = book.after(LEASE);
                let received = queue.receive_batch(1, Duration::ZERO).await;
                let received = received.map_err(|error| error.effect());
                let answer = received.map(|received| {
                    received.into_iter().next().map_or(Value::Nil, |delivery| {
                        let receipt = book.name();
                        let id = std::str::from_utf8(delivery.payload()).unwrap();
                        let value = map([
                            ("id", int(id.parse().unwrap())),
                            ("receipt", int(receipt)),
                            ("count", int(delivery.count.into())),
                            ("until_ns", until),
                        ]);
                        out.push((receipt, delivery.receipt));
                        value
                    })
                });
                book.answer(call, "receive", answer);
            }
            _ if !out.is_empty() => {
                let at = usize::try_from(entropy.below(out.len() as u64)).unwrap();
                let (name, receipt) = out[at];
                let named = ("receipt", int(name));
                let delay = LEASE / 2 * u32::try_from(entropy.below(3)).unwrap();
                let (f, value, outcome) = match entropy.below(4) {
                    0 => {
                        let value = map([named, ("after_ns", book.after(delay))]);
                        let reason = String::new();
                        ("nack", value, Outcome::Retry { delay, reason })
                    }
                    1 => (
                        "reject",
                        map([named]),
                        Outcome::Reject {
                            reason: "no".to_owned(),
                        },
                    ),
                    _ => ("ack", map([named]), Outcome::Done),
                };
                let call = book.call(f, value);
                let settled = queue.settle(receipt, outcome).await;
                let settled = settled.map(|()| Value::Nil).map_err(|error| error.effect());
                book.answer(call, f, settled);
            }
            _ => tokio::task::yield_now().await,
        }
    }
}

async fn send(queue: &Queue, book: &Book, entropy: &SplitMix64) {
    let (id, group) = (book.name(), entropy.below(3));
    let delay = LEASE / 2 * u32::try_from(entropy.below(3)).unwrap();
    let mut value = vec![
        ("id".into(), int(id)),
        ("after_ns".into(), book.after(delay)),
    ];
    let mut message = Message::new(id.to_string()).delay(delay);
    if group > 0 {
        value.push(("group".into(), int(group)));
        message = message.key(group.to_string());
    }
    let call = book.call("send", Value::Map(value));
    let sent = queue.send(message).await;
    let sent = sent.map(|_| Value::Nil).map_err(|error| error.effect());
    book.answer(call, "send", sent);
}

/// What is still there.
async fn left(queue: &Queue) -> Result<Value, Failed> {
    let peeked = queue.peek(None, 1_000).await?;
    let letters = queue.dead_letters(None, 1_000).await?;
    let payloads = peeked.iter().map(|one| one.message.payload());
    let payloads = payloads.chain(letters.iter().map(|one| one.message.payload()));
    let ids = payloads.map(|payload| int(std::str::from_utf8(payload).unwrap().parse().unwrap()));
    Ok(Value::List(ids.collect()))
}

fn histories_of_several_workers_are_those_of_a_queue_with_receipts(
    url: &str,
) -> Result<(), Failed> {
    for seed in 0..6 {
        let (proxy, through) = kit::behind(url)?;
        let name = kit::name();
        let through = Config::new(&through, &name)?;
        let settings = QueueSettings {
            visibility: LEASE,
            ..QueueSettings::DEFAULT
        };
        let book = Arc::new(Book {
            began: Instant::now(),
            events: Mutex::default(),
            names: Mutex::default(),
        });
        run(async {
            let mut workers = Vec::new();
            for worker in 0..WORKERS {
                let store = QueueStore::open(&through, settings, TokioTime).await?;
                let work = work(store.queue(), Arc::clone(&book), WORKERS * seed + worker);
                workers.push(tokio::spawn(work));
            }
            // Cut now and then: some answers are lost.
            while workers.iter().any(|worker| !worker.is_finished()) {
                let events = book.events.lock().unwrap().1.len();
                while book.events.lock().unwrap().1.len() < events + 200
                    && workers.iter().any(|worker| !worker.is_finished())
                {
                    tokio::task::yield_now().await;
                }
                proxy.cut();
            }
            for worker in workers {
                worker.await?;
            }
            let config = Config::new(url, &name)?;
            let direct = QueueStore::open(&config, settings, TokioTime)
                .await?
                .queue();
            let call = book.call("drain", Value::Nil);
            book.answer(call, "drain", Ok(left(&direct).await?));
            Ok::<_, Failed>(())
        })?;
        let events = std::mem::take(&mut book.events.lock().unwrap().1);
        let unknown = events
            .iter()
            .filter(|event| event.kind == Kind::Info)
            .count();
        let history = History::from_events(events)?;
        let verdict = check_delivery(&history)?;
        if let Some(violation) = verdict.violation() {
            return Err(format!("seed {seed}: {violation:?}").into());
        }
        let operations = history.operations().len();
        assert!(
            operations > 100 && unknown < operations,
            "{operations} operations, {unknown} unknown"
        );
    }
    Ok(())
}
