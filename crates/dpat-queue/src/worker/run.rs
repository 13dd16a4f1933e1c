//! One run of a worker: receives, handlers, settlements and extensions, all in one future.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use dpat_core::{Backoff, Classify, Instant, Sleep};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, Stream};

use super::hand::{Hand, given_up, judge};
use super::{Failure, Inner, WorkerError};
use crate::capability::Capability;
use crate::error::{ReceiveError, SettleError};
use crate::message::{Delivery, Outcome, Receipt, Settlement};
use crate::trace;

/// How often a settlement is tried that failed in a way that may pass.
const SETTLE_ATTEMPTS: u32 = 5;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

type Received = Result<Vec<Delivery>, ReceiveError>;

/// Settlements with their answers.
type Settled = Vec<(Settlement, Result<(), SettleError>)>;

/// Receipts whose leases were extended, or not.
type Extended = Vec<(Receipt, Result<(), SettleError>)>;

/// How a handler ended: of which delivery, at which attempt, and how.
type Handled = (Receipt, u32, Result<(), Failure>);

pub(super) struct Run<'a, T: Sleep> {
    inner: &'a Inner<T>,
    hand: Hand,
    handlers: FuturesUnordered<Boxed<'a, Handled>>,
    receiving: Option<Boxed<'a, (Instant, Received)>>,
    settling: Option<Boxed<'a, Settled>>,
    extending: Option<Boxed<'a, (Instant, Extended)>>,
    sleeping: Option<(Instant, Pin<Box<T::Sleeping>>)>,
    /// When leases are kept up next; never where that cannot be.
    beat_at: Instant,
    /// Nothing is received before this.
    receive_at: Instant,
    receive_failures: u32,
    /// Nothing is settled before this.
    settle_at: Instant,
    settle_failures: u32,
    /// It takes no more messages, and gives back what it has at this time.
    stops_at: Option<Instant>,
}

/// Why the loop goes on.
enum Event {
    Received(Instant, Received),
    Handled(Handled),
    Settled(Settled),
    Extended(Instant, Extended),
    Tick,
    Stop,
}

impl<'a, T: Sleep> Run<'a, T> {
    pub(super) fn new(inner: &'a Inner<T>) -> Self {
        let extends = inner.queue.capabilities().has(Capability::Extend);
        let now = inner.time.now();
        Self {
            inner,
            hand: Hand::default(),
            handlers: FuturesUnordered::new(),
            receiving: None,
            settling: None,
            extending: None,
            sleeping: None,
            beat_at: match extends {
                true => now + inner.settings.lease / 3,
                false => Instant::MAX,
            },
            receive_at: Instant::MIN,
            receive_failures: 0,
            settle_at: Instant::MIN,
            settle_failures: 0,
            stops_at: None,
        }
    }

    pub(super) async fn until(mut self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let mut stop = pin!(stop);
        loop {
            let now = self.inner.time.now();
            self.advance(now);
            self.inner
                .counters
                .waiting
                .store(self.hand.waiting() as u64, Ordering::Relaxed);
            let running = self.handlers.len() as u64;
            self.inner
                .counters
                .running
                .store(running, Ordering::Relaxed);
            if self.stops_at.is_some() && self.hand.is_empty() && self.handlers.is_empty() {
                return Ok(());
            }
            self.arm(now);
            let event = poll_fn(|cx| self.poll(cx, stop.as_mut())).await;
            let now = self.inner.time.now();
            match event {
                Event::Received(asked, received) => self.received(asked, now, received)?,
                Event::Handled(handled) => self.handled(handled),
                Event::Settled(answers) => self.settled(now, answers),
                Event::Extended(asked, answers) => self.extended(asked, answers),
                Event::Tick => self.sleeping = None,
                Event::Stop => self.stop(now),
            }
        }
    }

    fn stop(&mut self, now: Instant) {
        self.receiving = None;
        let timeout = self.inner.settings.drain_timeout;
        self.stops_at.get_or_insert(now + timeout);
    }

    /// Begins whatever can be begun now.
    fn advance(&mut self, now: Instant) {
        let inner = self.inner;
        let settings = &inner.settings;
        if self.stops_at.is_some_and(|at| at <= now) {
            // Handlers that are not done are dropped, and their messages come again.
            self.handlers.clear();
            let released = self.hand.release();
            inner
                .counters
                .released
                .fetch_add(released, Ordering::Relaxed);
        }
        let mut lost = 0;
        while self.handlers.len() < settings.concurrency {
            let Some(delivery) = self.hand.next(now, &mut lost) else {
                break;
            };
            if delivery.attempt > settings.attempts_max {
                // Its earlier attempts ended with their workers.
                let outcome = given_up(settings.attempts_max, "none of them was settled");
                self.hand.settle(delivery.receipt, outcome);
                continue;
            }
            self.handlers.push(Box::pin(inner.handle(delivery)));
        }
        self.count_lost(lost);
        let free = (settings.concurrency + settings.prefetch).saturating_sub(self.hand.len());
        let worth = free >= (settings.prefetch / 2).max(1) || self.hand.waiting() == 0 && free > 0;
        let may = self.stops_at.is_none() && self.receiving.is_none() && self.receive_at <= now;
        if may && worth {
            let max = free.min(inner.queue.batch_max());
            let wait = settings.receive_wait;
            self.receiving = Some(Box::pin(async move {
                (now, inner.queue.receive_batch(max, wait).await)
            }));
        }
        // Never both at once: an extension that arrives after a retry would hold the message up.
        if self.extending.is_none() && self.settling.is_none() && self.settle_at <= now {
            self.settling = self.hand.settling().map(|batch| inner.settle(batch));
        }
        if self.beat_at <= now && self.extending.is_none() {
            self.beat_at = now + settings.lease / 3;
            let receipts = self.hand.leased();
            if !receipts.is_empty() {
                self.extending = Some(Box::pin(async move {
                    let extended = inner.queue.extend(receipts.clone(), settings.lease).await;
                    (now, receipts.into_iter().zip(extended).collect())
                }));
            }
        }
    }

    /// Sleeps until the clock alone gives something to do.
    fn arm(&mut self, now: Instant) {
        let mut at = self.beat_at;
        let mut consider = |time: Instant| {
            if time > now {
                at = at.min(time);
            }
        };
        consider(self.receive_at);
        consider(self.settle_at);
        consider(self.stops_at.unwrap_or(Instant::MAX));
        if self.sleeping.as_ref().map(|(until, _)| *until) != Some(at) {
            let sleep = || (at, Box::pin(self.inner.time.sleep_until(at)));
            self.sleeping = (at < Instant::MAX).then(sleep);
        }
    }

    fn poll<S: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        stop: Pin<&mut S>,
    ) -> Poll<Event> {
        if let Poll::Ready(Some(handled)) = Pin::new(&mut self.handlers).poll_next(cx) {
            return Poll::Ready(Event::Handled(handled));
        }
        if let Some(settled) = ready(&mut self.settling, cx) {
            return Poll::Ready(Event::Settled(settled));
        }
        if let Some((asked, extended)) = ready(&mut self.extending, cx) {
            return Poll::Ready(Event::Extended(asked, extended));
        }
        if self.stops_at.is_none() && stop.poll(cx).is_ready() {
            return Poll::Ready(Event::Stop);
        }
        if let Some((asked, received)) = ready(&mut self.receiving, cx) {
            return Poll::Ready(Event::Received(asked, received));
        }
        let ticked = self
            .sleeping
            .as_mut()
            .map(|(_, sleep)| sleep.as_mut().poll(cx));
        match ticked {
            Some(Poll::Ready(())) => Poll::Ready(Event::Tick),
            _ => Poll::Pending,
        }
    }

    fn received(
        &mut self,
        asked: Instant,
        now: Instant,
        received: Received,
    ) -> Result<(), WorkerError> {
        match received {
            Ok(deliveries) => {
                self.receive_failures = 0;
                // The lease began no earlier than it was asked for; after a long wait that says little.
                let began = if deliveries.is_empty() {
                    asked
                } else {
                    now.max(asked)
                };
                if self.beat_at < Instant::MAX {
                    // The first lease is the queue's, and may be shorter than the worker's.
                    let leases = deliveries.iter().map(|delivery| delivery.lease);
                    let beats = leases.map(|lease| now + lease / 3);
                    self.beat_at = beats.fold(self.beat_at, Instant::min);
                }
                self.hand.take(deliveries, began);
                Ok(())
            }
            Err(ReceiveError::Closed) => {
                self.stop(now);
                Ok(())
            }
            Err(error) if error.class().is_retryable() => {
                self.receive_failures = self.receive_failures.saturating_add(1);
                self.receive_at = now + self.inner.pause(self.receive_failures);
                trace::trouble("receive", &error);
                Ok(())
            }
            Err(error) => Err(WorkerError::Receive(error)),
        }
    }

    fn handled(&mut self, (receipt, attempt, handled): Handled) {
        let inner = self.inner;
        let settings = &inner.settings;
        let entropy = &*inner.entropy;
        let outcome = judge(
            handled,
            attempt,
            settings.attempts_max,
            settings.backoff,
            entropy,
        );
        trace::handled(receipt.id(), attempt, &outcome);
        self.hand.settle(receipt, outcome);
    }

    fn settled(&mut self, now: Instant, answers: Settled) {
        let counters = &self.inner.counters;
        let mut again = Vec::new();
        let mut lost = 0;
        let last = self.settle_failures + 1 >= SETTLE_ATTEMPTS;
        for (settlement, answer) in answers {
            match answer {
                Ok(()) => {
                    let counter = match settlement.outcome {
                        Outcome::Done => &counters.done,
                        Outcome::Retry { .. } => &counters.retried,
                        Outcome::Reject { .. } => &counters.rejected,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.class().is_retryable() && !last => {
                    trace::trouble("settle", &error);
                    again.push(settlement);
                }
                Err(_) => lost += 1,
            }
        }
        self.count_lost(lost);
        if again.is_empty() {
            self.settle_failures = 0;
            self.settle_at = Instant::MIN;
        } else {
            self.settle_failures += 1;
            self.settle_at = now + self.inner.pause(self.settle_failures);
        }
        self.hand.settled(again);
    }

    fn extended(&mut self, asked: Instant, answers: Extended) {
        let until = asked + self.inner.settings.lease;
        for (receipt, answer) in answers {
            match answer {
                Ok(()) => self.hand.extended(receipt, until),
                Err(SettleError::Stale) => self.hand.stale(receipt),
                // There is another beat before the lease ends.
                Err(error) => trace::trouble("extend", &error),
            }
        }
    }

    fn count_lost(&self, lost: u64) {
        self.inner.counters.lost.fetch_add(lost, Ordering::Relaxed);
        trace::lost(lost);
    }
}

/// Polls a future that may be there; takes it away when it is done.
fn ready<T>(future: &mut Option<Boxed<'_, T>>, cx: &mut Context<'_>) -> Option<T> {
    let Poll::Ready(output) = future.as_mut()?.as_mut().poll(cx) else {
        return None;
    };
    *future = None;
    Some(output)
}

impl<T: Sleep> Inner<T> {
    /// Runs a handler to its end, within its time.
    async fn handle(&self, delivery: Delivery) -> Handled {
        let (receipt, attempt) = (delivery.receipt, delivery.attempt);
        let timeout = self.settings.handler_timeout;
        let handling = AssertUnwindSafe(async move { (self.handler)(delivery).await });
        let mut handling = pin!(handling.catch_unwind());
        let mut sleeping = pin!(self.time.sleep(timeout));
        let handled = poll_fn(|cx| {
            if let Poll::Ready(handled) = handling.as_mut().poll(cx) {
                let panicked = |_| Err(Failure::retry("the handler panicked"));
                return Poll::Ready(handled.unwrap_or_else(panicked));
            }
            let over = sleeping.as_mut().poll(cx);
            over.map(|()| Err(Failure::retry(format!("not handled within {timeout:?}"))))
        });
        (receipt, attempt, handled.await)
    }

    fn settle(&self, batch: Vec<Settlement>) -> Boxed<'_, Settled> {
        Box::pin(async move {
            let settled = self.queue.settle_batch(batch.clone()).await;
            batch.into_iter().zip(settled).collect()
        })
    }

    /// How long to wait after so many failures in a row.
    fn pause(&self, failures: u32) -> std::time::Duration {
        let mut delays = Backoff::DEFAULT.delays();
        for _ in 1..failures.min(16) {
            delays.next_delay(&*self.entropy);
        }
        delays.next_delay(&*self.entropy)
    }
}
