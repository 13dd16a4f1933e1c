//! The relay: does what its machine says, and spawns nothing.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use dpat_core::{Class, Entropy, Instant, Sleep};
use futures_util::stream::{FuturesUnordered, Stream};

use crate::config::RelayConfig;
use crate::error::{PublishError, RelayError, StoreError};
use crate::machine::{Action, Fate, Held, Machine, Now};
use crate::row::Settled;
use crate::signal::Ticket;
use crate::sink::{Delivery, Sink};
use crate::store::{Batch, Lag, Store};
use crate::sync::Mutex;
use crate::trace;

/// Sends the events of an outbox to a sink. Cloning is cheap; several relays may work on one outbox, in one process or in
/// many.
///
/// # Examples
/// ```
/// use dpat_core::{ManualTime, SystemEntropy};
/// use dpat_outbox::{Delivery, MemoryOutbox, PublishError, Relay, RelayConfig, Sink};
/// use std::sync::Arc;
///
/// struct Print;
///
/// #[async_trait::async_trait]
/// impl Sink for Print {
///     async fn publish(&self, delivery: Delivery<'_>) -> Result<(), PublishError> {
///         println!("{}", delivery.event.topic());
///         Ok(())
///     }
/// }
///
/// let outbox = Arc::new(MemoryOutbox::new());
/// let time = ManualTime::new(); // or TokioTime
/// let relay = Relay::new(RelayConfig::default(), outbox, Arc::new(Print), time, SystemEntropy);
/// // tokio::spawn(async move { relay.run().await });
/// # drop(relay);
/// ```
pub struct Relay<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    config: RelayConfig,
    store: Arc<dyn Store>,
    sink: Arc<dyn Sink>,
    time: T,
    entropy: Box<dyn Entropy>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    retried: AtomicU64,
    parked: AtomicU64,
    lost: AtomicU64,
    lag: Mutex<Option<Lag>>,
}

/// What a relay has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Events that were acknowledged.
    pub sent: u64,
    /// Attempts that will be followed by another.
    pub retried: u64,
    /// Events that were given up.
    pub parked: u64,
    /// Claims that were another's before they were settled: these events are sent again.
    pub lost: u64,
    /// How far the outbox was behind when it was last looked at.
    pub lag: Option<Lag>,
}

/// How something ended that the machine had asked for.
enum Done {
    Claimed(Result<Batch, StoreError>),
    Published(Held, Result<(), PublishError>),
    Settled(Result<Vec<Settled>, StoreError>),
    Kept(Result<(Lag, usize), StoreError>),
}

type Work<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

/// The wait for what comes after a ticket.
type Wait<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Why the loop goes on.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack; a box would be an allocation an event"
)]
enum Event {
    Done(Done),
    Woken,
    Tick,
    Stop,
}

impl<T: Sleep> Relay<T> {
    /// Makes a relay between a store and a sink.
    ///
    /// `entropy` names the claims: what it drew once it must never draw again, in this process or another. A fixed seed is
    /// for simulations.
    pub fn new(
        config: RelayConfig,
        store: Arc<dyn Store>,
        sink: Arc<dyn Sink>,
        time: T,
        entropy: impl Entropy + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                store,
                sink,
                time,
                entropy: Box::new(entropy),
                counters: Counters::default(),
            }),
        }
    }

    /// Returns what this relay has done since it was made.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        let counters = &self.inner.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RelayStats {
            sent: count(&counters.sent),
            retried: count(&counters.retried),
            parked: count(&counters.parked),
            lost: count(&counters.lost),
            lag: counters.lag.with(|lag| *lag),
        }
    }

    /// Relays for ever. Spawn it.
    ///
    /// What passes by itself (a store or a sink that is down) is waited for.
    ///
    /// # Errors
    /// The [`RelayError`] that ended it: a store that will not come back by itself.
    ///
    /// # Cancel safety
    /// Drop it at any time, as a crash would: nothing is lost, and what was on its way is sent again when its claim ends. To
    /// stop without that wait, use [`run_until`](Self::run_until).
    pub async fn run(&self) -> RelayError {
        loop {
            if let Err(error) = self.run_until(std::future::pending()).await {
                return error;
            }
        }
    }

    /// Relays until `stop` completes, then finishes what is on its way and gives the rest back.
    ///
    /// # Errors
    /// [`RelayError`].
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result<(), RelayError> {
        let inner = &*self.inner;
        let mut machine = Machine::new(inner.config.clone());
        let mut work: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
        let mut stop = pin!(stop);
        let mut stopping = false;
        let mut waiting: Option<(Ticket, Wait<'_>)> = None;
        let mut sleeping: Option<(Instant, Pin<Box<T::Sleeping>>)> = None;
        loop {
            let now = inner.now();
            while let Some(action) = machine.next(now, &*inner.entropy) {
                match inner.start(action, now) {
                    Some(started) => work.push(started),
                    None => return Ok(()),
                }
            }
            // What is waited for already goes on being waited for, unless it has changed.
            let seen = machine.waits_for();
            if waiting.as_ref().map(|(ticket, _)| *ticket) != seen {
                waiting = seen.map(|seen| (seen, inner.store.wait(seen)));
            }
            let wake_at = machine.wake_at();
            if sleeping.as_ref().map(|(at, _)| *at) != Some(wake_at) {
                let sleep = || (wake_at, Box::pin(inner.time.sleep_until(wake_at)));
                sleeping = (wake_at != Instant::MAX).then(sleep);
            }
            let event = poll_fn(|cx| {
                if let Poll::Ready(Some(done)) = Pin::new(&mut work).poll_next(cx) {
                    return Poll::Ready(Event::Done(done));
                }
                if !stopping && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Stop);
                }
                let woken = waiting.as_mut().map(|(_, wait)| wait.as_mut().poll(cx));
                if woken.is_some_and(|poll| poll.is_ready()) {
                    return Poll::Ready(Event::Woken);
                }
                let ticked = sleeping.as_mut().map(|(_, sleep)| sleep.as_mut().poll(cx));
                match ticked {
                    Some(Poll::Ready(())) => Poll::Ready(Event::Tick),
                    _ => Poll::Pending,
                }
            })
            .await;
            let now = inner.now();
            match event {
                Event::Done(done) => inner.tell(&mut machine, now, done)?,
                Event::Woken => {
                    waiting = None;
                    machine.woken(now.instant);
                }
                Event::Tick => sleeping = None,
                Event::Stop => {
                    stopping = true;
                    machine.drain();
                }
            }
        }
    }
}

impl<T: Sleep> Inner<T> {
    fn now(&self) -> Now {
        Now {
            instant: self.time.now(),
            wall: self.time.wall(),
        }
    }

    /// Begins an action; none: to stop.
    fn start(&self, action: Action, now: Now) -> Option<Work<'_>> {
        Some(match action {
            Action::Claim(claim) => {
                Box::pin(async move { Done::Claimed(self.store.claim(&claim).await) })
            }
            Action::Publish(held) => Box::pin(async move {
                let result = self.publish(&held).await;
                Done::Published(held, result)
            }),
            Action::Settle(settlements) => {
                Box::pin(
                    async move { Done::Settled(self.store.settle(now.wall, &settlements).await) },
                )
            }
            Action::Housekeep { sent_before } => {
                Box::pin(async move { Done::Kept(self.housekeep(sent_before).await) })
            }
            Action::Stop => return None,
        })
    }

    async fn publish(&self, held: &Held) -> Result<(), PublishError> {
        let row = &held.row;
        let delivery = Delivery {
            event: &row.event,
            position: row.position,
            attempt: row.attempts.saturating_add(1),
            replays: row.replays,
            appended_at: row.appended_at,
        };
        let limit = self.config.publish_timeout;
        let mut publishing = self.sink.publish(delivery);
        let mut sleeping = pin!(self.time.sleep(limit));
        poll_fn(|cx| {
            if let Poll::Ready(result) = publishing.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let over = sleeping.as_mut().poll(cx);
            over.map(|()| {
                let what = format!("not acknowledged within {limit:?}");
                Err(PublishError::new(Class::Timeout, &what))
            })
        })
        .await
    }

    async fn housekeep(&self, sent_before: dpat_core::Wall) -> Result<(Lag, usize), StoreError> {
        let lag = self.store.lag().await?;
        let purged = self
            .store
            .purge(sent_before, self.config.purge_rows)
            .await?;
        Ok((lag, purged))
    }

    /// Tells the machine how an action ended.
    fn tell(&self, machine: &mut Machine, now: Now, done: Done) -> Result<(), StoreError> {
        let entropy = &*self.entropy;
        let counters = &self.counters;
        let add = |counter: &AtomicU64, more| {
            counter.fetch_add(more, Ordering::Relaxed);
        };
        match done {
            Done::Claimed(result) => machine.claimed(now, result, entropy)?,
            Done::Settled(result) => {
                let lost = machine.settled(now, result, entropy)?;
                add(&counters.lost, lost);
                trace::lost(lost);
            }
            Done::Kept(result) => {
                if let Some(lag) = machine.kept(now, result, entropy)? {
                    counters.lag.with(|known| *known = Some(lag));
                    trace::lag(&lag, now.wall);
                }
            }
            Done::Published(held, result) => {
                let reason = result.as_ref().err().map(ToString::to_string);
                let fate = machine.published(now, &held, result, entropy);
                let counter = match fate {
                    Fate::Sent => &counters.sent,
                    Fate::Retry => &counters.retried,
                    Fate::Parked => &counters.parked,
                };
                add(counter, 1);
                trace::published(&held.row, fate, reason.as_deref());
            }
        }
        Ok(())
    }
}

impl<T> Clone for Relay<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> fmt::Debug for Relay<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}
