//! The store of a simulated node: rows in memory that outlive it, behind a commit that takes time.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Entropy, Sleep, Wall};
use dpat_idempotency::Key;
use dpat_idempotency::inbox::Markers;
use dpat_outbox::{AppendError, Appended, Event, MemoryOutbox, MemoryTx, Store as _};
use dpat_sim::async_node::AsyncNode;
use tokio::sync::mpsc;

use super::super::group::{self, GROUP_MAX, Job, QUEUE_MAX, Rows, engine, run_all};
use super::super::relay::OutboxRows;
use super::outbox::{Arrived, SimOutbox};
use crate::shop::service::ports::{Read, Store, StoreError, Table, Write};
use crate::sync::Mutex;

/// The shortest commit.
pub const COMMIT_MIN: Duration = Duration::from_micros(200);
/// The longest commit.
pub const COMMIT_MAX: Duration = Duration::from_micros(800);

/// Returns how long a commit takes, another time each.
pub(super) fn commit_takes(node: &AsyncNode) -> Duration {
    let more = u64::try_from((COMMIT_MAX - COMMIT_MIN).as_nanos()).unwrap_or(0);
    COMMIT_MIN + Duration::from_nanos(node.below(more))
}

/// What is durable: the rows of one service, whatever becomes of its node.
#[derive(Default)]
pub struct Durable(Mutex<Arc<Ground>>);

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").finish_non_exhaustive()
    }
}

impl Durable {
    fn ground(&self) -> Arc<Ground> {
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
        self.ground().read(look)
    }
}

type TableRows = BTreeMap<String, Vec<u8>>;

/// Rows of the service, and markers of what it has accepted.
#[derive(Clone, Default)]
struct Image {
    rows: BTreeMap<Table, TableRows>,
    markers: BTreeMap<Key, (Bytes, Wall)>,
}

/// What a group changes: none stands for what is removed.
#[derive(Default)]
struct Changes {
    rows: BTreeMap<Table, BTreeMap<String, Option<Vec<u8>>>>,
    markers: BTreeMap<Key, Option<(Bytes, Wall)>>,
}

/// Rows, markers and events of one service.
#[derive(Default)]
struct Ground {
    image: Mutex<Arc<Image>>,
    outbox: MemoryOutbox,
    arrived: Arc<Arrived>,
}

impl Ground {
    fn snapshot(&self) -> Arc<Image> {
        Arc::clone(&self.image.lock())
    }

    fn read<R>(
        &self,
        look: impl FnOnce(&dyn Read) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        look(&Snapshot {
            image: &self.snapshot(),
            arrived: &self.arrived,
        })
    }

    /// Runs the transactions of a group one after the other, and commits them together.
    fn commit(&self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let base = self.snapshot();
        let mut overlay = Overlay {
            base: &base,
            changes: Changes::default(),
            outbox: &self.outbox,
            arrived: &self.arrived,
            events: None,
        };
        run_all(group, &mut overlay)?;
        let Overlay {
            changes, events, ..
        } = overlay;
        drop(base);
        events.map_or(Ok(()), MemoryTx::commit).map_err(engine)?;
        self.apply(changes);
        Ok(())
    }

    fn apply(&self, changes: Changes) {
        let mut image = self.image.lock();
        // Copies the rows only if somebody still looks at them.
        let image = Arc::make_mut(&mut image);
        for (table, rows) in changes.rows {
            change(image.rows.entry(table).or_default(), rows);
        }
        change(&mut image.markers, changes.markers);
    }
}

fn change<K: Ord, V>(stored: &mut BTreeMap<K, V>, changes: BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(stored.insert(key, value)),
            None => drop(stored.remove(&key)),
        }
    }
}

/// A handle to the store of one life of a node; clones share it.
///
/// A transaction is durable once it is answered: a crash before loses its whole group, a crash after none of it.
#[derive(Clone)]
pub struct SimStore {
    node: AsyncNode,
    jobs: mpsc::Sender<Box<dyn Job>>,
    ground: Arc<Ground>,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStore").finish_non_exhaustive()
    }
}

impl SimStore {
    /// Opens what is durable, in this life of its node.
    #[must_use]
    pub fn open(node: &AsyncNode, durable: &Durable) -> Self {
        let ground = durable.ground();
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let writer = write_loop(node.clone(), Arc::clone(&ground), queue);
        drop(node.spawn(writer));
        Self {
            node: node.clone(),
            jobs,
            ground,
        }
    }
}

impl Store for SimStore {
    fn transact<R, F>(&self, work: F) -> impl Future<Output = Result<R, StoreError>> + Send
    where
        R: Send + 'static,
        F: Fn(&mut dyn Write) -> Result<R, StoreError> + Send + 'static,
    {
        group::transact(self.jobs.clone(), move |rows| work(rows))
    }

    async fn read<R, F>(&self, work: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: Fn(&dyn Read) -> Result<R, StoreError> + Send + 'static,
    {
        self.ground.read(work)
    }

    fn outbox(&self) -> Arc<dyn dpat_outbox::Store> {
        let outbox = self.ground.outbox.clone();
        let arrived = Arc::clone(&self.ground.arrived);
        Arc::new(SimOutbox::new(self.node.clone(), outbox, arrived))
    }

    async fn backlog(&self) -> Result<u64, StoreError> {
        let lag = self.ground.outbox.lag().await.map_err(engine)?;
        Ok(lag.backlog_rows)
    }
}

/// Takes whatever waits, runs it, commits once, and then answers.
async fn write_loop(node: AsyncNode, ground: Arc<Ground>, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::new();
    while queue.recv_many(&mut group, GROUP_MAX).await > 0 {
        // A crash here loses the group, of which nothing has been done yet …
        node.time().sleep(commit_takes(&node)).await;
        let result = ground.commit(&mut group);
        // … and here keeps it, and nobody hears of it.
        give_way().await;
        for job in group.drain(..) {
            job.answer(result.clone());
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

/// Every key from a prefix on.
fn from(prefix: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Included(prefix), Bound::Unbounded)
}

struct Snapshot<'i> {
    image: &'i Image,
    arrived: &'i Arrived,
}

impl Read for Snapshot<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.image.rows.get(&table);
        Ok(rows.and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let rows = self.image.rows.get(&table).into_iter();
        let mut rows = rows.flat_map(|rows| rows.range::<str, _>(from(prefix)));
        rows.by_ref()
            .take_while(|(key, _)| key.starts_with(prefix))
            .all(|(key, value)| row(key, value));
        Ok(())
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.arrived.lock().iter().for_each(|arrived| key(arrived));
        Ok(())
    }
}

/// Everything as the running group sees it.
struct Overlay<'i> {
    base: &'i Image,
    changes: Changes,
    outbox: &'i MemoryOutbox,
    arrived: &'i Arrived,
    /// The events of the group; dropped without a commit, there are none.
    events: Option<MemoryTx>,
}

impl Read for Overlay<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let changed = self.changes.rows.get(&table);
        match changed.and_then(|rows| rows.get(key)) {
            Some(row) => Ok(row.clone()),
            None => self.below().get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let Some(changes) = self.changes.rows.get(&table) else {
            return self.below().scan(table, prefix, row);
        };
        let mut rows = BTreeMap::new();
        self.below().scan(table, prefix, &mut |key, value| {
            rows.insert(key.to_owned(), value.to_owned());
            true
        })?;
        let changed = changes.range::<str, _>(from(prefix));
        let changed = changed.take_while(|(key, _)| key.starts_with(prefix));
        let changed = changed.map(|(key, value)| (key.clone(), value.clone()));
        change(&mut rows, changed.collect());
        rows.iter().all(|(key, value)| row(key, value));
        Ok(())
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.below().acknowledged(key)
    }
}

impl Overlay<'_> {
    /// What was there before the group.
    fn below(&self) -> Snapshot<'_> {
        Snapshot {
            image: self.base,
            arrived: self.arrived,
        }
    }
}

impl Markers for Overlay<'_> {
    type Error = StoreError;

    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let marker = match self.changes.markers.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.markers.get(key),
        };
        Ok(marker.map(|(marker, _)| marker.clone()))
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), StoreError> {
        let markers = &mut self.changes.markers;
        markers.insert(key.clone(), Some((marker, at)));
        Ok(())
    }
}

impl Write for Overlay<'_> {
    fn put(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let rows = self.changes.rows.entry(table).or_default();
        rows.insert(key.to_owned(), Some(value.to_owned()));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &str) -> Result<(), StoreError> {
        let rows = self.changes.rows.entry(table).or_default();
        rows.insert(key.to_owned(), None);
        Ok(())
    }

    fn append(&mut self, event: &Event, now: Wall) -> Result<Option<Appended>, StoreError> {
        let outbox = self.outbox;
        let events = self.events.get_or_insert_with(|| outbox.begin());
        match events.append(event, now) {
            Ok(appended) => Ok(Some(appended)),
            Err(AppendError::Full { .. }) => Ok(None),
            Err(error) => Err(engine(error)),
        }
    }

    fn forget(&mut self, before: Wall, max: usize) -> Result<usize, StoreError> {
        let old = self
            .base
            .markers
            .iter()
            .filter(|(key, (_, at))| *at < before && !self.changes.markers.contains_key(*key));
        let old: Vec<Key> = old.take(max).map(|(key, _)| key.clone()).collect();
        let forgotten = old.len();
        let old = old.into_iter().map(|key| (key, None));
        self.changes.markers.extend(old);
        Ok(forgotten)
    }
}

impl Rows for Overlay<'_> {
    fn outbox(&mut self) -> Result<&mut dyn OutboxRows, StoreError> {
        Err(engine(
            "the relay of a simulated store has an outbox of its own",
        ))
    }
}
