//! The store of a simulated node: a database in memory that outlives it, behind a commit that takes time.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Entropy, Sleep};
use dpat_outbox::Limits;
use dpat_sim::async_node::AsyncNode;
use redb::backends::InMemoryBackend;
use redb::{Database, Durability};
use tokio::sync::mpsc;

use super::super::group::{self, GROUP_MAX, Job, QUEUE_MAX};
use super::super::relay::GroupOutbox;
use super::super::rows::{Ground, engine};
use crate::shop::service::ports::{Read, Store, StoreError, Write};
use crate::sync::Mutex;

/// The shortest commit.
pub const COMMIT_MIN: Duration = Duration::from_micros(200);
/// The longest commit.
pub const COMMIT_MAX: Duration = Duration::from_micros(800);

/// Memory for pages, per store.
const CACHE_BYTES: usize = 16 << 20;

/// What is durable: the database of one service, whatever becomes of its node. Made when it is first asked for.
#[derive(Default)]
pub struct Durable(Mutex<Option<Ground>>);

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").finish_non_exhaustive()
    }
}

impl Durable {
    fn ground(&self) -> Result<Ground, StoreError> {
        let mut ground = self.0.lock();
        if let Some(ground) = &*ground {
            return Ok(ground.clone());
        }
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(engine)?;
        // It is in memory for as long as the run lasts: there is no disk to wait for.
        let made = Ground::open(database, Limits::DEFAULT, Durability::None)?;
        *ground = Some(made.clone());
        Ok(made)
    }

    /// Loses everything, as a machine does whose disk is gone.
    pub(crate) fn wipe(&self) {
        *self.0.lock() = None;
    }

    /// Looks at the rows.
    ///
    /// # Errors
    /// Whatever `look` returns.
    pub(crate) fn read<R>(
        &self,
        look: impl FnOnce(&dyn Read) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.ground()?.read(look)
    }
}

/// A handle to the store of one life of a node; clones share it.
///
/// A transaction is durable once it is answered: a crash before loses its whole group, a crash after none of it.
#[derive(Clone)]
pub struct SimStore {
    jobs: mpsc::Sender<Job>,
    ground: Ground,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStore").finish_non_exhaustive()
    }
}

impl SimStore {
    /// Opens what is durable, in this life of its node.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn open(node: &AsyncNode, durable: &Durable) -> Result<Self, StoreError> {
        let ground = durable.ground()?;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let writer = write_loop(node.clone(), ground.clone(), queue);
        drop(node.spawn(writer));
        Ok(Self { jobs, ground })
    }
}

impl Store for SimStore {
    fn transact<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Write) -> Result<R, StoreError> + Send + 'static,
    {
        group::transact(self.jobs.clone(), |rows| work(rows))
    }

    fn read<R>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.ground.read(work)
    }

    fn outbox(&self) -> Arc<dyn dpat_outbox::Store> {
        Arc::new(GroupOutbox::new(self.jobs.clone(), &self.ground))
    }

    fn backlog(&self) -> Result<u64, StoreError> {
        self.ground.backlog()
    }
}

/// Takes whatever waits, runs it, commits once, and then answers.
async fn write_loop(node: AsyncNode, ground: Ground, mut queue: mpsc::Receiver<Job>) {
    let more = u64::try_from((COMMIT_MAX - COMMIT_MIN).as_nanos()).unwrap_or(0);
    let mut group = Vec::new();
    while queue.recv_many(&mut group, GROUP_MAX).await > 0 {
        let takes = COMMIT_MIN + Duration::from_nanos(node.below(more));
        // A crash here loses the group, of which nothing has been done yet: no transaction is open across the wait …
        node.time().sleep(takes).await;
        let mut answers = Vec::with_capacity(group.len());
        let result = ground.commit(group.drain(..), &mut answers);
        // … and here keeps it, and nobody hears of it.
        give_way().await;
        for answer in answers {
            answer(result.clone());
        }
        if result.is_err() {
            // As with a store on a real disk: only a restart tells what it holds.
            return;
        }
    }
}

/// Lets others go first, or a crash come.
async fn give_way() {
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
