//! Transactions that wait for a writer, which runs many of them and commits once.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::shop::service::ports::{Read, Store, StoreError, Write};

use super::relay::OutboxRows;

/// How many transactions may wait; further callers wait for a place.
pub(super) const QUEUE_MAX: usize = 4_096;
/// How many transactions share one commit.
pub(super) const GROUP_MAX: usize = 512;

pub(super) fn engine(error: impl fmt::Display) -> StoreError {
    StoreError::Engine(error.to_string())
}

/// The end of the keys that begin with a prefix.
pub(super) fn below(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// Everything that can be done within the transaction of a group.
pub(super) trait Rows: Write {
    /// The rows of the outbox, where its relay works through the writer.
    fn outbox(&mut self) -> Result<&mut dyn OutboxRows, StoreError>;
}

/// One transaction that waits.
pub(super) trait Job: Send {
    /// Runs it; only what the last run did counts.
    fn run(&mut self, rows: &mut dyn Rows) -> Result<(), StoreError>;

    /// Tells its caller what became of it.
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

/// Where a group of transactions is committed.
pub(super) trait Ground {
    /// Runs the transactions one after the other, and commits them together, or nothing of them.
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError>;
}

/// Runs the transactions one after the other; the first error ends it.
pub(super) fn run_all(group: &mut [Box<dyn Job>], rows: &mut impl Rows) -> Result<(), StoreError> {
    group.iter_mut().try_for_each(|job| job.run(rows))
}

struct Waiting<R, F> {
    work: F,
    value: Option<R>,
    caller: oneshot::Sender<Result<R, StoreError>>,
}

impl<R, F> Job for Waiting<R, F>
where
    R: Send,
    F: Fn(&mut dyn Rows) -> Result<R, StoreError> + Send,
{
    fn run(&mut self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        self.value = Some((self.work)(rows)?);
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let value = self.value.ok_or(StoreError::Closed);
        // A caller that has gone does not need the answer.
        let _ = self.caller.send(result.and(value));
    }
}

/// Hands a transaction to the writer; resolves once the writer has told what became of it.
///
/// Cancel safety: a dropped call may or may not be committed.
pub(super) fn transact<R, F>(
    jobs: mpsc::Sender<Box<dyn Job>>,
    work: F,
) -> impl Future<Output = Result<R, StoreError>> + Send
where
    R: Send + 'static,
    F: Fn(&mut dyn Rows) -> Result<R, StoreError> + Send + 'static,
{
    let (caller, answer) = oneshot::channel();
    let job = Box::new(Waiting {
        work,
        value: None,
        caller,
    });
    async move {
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Looks at the latest durable state, without the writer.
pub(super) trait Look: Send + Sync {
    /// Calls `work` once.
    fn look(
        &self,
        work: &mut dyn FnMut(&dyn Read) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
}

/// The store of one node, on whichever engine; clones share it.
///
/// A thread of its own takes every transaction that waits, runs them one after the other in one transaction of the engine,
/// commits once, and only then answers them all.
#[derive(Clone)]
pub struct NodeStore {
    jobs: mpsc::Sender<Box<dyn Job>>,
    /// None: whoever looks waits for the writer.
    look: Option<Arc<dyn Look>>,
    outbox: Arc<dyn dpat_outbox::Store>,
}

impl fmt::Debug for NodeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeStore").finish_non_exhaustive()
    }
}

/// Owns the writer of a store.
#[derive(Debug)]
pub struct StoreOwner {
    writer: JoinHandle<()>,
}

impl StoreOwner {
    /// Waits until the store is closed; every [`NodeStore`] must have been dropped before.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if the writer panicked.
    pub fn join(self) -> Result<(), StoreError> {
        self.writer
            .join()
            .map_err(|_| engine("the writer panicked"))
    }
}

/// The parts of a store that are made before its writer.
pub(super) struct Parts<G> {
    pub(super) ground: G,
    pub(super) look: Option<Arc<dyn Look>>,
}

impl NodeStore {
    /// Starts the writer of a store; `outbox` makes that of its relay.
    pub(super) fn start<G: Ground + Send + 'static>(
        parts: Parts<G>,
        outbox: impl FnOnce(&mpsc::Sender<Box<dyn Job>>) -> Arc<dyn dpat_outbox::Store>,
    ) -> Result<(Self, StoreOwner), StoreError> {
        let Parts { ground, look } = parts;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_loop(ground, queue))
            .map_err(engine)?;
        let outbox = outbox(&jobs);
        let store = Self { jobs, look, outbox };
        Ok((store, StoreOwner { writer }))
    }
}

fn write_loop(mut ground: impl Ground, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::new();
    while queue.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        let result = ground.commit(&mut group);
        for job in group.drain(..) {
            job.answer(result.clone());
        }
        if result.is_err() {
            // The state of a store that could not commit is not known; only a restart tells.
            return;
        }
    }
}

impl Store for NodeStore {
    fn transact<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: Fn(&mut dyn Write) -> Result<R, StoreError> + Send + 'static,
    {
        transact(self.jobs.clone(), move |rows| work(rows))
    }

    async fn read<R, F>(&self, work: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: Fn(&dyn Read) -> Result<R, StoreError> + Send + 'static,
    {
        let Some(look) = &self.look else {
            return transact(self.jobs.clone(), move |rows| work(rows)).await;
        };
        let mut found = None;
        look.look(&mut |rows| {
            found = Some(work(rows)?);
            Ok(())
        })?;
        found.ok_or(StoreError::Closed)
    }

    fn outbox(&self) -> Arc<dyn dpat_outbox::Store> {
        Arc::clone(&self.outbox)
    }

    async fn backlog(&self) -> Result<u64, StoreError> {
        let lag = self.outbox.lag().await.map_err(engine)?;
        Ok(lag.backlog_rows)
    }
}
