//! Every limit of a worker, validated once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Backoff, Entropy, Sleep};

use super::{Counters, Failure, Inner, Worker};
use crate::config::{range, time};
use crate::error::ConfigError;
use crate::message::Delivery;
use crate::queue::Queue;

/// Configures a [`Worker`].
#[derive(Clone, Debug)]
#[must_use]
pub struct WorkerBuilder {
    queue: Queue,
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    pub(super) attempts_max: u32,
    pub(super) backoff: Backoff,
    pub(super) lease: Duration,
    pub(super) handler_timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) receive_wait: Duration,
}

impl Worker<()> {
    /// Starts to configure a worker on a queue.
    pub fn builder(queue: Queue) -> WorkerBuilder {
        WorkerBuilder {
            queue,
            settings: Settings {
                concurrency: 16,
                prefetch: 16,
                attempts_max: 5,
                backoff: Backoff::DEFAULT,
                lease: Duration::from_secs(30),
                handler_timeout: Duration::from_secs(5 * 60),
                drain_timeout: Duration::from_secs(30),
                receive_wait: Duration::from_secs(20),
            },
        }
    }
}

impl WorkerBuilder {
    /// Sets how many messages are handled at a time; 16 by default, 1 to 10 000.
    pub const fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers;
        self
    }

    /// Sets how many messages may wait for a handler; 16 by default, at most 10 000. Each of them is leased.
    pub const fn prefetch(mut self, messages: usize) -> Self {
        self.settings.prefetch = messages;
        self
    }

    /// Sets how often a message is tried before it becomes a dead letter; 5 by default.
    ///
    /// An attempt counts when the message is handed out: one that kills its worker each time is given up, too.
    pub const fn attempts_max(mut self, attempts: u32) -> Self {
        self.settings.attempts_max = attempts;
        self
    }

    /// Sets the delay before another attempt; [`Backoff::DEFAULT`] by default.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Sets how long leases are made when they are kept up, which is every third of it; 30 s by default, 3 ms to 12 hours.
    ///
    /// Where the queue cannot extend leases, they end as the queue has them.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets how long a handler may take; 5 minutes by default, at most a day. It is then dropped, and has failed.
    pub const fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handler_timeout = timeout;
        self
    }

    /// Sets how long a worker that was told to stop goes on with what it has; 30 s by default, at most a day.
    pub const fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// Sets how long one receive waits; 20 s by default, at most an hour.
    pub const fn receive_wait(mut self, wait: Duration) -> Self {
        self.settings.receive_wait = wait;
        self
    }

    /// Makes the worker. `entropy` spreads the delays of retries.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of its range.
    pub fn build<T, H, F>(
        self,
        time: T,
        entropy: impl Entropy + 'static,
        handler: H,
    ) -> Result<Worker<T>, ConfigError>
    where
        T: Sleep,
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.settings.check()?;
        Ok(Worker {
            inner: Arc::new(Inner {
                queue: self.queue,
                settings: self.settings,
                handler: Box::new(move |delivery| Box::pin(handler(delivery))),
                time,
                entropy: Box::new(entropy),
                counters: Counters::default(),
            }),
        })
    }
}

impl Settings {
    fn check(&self) -> Result<(), ConfigError> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let ms = Duration::from_millis(1);
        range("concurrency", self.concurrency as u64, 1, 10_000)?;
        range("prefetch", self.prefetch as u64, 0, 10_000)?;
        range("attempts_max", self.attempts_max.into(), 1, u32::MAX.into())?;
        time("lease", self.lease, 3 * ms, DAY / 2)?;
        time("handler_timeout", self.handler_timeout, ms, DAY)?;
        time("drain_timeout", self.drain_timeout, Duration::ZERO, DAY)?;
        time("receive_wait", self.receive_wait, ms, DAY / 24)
    }
}
