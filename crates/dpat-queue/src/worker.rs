//! The worker: the same above every queue. It spawns nothing.

mod config;
mod failure;
mod hand;
mod run;

pub use config::WorkerBuilder;
pub use failure::Failure;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpat_core::{Class, Classify, Effect, Entropy, Sleep};

use crate::error::ReceiveError;
use crate::message::Delivery;
use crate::queue::Queue;
use config::Settings;

type Handling = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
type Handler = Box<dyn Fn(Delivery) -> Handling + Send + Sync>;

/// Takes messages from a queue and hands them to a handler, several at a time. Cloning is cheap; several workers may work on
/// one queue, in one process or in many.
///
/// What a handler returns settles its message: `Ok` is done; a [`Failure`] is a retry after a delay that grows, and after the
/// last attempt a dead letter; a panic is a failure. Leases are kept up while handlers run and messages wait for them.
///
/// # Examples
/// ```
/// use dpat_core::{ManualTime, SystemEntropy};
/// use dpat_queue::{Delivery, Failure, Message, Queue, Worker};
///
/// async fn handle(delivery: Delivery) -> Result<(), Failure> {
///     match delivery.payload().first() {
///         Some(_) => Ok(()),
///         None => Err(Failure::reject("an empty order")),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let time = ManualTime::new(); // or TokioTime
/// let queue = Queue::builder().in_memory(time.clone())?;
/// queue.send(Message::new("order 7")).await?;
///
/// let worker = Worker::builder(queue).concurrency(4).build(time, SystemEntropy, handle)?;
/// let handled = async {
///     while worker.stats().done == 0 {
///         tokio::task::yield_now().await;
///     }
/// };
/// worker.run_until(handled).await?; // or spawn `worker.run()`
/// # Ok(()) }
/// ```
pub struct Worker<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    queue: Queue,
    settings: Settings,
    handler: Handler,
    time: T,
    entropy: Box<dyn Entropy>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    done: AtomicU64,
    retried: AtomicU64,
    rejected: AtomicU64,
    released: AtomicU64,
    lost: AtomicU64,
    running: AtomicU64,
    waiting: AtomicU64,
}

/// What a worker has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Messages that were handled.
    pub done: u64,
    /// Attempts that will be followed by another.
    pub retried: u64,
    /// Messages that became dead letters.
    pub rejected: u64,
    /// Messages that were given back when the worker stopped.
    pub released: u64,
    /// Deliveries whose lease was over, or which could not be settled: they come again.
    pub lost: u64,
    /// Handlers that run.
    pub running: u64,
    /// Messages that wait for a handler.
    pub waiting: u64,
}

/// Says why a worker stopped by itself.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The queue cannot be received from, and that will not pass.
    #[error("receiving: {0}")]
    Receive(#[source] ReceiveError),
}

impl Classify for WorkerError {
    fn class(&self) -> Class {
        match self {
            Self::Receive(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Unknown
    }
}

impl<T: Sleep> Worker<T> {
    /// Returns what this worker has done since it was made.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let counters = &self.inner.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerStats {
            done: count(&counters.done),
            retried: count(&counters.retried),
            rejected: count(&counters.rejected),
            released: count(&counters.released),
            lost: count(&counters.lost),
            running: count(&counters.running),
            waiting: count(&counters.waiting),
        }
    }

    /// Works until the queue is drained. Spawn it.
    ///
    /// What passes by itself is waited for.
    ///
    /// # Errors
    /// [`WorkerError`]: a queue that will not come back by itself.
    ///
    /// # Cancel safety
    /// Drop it at any time, as a crash would: nothing is lost, and what it held comes again when its leases end. To stop
    /// without that wait, use [`run_until`](Self::run_until).
    pub async fn run(&self) -> Result<(), WorkerError> {
        self.run_until(std::future::pending()).await
    }

    /// Works until `stop` completes, then takes no more messages, handles those it has, and gives back what is not handled
    /// within [`drain_timeout`](WorkerBuilder::drain_timeout).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        run::Run::new(&self.inner).until(stop).await
    }
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("queue", &self.inner.queue)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
