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

/// What was there before a group changed it.
enum Before {
    Row(Table, String, Option<Vec<u8>>),
    Marker(Key, Option<(Bytes, Wall)>),
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

    /// Runs the transactions of a group one after the other, and commits them together, or nothing of them.
    fn commit(&self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        // Nobody else looks before the group is done.
        let mut image = std::mem::take(&mut *self.image.lock());
        let mut open = Open {
            // Copies the rows only if somebody still looks at them.
            image: Arc::make_mut(&mut image),
            before: Vec::new(),
            outbox: &self.outbox,
            arrived: &self.arrived,
            events: None,
        };
        let done = run_all(group, &mut open).and_then(|()| {
            let events = open.events.take();
            events.map_or(Ok(()), MemoryTx::commit).map_err(engine)
        });
        if done.is_err() {
            open.undo();
        }
        *self.image.lock() = image;
        done
    }
}

fn set<K: Ord, V>(stored: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => stored.insert(key, value),
        None => stored.remove(&key),
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

/// Everything as the running group sees and changes it.
struct Open<'i> {
    image: &'i mut Image,
    /// What to put back if the group fails, the last change last.
    before: Vec<Before>,
    outbox: &'i MemoryOutbox,
    arrived: &'i Arrived,
    /// The events of the group; dropped without a commit, there are none.
    events: Option<MemoryTx>,
}

impl Read for Open<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.now().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.now().scan(table, prefix, row)
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        self.now().acknowledged(key)
    }
}

impl Open<'_> {
    fn now(&self) -> Snapshot<'_> {
        Snapshot {
            image: self.image,
            arrived: self.arrived,
        }
    }

    fn set_row(&mut self, table: Table, key: &str, value: Option<Vec<u8>>) {
        let rows = self.image.rows.entry(table).or_default();
        let before = set(rows, key.to_owned(), value);
        let before = Before::Row(table, key.to_owned(), before);
        self.before.push(before);
    }

    fn mark(&mut self, key: &Key, value: Option<(Bytes, Wall)>) {
        let before = set(&mut self.image.markers, key.clone(), value);
        self.before.push(Before::Marker(key.clone(), before));
    }

    /// Makes everything as it was before the group.
    fn undo(&mut self) {
        for before in self.before.drain(..).rev() {
            match before {
                Before::Row(table, key, value) => {
                    drop(set(self.image.rows.entry(table).or_default(), key, value));
                }
                Before::Marker(key, value) => drop(set(&mut self.image.markers, key, value)),
            }
        }
    }
}

impl Markers for Open<'_> {
    type Error = StoreError;

    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let marker = self.image.markers.get(key);
        Ok(marker.map(|(marker, _)| marker.clone()))
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), StoreError> {
        self.mark(key, Some((marker, at)));
        Ok(())
    }
}

impl Write for Open<'_> {
    fn put(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.set_row(table, key, Some(value.to_owned()));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &str) -> Result<(), StoreError> {
        self.set_row(table, key, None);
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
        let markers = self.image.markers.iter();
        let old = markers.filter(|(_, (_, at))| *at < before).take(max);
        let old: Vec<Key> = old.map(|(key, _)| key.clone()).collect();
        for key in &old {
            self.mark(key, None);
        }
        Ok(old.len())
    }
}

impl Rows for Open<'_> {
    fn outbox(&mut self) -> Result<&mut dyn OutboxRows, StoreError> {
        Err(engine(
            "the relay of a simulated store has an outbox of its own",
        ))
    }
}

#[cfg(test)]
mod tests {
    use dpat_core::{SplitMix64, Uuid7Generator};
    use futures_util::FutureExt;

    use super::*;

    const TABLE: Table = Table("things");

    type Change = fn(&mut dyn Rows) -> Result<(), StoreError>;

    struct Work(Change);

    impl Job for Work {
        fn run(&mut self, rows: &mut dyn Rows) -> Result<(), StoreError> {
            self.0(rows)
        }

        fn answer(self: Box<Self>, _: Result<(), StoreError>) {}
    }

    fn commit(ground: &Ground, works: &[Change]) -> bool {
        let jobs = works
            .iter()
            .map(|work| Box::new(Work(*work)) as Box<dyn Job>);
        ground.commit(&mut jobs.collect::<Vec<_>>()).is_ok()
    }

    fn key() -> Key {
        Key::new("step", "id").unwrap()
    }

    #[test]
    fn a_group_that_fails_changes_nothing() {
        let ground = Ground::default();
        let put = |rows: &mut dyn Rows| {
            rows.put(TABLE, "a", b"1")?;
            rows.set_marker(&key(), Bytes::from_static(b"m"), Wall::MAX)
        };
        assert!(commit(&ground, &[put]));
        let change = |rows: &mut dyn Rows| {
            rows.put(TABLE, "a", b"2")?;
            rows.put(TABLE, "b", b"2")?;
            rows.remove(TABLE, "a")?;
            let id = Uuid7Generator::default().next(Wall::MIN, &SplitMix64::new(1));
            let event = Event::builder(id.map_err(engine)?, "topic").build();
            rows.append(&event.map_err(engine)?, Wall::MAX)?;
            assert_eq!(rows.forget(Wall::MAX, 9)?, 0);
            rows.set_marker(&key(), Bytes::from_static(b"n"), Wall::MIN)?;
            assert_eq!(rows.forget(Wall::MAX, 9)?, 1);
            Ok(())
        };
        // The next of the group sees what the one before it did.
        let fail = |rows: &mut dyn Rows| {
            assert_eq!(rows.get(TABLE, "a")?, None);
            assert_eq!(rows.get(TABLE, "b")?.as_deref(), Some(&b"2"[..]));
            assert_eq!(rows.marker(&key())?, None);
            Err(StoreError::Closed)
        };
        assert!(!commit(&ground, &[change, fail]));
        let look = |rows: &mut dyn Rows| {
            assert_eq!(rows.get(TABLE, "a")?.as_deref(), Some(&b"1"[..]));
            assert_eq!(rows.get(TABLE, "b")?, None);
            assert_eq!(rows.marker(&key())?.as_deref(), Some(&b"m"[..]));
            Ok(())
        };
        assert!(commit(&ground, &[look]));
        let lag = ground.outbox.lag().now_or_never().unwrap().unwrap();
        assert_eq!(lag.backlog_rows, 0);
        let read = |tx: &dyn Read| {
            let mut keys = Vec::new();
            tx.scan(TABLE, "", &mut |key, _| {
                keys.push(key.to_owned());
                true
            })?;
            Ok(keys)
        };
        assert_eq!(ground.read(read).unwrap(), ["a"]);
    }
}
