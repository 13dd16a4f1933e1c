//! The store of a simulated node: rows in memory that outlive it, behind a commit that takes time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Entropy, Sleep};
use dpat_sim::async_node::AsyncNode;
use tokio::sync::mpsc;

use super::super::group::{self, GROUP_MAX, Job, QUEUE_MAX};
use crate::shop::service::ports::{Read, Store, StoreError, Table, Write};
use crate::sync::Mutex;

/// The shortest commit.
pub const COMMIT_MIN: Duration = Duration::from_micros(200);
/// The longest commit.
pub const COMMIT_MAX: Duration = Duration::from_micros(800);

type Rows = BTreeMap<String, Vec<u8>>;
type Image = BTreeMap<Table, Rows>;
/// What a group changes: none stands for a row that is removed.
type Changes = BTreeMap<Table, BTreeMap<String, Option<Vec<u8>>>>;

/// What is durable: the rows of one service, whatever becomes of its node.
#[derive(Debug, Default)]
pub struct Durable(Mutex<Arc<Image>>);

impl Durable {
    fn snapshot(&self) -> Arc<Image> {
        Arc::clone(&self.0.lock())
    }

    /// Loses everything, as a machine does whose disk is gone.
    pub(crate) fn wipe(&self) {
        *self.0.lock() = Arc::default();
    }

    /// Looks at the rows.
    ///
    /// # Errors
    /// Whatever `look` returns.
    pub(crate) fn read<R>(
        &self,
        look: impl FnOnce(&dyn Read) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        look(&Snapshot(&self.snapshot()))
    }

    fn apply(&self, changes: Changes) {
        let mut image = self.0.lock();
        // Copies the rows only if somebody still looks at them.
        let image = Arc::make_mut(&mut image);
        for (table, rows) in changes {
            let stored = image.entry(table).or_default();
            for (key, row) in rows {
                match row {
                    Some(row) => drop(stored.insert(key, row)),
                    None => drop(stored.remove(&key)),
                }
            }
        }
    }
}

/// A handle to the store of one life of a node; clones share it.
///
/// A transaction is durable once it is answered: a crash before loses its whole group, a crash after none of it.
#[derive(Clone)]
pub struct SimStore {
    jobs: mpsc::Sender<Job>,
    durable: Arc<Durable>,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStore").finish_non_exhaustive()
    }
}

impl SimStore {
    /// Opens what is durable, in this life of its node.
    #[must_use]
    pub fn open(node: &AsyncNode, durable: Arc<Durable>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let writer = write_loop(node.clone(), Arc::clone(&durable), queue);
        drop(node.spawn(writer));
        Self { jobs, durable }
    }
}

impl Store for SimStore {
    fn transact<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Write) -> Result<R, StoreError> + Send + 'static,
    {
        group::transact(self.jobs.clone(), work)
    }

    fn read<R>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.durable.read(work)
    }
}

/// Takes whatever waits, runs it, commits once, and then answers.
async fn write_loop(node: AsyncNode, durable: Arc<Durable>, mut queue: mpsc::Receiver<Job>) {
    let more = u64::try_from((COMMIT_MAX - COMMIT_MIN).as_nanos()).unwrap_or(0);
    let mut group = Vec::new();
    while queue.recv_many(&mut group, GROUP_MAX).await > 0 {
        let mut answers = Vec::with_capacity(group.len());
        let run = run_group(&durable.snapshot(), group.drain(..), &mut answers);
        let result = match run {
            Ok(changes) => {
                let takes = COMMIT_MIN + Duration::from_nanos(node.below(more));
                // A crash here loses the group …
                node.time().sleep(takes).await;
                durable.apply(changes);
                // … and here keeps it, and nobody hears of it.
                give_way().await;
                Ok(())
            }
            Err(error) => Err(error),
        };
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

fn run_group(
    base: &Image,
    group: impl Iterator<Item = Job>,
    answers: &mut Vec<group::Answer>,
) -> Result<Changes, StoreError> {
    let mut tables = Overlay {
        base,
        changes: Changes::new(),
    };
    for job in group {
        match job(&mut tables) {
            Ok(answer) => answers.push(answer),
            Err(refusal) => {
                (refusal.answer)(Err(refusal.error.clone()));
                return Err(refusal.error);
            }
        }
    }
    Ok(tables.changes)
}

/// Every key from a prefix on.
fn from(prefix: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Included(prefix), Bound::Unbounded)
}

struct Snapshot<'i>(&'i Image);

impl Read for Snapshot<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let rows = self.0.get(&table).into_iter();
        let mut rows = rows.flat_map(|rows| rows.range::<str, _>(from(prefix)));
        rows.by_ref()
            .take_while(|(key, _)| key.starts_with(prefix))
            .all(|(key, value)| row(key, value));
        Ok(())
    }
}

/// The rows as the running group sees them.
struct Overlay<'i> {
    base: &'i Image,
    changes: Changes,
}

impl Read for Overlay<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let changed = self.changes.get(&table).and_then(|rows| rows.get(key));
        match changed {
            Some(row) => Ok(row.clone()),
            None => Snapshot(self.base).get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let Some(changes) = self.changes.get(&table) else {
            return Snapshot(self.base).scan(table, prefix, row);
        };
        let mut rows = BTreeMap::new();
        Snapshot(self.base).scan(table, prefix, &mut |key, value| {
            rows.insert(key.to_owned(), value.to_owned());
            true
        })?;
        let changed = changes.range::<str, _>(from(prefix));
        for (key, change) in changed.take_while(|(key, _)| key.starts_with(prefix)) {
            match (rows.entry(key.clone()), change) {
                (Entry::Occupied(entry), None) => drop(entry.remove()),
                (Entry::Vacant(_), None) => {}
                (entry, Some(value)) => drop(entry.insert_entry(value.clone())),
            }
        }
        rows.iter().all(|(key, value)| row(key, value));
        Ok(())
    }
}

impl Write for Overlay<'_> {
    fn put(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let rows = self.changes.entry(table).or_default();
        rows.insert(key.to_owned(), Some(value.to_owned()));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &str) -> Result<(), StoreError> {
        let rows = self.changes.entry(table).or_default();
        rows.insert(key.to_owned(), None);
        Ok(())
    }
}
