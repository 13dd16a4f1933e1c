//! Histories of random use, judged by the delivery model: in memory, on a log with restarts, and without a rule.

use std::collections::BTreeMap;
use std::time::Duration;

use dpat_check::{History, Value, check_delivery};
use dpat_core::{Clock, Entropy, ManualTime, SplitMix64};
use dpat_model::{Event, Kind};
use dpat_queue::conformance::{Harness, Setup};
use dpat_queue::testing::Mutant;
use dpat_queue::{Delivery, Message, Outcome, Queue, Receipt, Survives};

use crate::memory::InMemory;
use crate::mutants::Without;
use crate::wal::OnLog;
use crate::world::{SECOND, now, text};

/// A history in which each call is a process of its own.
struct Book {
    events: Vec<Event<Value>>,
    began: u64,
    time: ManualTime,
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.map(|(name, value)| (name.into(), value)).into())
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap())
}

impl Book {
    fn now(&self) -> u64 {
        self.time.now().as_nanos() - self.began
    }

    fn at(&self, time: Duration) -> u64 {
        self.now() + u64::try_from(time.as_nanos()).unwrap()
    }

    fn after(&self, time: Duration) -> Value {
        int(self.at(time))
    }

    fn call(&mut self, f: &'static str, value: Value, answer: Result<Value, ()>) {
        let (kind, result) = match answer {
            Ok(result) => (Kind::Ok, result),
            Err(()) => (Kind::Fail, Value::Nil),
        };
        let process = self.events.len() as u64;
        for (kind, value) in [(Kind::Invoke, value), (kind, result)] {
            let time_ns = self.now();
            let f = f.into();
            self.events.push(Event {
                time_ns,
                process,
                kind,
                f,
                value,
            });
        }
    }
}

/// Uses a queue at random, and returns how the model judges it.
fn judge<H: Harness>(
    harness: &H,
    seed: u64,
    time_of: fn(&H::World) -> &ManualTime,
) -> Result<usize, String> {
    let setup = Setup::DEFAULT;
    let mut world = harness.open(&setup);
    let time = time_of(&world).clone();
    let mut book = Book {
        events: Vec::new(),
        began: time.now().as_nanos(),
        time,
    };
    let entropy = SplitMix64::stream(seed, "history");
    let pick = |len: usize| usize::try_from(entropy.below(len as u64)).unwrap();
    let mut out: Vec<Delivery> = Vec::new();
    let mut names: BTreeMap<Receipt, Value> = BTreeMap::new();
    let mut ends: BTreeMap<Receipt, u64> = BTreeMap::new();
    let (mut sent, mut receipts) = (0_u64, 0);
    for _ in 0..150 {
        let queue = harness.queue(&world).clone();
        match entropy.below(16) {
            0..=4 => {
                sent += 1;
                let group = entropy.below(3);
                let delay = SECOND / 4 * u32::try_from(entropy.below(5)).unwrap();
                let mut value = vec![
                    ("id".into(), int(sent)),
                    ("after_ns".into(), book.after(delay)),
                ];
                let mut message = Message::new(sent.to_string()).delay(delay);
                if group > 0 {
                    value.push(("group".into(), int(group)));
                    message = message.key(group.to_string());
                }
                let answer = now(queue.send(message)).map(|_| Value::Nil).map_err(drop);
                book.call("send", Value::Map(value), answer);
            }
            5..=8 => {
                let received = now(queue.receive_batch(1, Duration::ZERO)).unwrap();
                let result = received.first().map_or(Value::Nil, |delivery| {
                    receipts += 1;
                    names.insert(delivery.receipt, int(receipts));
                    ends.insert(delivery.receipt, book.at(delivery.lease));
                    map([
                        ("id", int(text(delivery).parse().unwrap())),
                        ("receipt", int(receipts)),
                        ("count", int(delivery.count.into())),
                        ("until_ns", book.after(delivery.lease)),
                    ])
                });
                book.call("receive", Value::Nil, Ok(result));
                out.extend(received);
            }
            9..=12 if !out.is_empty() => {
                // Sometimes twice, sometimes late.
                let delivery = &out[pick(out.len())];
                let receipt = ("receipt", names[&delivery.receipt].clone());
                let delay = SECOND * u32::try_from(entropy.below(3)).unwrap();
                let (f, value, outcome) = match entropy.below(4) {
                    0 => (
                        "nack",
                        map([receipt, ("after_ns", book.after(delay))]),
                        Outcome::Retry {
                            delay,
                            reason: String::new(),
                        },
                    ),
                    1 => (
                        "reject",
                        map([receipt]),
                        Outcome::Reject {
                            reason: "no".to_owned(),
                        },
                    ),
                    _ => ("ack", map([receipt]), Outcome::Done),
                };
                let settled = now(queue.settle(delivery.receipt, outcome));
                book.call(f, value, settled.map(|()| Value::Nil).map_err(drop));
            }
            13 if !out.is_empty() => {
                let delivery = &out[pick(out.len())];
                let until = ("until_ns", book.after(2 * SECOND));
                let value = map([("receipt", names[&delivery.receipt].clone()), until]);
                let extended = now(queue.extend(vec![delivery.receipt], 2 * SECOND));
                let answer = extended[0].is_ok().then_some(Value::Nil).ok_or(());
                if answer.is_ok() {
                    ends.insert(delivery.receipt, book.at(2 * SECOND));
                }
                book.call("extend", value, answer);
            }
            14 if queue.capabilities().survives > Survives::Nothing => {
                drop(queue);
                world = harness.reopen(world, &setup);
                // Leases that have not ended yet end with their process.
                let ended = book.now();
                let leased = out.drain(..);
                for delivery in leased.filter(|one| ends[&one.receipt] > ended) {
                    let until = ("until_ns", book.after(Duration::ZERO));
                    let value = map([("receipt", names[&delivery.receipt].clone()), until]);
                    book.call("extend", value, Ok(Value::Nil));
                }
            }
            _ => harness.advance(&world, SECOND / 4),
        }
    }
    let left = left(harness.queue(&world));
    book.call("drain", Value::Nil, Ok(Value::List(left)));
    let history = History::from_events(book.events).map_err(|error| error.to_string())?;
    let verdict = check_delivery(&history).map_err(|error| error.to_string())?;
    match verdict.violation() {
        None => Ok(history.operations().len()),
        Some(violation) => Err(format!("seed {seed}: {violation:?}")),
    }
}

fn left(queue: &Queue) -> Vec<Value> {
    let peeked = now(queue.peek(None, 1_000)).unwrap();
    let letters = now(queue.dead_letters(None, 1_000)).unwrap();
    let payloads = peeked.iter().map(|one| one.message.payload());
    let payloads = payloads.chain(letters.iter().map(|one| one.message.payload()));
    payloads
        .map(|payload| int(std::str::from_utf8(payload).unwrap().parse().unwrap()))
        .collect()
}

#[test]
fn histories_in_memory_and_on_a_log_are_those_of_a_queue_with_receipts() {
    for seed in 0..100 {
        assert!(judge(&InMemory, seed, |world| &world.1).unwrap() > 60);
        assert!(judge(&OnLog, seed, |world| &world.time).unwrap() > 60);
    }
}

#[test]
fn the_model_finds_what_is_left_out() {
    for mutant in [
        Mutant::StaleReceipt,
        Mutant::CountAtRetry,
        Mutant::EarlyRetry,
        Mutant::IgnoreKeys,
    ] {
        let judged = (0..40).map(|seed| judge(&Without(mutant), seed, |world| &world.1));
        assert!(
            judged.filter(Result::is_err).count() > 0,
            "{mutant:?} is not found"
        );
    }
}
