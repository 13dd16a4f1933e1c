//! A model of what was answered: nothing is taken in that has no room, and nothing is refused that has.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dpat_core::{Entropy as _, ManualTime, SplitMix64};

use crate::config::WhenFull;
use crate::message::{Delivery, Message, Outcome, Settlement};
use crate::queue::Queue;

/// Nothing here waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// What is in the queue, by what was answered.
struct Model {
    queue: Queue,
    out: Vec<Delivery>,
    messages: u64,
    bytes: u64,
    sent: Vec<u128>,
    next: usize,
}

const MESSAGES_MAX: u64 = 6;
const BYTES_MAX: u64 = 2_000;

impl Model {
    fn new() -> Self {
        let queue = Queue::builder()
            .messages_max(MESSAGES_MAX)
            .bytes_max(BYTES_MAX)
            .when_full(WhenFull::Refuse)
            .in_memory(ManualTime::new())
            .unwrap();
        Self {
            queue,
            out: Vec::new(),
            messages: 0,
            bytes: 0,
            sent: Vec::new(),
            next: 0,
        }
    }

    fn sent(&mut self, size: u64, id: Option<u128>) {
        let fits = self.messages < MESSAGES_MAX && self.bytes + size <= BYTES_MAX;
        assert_eq!(id.is_some(), fits, "{} {}", self.messages, self.bytes);
        if let Some(id) = id {
            self.messages += 1;
            self.bytes += size;
            self.sent.push(id);
        }
    }

    fn received(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            if delivery.count == 1 {
                assert_eq!(delivery.id().get(), self.sent[self.next]);
                self.next += 1;
            }
            self.out.push(delivery);
        }
    }

    fn settled(&mut self, delivery: &Delivery, outcome: &Outcome) {
        if matches!(outcome, Outcome::Done) {
            self.messages -= 1;
            self.bytes -= delivery.payload().len() as u64 + 256;
        }
    }

    fn look(&self) {
        let stats = now(self.queue.stats()).unwrap();
        assert_eq!(stats.ready + stats.leased, self.messages);
        assert_eq!(stats.bytes, self.bytes);
        assert_eq!(stats.sent, self.sent.len() as u64);
    }
}

#[test]
fn the_limits_hold_and_the_order_is_kept_however_messages_come_and_go() {
    for seed in 0..300 {
        let entropy = SplitMix64::stream(seed, "intake");
        let pick = |len: usize| usize::try_from(entropy.below(len as u64)).unwrap();
        let mut model = Model::new();
        let queue = model.queue.clone();
        for _ in 0..200 {
            match entropy.below(12) {
                0..=3 => {
                    let size = pick(300);
                    let sent = now(queue.send(Message::new(vec![0; size])));
                    model.sent(size as u64 + 256, sent.ok().map(|one| one.id.get()));
                }
                4 => {
                    let sizes: Vec<_> = (0..pick(5)).map(|_| pick(300)).collect();
                    let batch = sizes.iter().map(|size| Message::new(vec![0; *size]));
                    let sent = now(queue.send_batch(batch.collect()));
                    for (size, sent) in sizes.into_iter().zip(sent) {
                        model.sent(size as u64 + 256, sent.ok().map(|one| one.id.get()));
                    }
                }
                5..=6 => {
                    let max = 1 + pick(3);
                    let received = now(queue.receive_batch(max, Duration::ZERO)).unwrap();
                    model.received(received);
                }
                7..=9 if !model.out.is_empty() => {
                    let delivery = model.out.swap_remove(pick(model.out.len()));
                    let outcome = match entropy.below(12) {
                        0 => Outcome::release(),
                        _ => Outcome::Done,
                    };
                    now(queue.settle(delivery.receipt, outcome.clone())).unwrap();
                    model.settled(&delivery, &outcome);
                }
                10 => {
                    let count = pick(model.out.len() + 1);
                    let batch: Vec<_> = model.out.drain(..count).collect();
                    let done = |delivery: &Delivery| Settlement {
                        receipt: delivery.receipt,
                        outcome: Outcome::Done,
                    };
                    let settled = now(queue.settle_batch(batch.iter().map(done).collect()));
                    for delivery in &batch {
                        model.settled(delivery, &Outcome::Done);
                    }
                    assert!(settled.iter().all(Result::is_ok));
                }
                _ => model.look(),
            }
        }
        model.look();
    }
}

#[test]
fn who_looks_for_room_in_vain_looks_seldom() {
    let mut intake = super::Intake {
        is_open: true,
        ..super::Intake::default()
    };
    let looks: Vec<_> = (1..=200)
        .filter(|_| intake.looks_from(1).is_some())
        .collect();
    assert_eq!(looks, [1, 2, 3, 4, 64, 128, 192]);
    // Somebody found some.
    intake.in_vain = 0;
    assert!(intake.looks_from(1).is_some());
    intake.is_open = false;
    assert!(
        intake.looks_from(1).is_none(),
        "nobody looks where it is closed"
    );
}
