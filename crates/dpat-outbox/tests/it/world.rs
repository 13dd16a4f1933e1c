//! What the tests share: events with numbers, and futures run by hand.

// The log of the sink needs a lock.
#![allow(clippy::disallowed_types)]

use std::sync::Arc;

use dpat_core::{Class, ManualTime, SplitMix64, Uuid7, Wall};
use dpat_outbox::{
    Batch, Claim, Delivery, Event, Lag, MemoryOutbox, Parked, Position, PublishError, Relay,
    RelayConfig, Repair, Repaired, Replay, Replayed, Settled, Settlement, Sink, Store, StoreError,
    Ticket,
};
use dpat_testkit::{Task, run_with};

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    run_with(|| false, future)
}

pub(crate) fn id(number: u64) -> Uuid7 {
    let low = 0x8000_0000_0000_0000 | u128::from(number);
    Uuid7::from_bytes((0x7000_u128 << 64 | low).to_be_bytes()).unwrap()
}

/// An event with a number as its id and payload; the key may be empty, which is none.
pub(crate) fn event(number: u64, key: &str) -> Event {
    let event = Event::builder(id(number), "topic").payload(number.to_string());
    match key {
        "" => event.build().unwrap(),
        key => event.key(key).build().unwrap(),
    }
}

pub(crate) fn number(event: &Event) -> u64 {
    std::str::from_utf8(event.payload())
        .unwrap()
        .parse()
        .unwrap()
}

/// Appends an event in a transaction of its own.
pub(crate) fn append(outbox: &MemoryOutbox, now: Wall, event: &Event) {
    let mut tx = outbox.begin();
    tx.append(event, now).unwrap();
    tx.commit().unwrap();
}

/// What a sink does with one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Keeps it and says so.
    Keeps,
    /// Fails before it keeps it, in a way that passes.
    Fails,
    /// Keeps it, and its answer is lost.
    Loses,
    /// Refuses it for good.
    Refuses,
    /// Never answers.
    Hangs,
}

type Rule = Box<dyn Fn(&Delivery<'_>) -> Does + Send + Sync>;

/// A sink that remembers what it has seen, with an await before and after.
pub(crate) struct Desk {
    rule: Rule,
    seen: std::sync::Mutex<Vec<u64>>,
}

impl Desk {
    pub(crate) fn new(rule: impl Fn(&Delivery<'_>) -> Does + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            rule: Box::new(rule),
            seen: std::sync::Mutex::default(),
        })
    }

    pub(crate) fn seen(&self) -> Vec<u64> {
        self.seen.lock().unwrap().clone()
    }

    /// What it has seen, each once, in the order of the first time.
    pub(crate) fn firsts(&self) -> Vec<u64> {
        let mut firsts = Vec::new();
        for number in self.seen() {
            if !firsts.contains(&number) {
                firsts.push(number);
            }
        }
        firsts
    }
}

#[async_trait::async_trait]
impl Sink for Desk {
    async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
        yield_once().await;
        let does = (self.rule)(&delivery);
        if matches!(does, Does::Keeps | Does::Loses) {
            self.seen.lock().unwrap().push(number(delivery.event));
        }
        match does {
            Does::Keeps => {
                yield_once().await;
                Ok(())
            }
            Does::Fails => Err(PublishError::new(Class::Unavailable, "down")),
            Does::Loses => Err(PublishError::new(Class::Timeout, "no answer")),
            Does::Refuses => Err(PublishError::new(Class::InvalidInput, "no such topic")),
            Does::Hangs => std::future::pending().await,
        }
    }
}

pub(crate) async fn yield_once() {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}

/// An outbox every call of which has an await before its effect and one before its answer.
pub(crate) struct Slow(pub(crate) MemoryOutbox);

impl Slow {
    async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        yield_once().await;
        let result = call.await;
        yield_once().await;
        result
    }
}

#[async_trait::async_trait]
impl Store for Slow {
    async fn claim(&self, claim: &Claim) -> Result<Batch, StoreError> {
        self.call(self.0.claim(claim)).await
    }
    async fn settle(&self, now: Wall, all: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.call(self.0.settle(now, all)).await
    }
    async fn wait(&self, seen: Ticket) {
        self.0.wait(seen).await;
    }
    async fn lag(&self) -> Result<Lag, StoreError> {
        self.call(self.0.lag()).await
    }
    async fn purge(&self, before: Wall, max: usize) -> Result<usize, StoreError> {
        self.call(self.0.purge(before, max)).await
    }
    async fn parked(&self, after: Option<Position>, max: usize) -> Result<Vec<Parked>, StoreError> {
        self.call(self.0.parked(after, max)).await
    }
    async fn repair(&self, now: Wall, at: Position, how: &Repair) -> Result<Repaired, StoreError> {
        self.call(self.0.repair(now, at, how)).await
    }
    async fn replay(&self, now: Wall, replay: &Replay) -> Result<Replayed, StoreError> {
        self.call(self.0.replay(now, replay)).await
    }
}

pub(crate) fn relay(
    config: RelayConfig,
    outbox: &MemoryOutbox,
    sink: &Arc<Desk>,
    time: &ManualTime,
    seed: u64,
) -> Relay<ManualTime> {
    relay_on(Arc::new(outbox.clone()), config, sink, time, seed)
}

pub(crate) fn relay_on(
    store: Arc<dyn Store>,
    config: RelayConfig,
    sink: &Arc<Desk>,
    time: &ManualTime,
    seed: u64,
) -> Relay<ManualTime> {
    let sink: Arc<dyn Sink> = Arc::<Desk>::clone(sink);
    Relay::new(config, store, sink, time.clone(), SplitMix64::new(seed))
}

/// Polls relays until none of them has anything to do now.
pub(crate) fn settle<F: Future>(tasks: &mut [Task<F>]) {
    for _ in 0..10_000 {
        let mut woken = false;
        for task in tasks.iter_mut() {
            assert!(task.poll().is_pending(), "a relay ended");
            woken |= task.is_woken();
        }
        if !woken {
            return;
        }
    }
    panic!("the relays turn in circles");
}
