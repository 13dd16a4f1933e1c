//! A store and an inbox with a bug each, as people write them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::conformance::{End, Harness, InboxHarness, Step, Told};
use dpat_idempotency::{Change, Fingerprint, Inserted, Key, Row, Store, StoreError, Swap, Version};

use crate::world::yield_once;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StoreBug {
    PutOverwrites,
    VersionUnchecked,
    VersionStaysForEqualContent,
    RemoveUnchecked,
    RemoveKeepsTheRow,
    VersionsRestart,
    KeysFold,
    ScanUnsorted,
    ScanIncludesAfter,
    PurgesEarly,
    PurgesByOldTime,
    PurgeIgnoresMax,
    RowsAreCut,
    ReopenForgets,
    SwapInTwoSteps,
    InsertOverwrites,
    InsertForgetsItsTime,
    InsertTellsTheVersionBefore,
    InsertFindsWhatItBrought,
    InsertInTwoSteps,
}

#[derive(Clone)]
struct Entry {
    key: Key,
    version: u64,
    bytes: Bytes,
    expires: Option<Wall>,
}

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, Entry>,
    last_version: u64,
}

#[allow(clippy::disallowed_types, reason = "the bugs need no model in loom")]
type Shared = Arc<std::sync::Mutex<Rows>>;

/// A store with at most one bug.
#[derive(Clone)]
pub(crate) struct Buggy {
    bug: Option<StoreBug>,
    rows: Shared,
}

impl Buggy {
    fn has(&self, bug: StoreBug) -> bool {
        self.bug == Some(bug)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        work(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn index(&self, key: &Key) -> Vec<u8> {
        match self.has(StoreBug::KeysFold) {
            true => key.to_string().to_lowercase().into_bytes(),
            false => key.as_bytes().to_vec(),
        }
    }

    fn matches(&self, key: &Key, expected: Option<Version>, change: &Change) -> bool {
        let now = self.with(|rows| {
            rows.rows
                .get(&self.index(key))
                .map(|entry| Version(entry.version))
        });
        let lenient = match change {
            Change::Put { .. } if expected.is_none() => self.has(StoreBug::PutOverwrites),
            Change::Put { .. } => self.has(StoreBug::VersionUnchecked) && now.is_some(),
            Change::Remove => self.has(StoreBug::RemoveUnchecked),
        };
        now == expected || lenient
    }

    fn apply(&self, key: &Key, change: Change) {
        let index = self.index(key);
        self.with(|rows| {
            let old = rows.rows.get(&index).cloned();
            match change {
                Change::Remove if self.has(StoreBug::RemoveKeepsTheRow) && old.is_some() => {
                    rows.rows.get_mut(&index).unwrap().bytes = Bytes::new();
                }
                Change::Remove => drop(rows.rows.remove(&index)),
                Change::Put {
                    mut bytes,
                    mut expires,
                } => {
                    rows.last_version += 1;
                    let mut version = rows.last_version;
                    if let Some(old) = &old {
                        if self.has(StoreBug::VersionStaysForEqualContent) && old.bytes == bytes {
                            version = old.version;
                        }
                        if self.has(StoreBug::PurgesByOldTime) {
                            expires = old.expires;
                        }
                    }
                    if self.has(StoreBug::VersionsRestart) {
                        version = old.map_or(1, |old| old.version + 1);
                    }
                    if self.has(StoreBug::RowsAreCut) {
                        bytes.truncate(65_535);
                    }
                    let entry = Entry {
                        key: key.clone(),
                        version,
                        bytes,
                        expires,
                    };
                    rows.rows.insert(index, entry);
                }
            }
        });
    }
}

#[async_trait]
impl Store for Buggy {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        Ok(self.with(|rows| {
            rows.rows.get(&self.index(key)).map(|entry| Row {
                version: Version(entry.version),
                bytes: entry.bytes.clone(),
            })
        }))
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        if !self.matches(key, expected, &change) {
            return Ok(Swap::Conflict);
        }
        if self.has(StoreBug::SwapInTwoSteps) {
            yield_once().await;
        }
        self.apply(key, change);
        Ok(Swap::Done)
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        mut expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        let found = self.load(key).await?;
        if self.has(StoreBug::InsertInTwoSteps) {
            yield_once().await;
        }
        if let Some(mut row) = found
            && !self.has(StoreBug::InsertOverwrites)
        {
            if self.has(StoreBug::InsertFindsWhatItBrought) {
                row.bytes = bytes;
            }
            return Ok(Inserted::Found(Some(row)));
        }
        if self.has(StoreBug::InsertForgetsItsTime) {
            expires = None;
        }
        self.apply(key, Change::Put { bytes, expires });
        let before = u64::from(self.has(StoreBug::InsertTellsTheVersionBefore));
        let version = self.load(key).await?.map(|row| row.version.0 - before);
        Ok(Inserted::New(version.map(Version)))
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        let inclusive = self.has(StoreBug::ScanIncludesAfter);
        let mut entries: Vec<Entry> = self.with(|rows| rows.rows.values().cloned().collect());
        if self.has(StoreBug::ScanUnsorted) {
            entries.reverse();
        }
        entries.retain(|entry| match after {
            None => true,
            Some(after) if inclusive => entry.key >= *after,
            Some(after) => entry.key > *after,
        });
        entries.truncate(max);
        let row = |entry: Entry| {
            let row = Row {
                version: Version(entry.version),
                bytes: entry.bytes,
            };
            (entry.key, row)
        };
        Ok(entries.into_iter().map(row).collect())
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        let now = match self.has(StoreBug::PurgesEarly) {
            true => Wall::from_nanos(now.as_nanos().saturating_add(1)),
            false => now,
        };
        let max = match self.has(StoreBug::PurgeIgnoresMax) {
            true => usize::MAX,
            false => max,
        };
        Ok(self.with(|rows| {
            let due = |entry: &&Entry| entry.expires.is_some_and(|expires| expires <= now);
            let due: Vec<Vec<u8>> = rows
                .rows
                .values()
                .filter(due)
                .take(max)
                .map(|entry| entry.key.as_bytes().to_vec())
                .collect();
            for index in &due {
                rows.rows.remove(index);
            }
            due.len()
        }))
    }
}

/// Makes stores with the bug.
pub(crate) struct Stores(pub(crate) Option<StoreBug>);

impl Harness for Stores {
    type Store = Buggy;

    fn fresh(&self) -> Buggy {
        Buggy {
            bug: self.0,
            rows: Arc::default(),
        }
    }

    fn reopen(&self, store: Buggy) -> Buggy {
        match self.0 {
            Some(StoreBug::ReopenForgets) => self.fresh(),
            _ => store,
        }
    }

    // Every future of a buggy store ends, and a law that waits for ever is a law that found it.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        dpat_testkit::run_with(|| true, future)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InboxBug {
    ActsAgain,
    MarkerBeforeTheTransaction,
    EffectBeforeTheTransaction,
    CrashCommits,
    FailureKeepsTheMarker,
    OutcomeIsForgotten,
    FingerprintIsIgnored,
    NoTombstone,
    UndoneTwice,
    OwnMarkersUnseen,
    KeysFold,
    ReopenForgets,
    SweepsTheYoung,
    SweepIgnoresMax,
}

#[derive(Clone)]
struct Mark {
    /// None: cancelled.
    done: Option<(Fingerprint, Bytes)>,
    at: Wall,
}

#[derive(Clone, Default)]
pub(crate) struct Tables {
    marks: BTreeMap<String, Mark>,
    effects: BTreeMap<Key, i64>,
}

/// Makes inboxes with the bug.
pub(crate) struct Inboxes(pub(crate) Option<InboxBug>);

impl Inboxes {
    fn has(&self, bug: InboxBug) -> bool {
        self.0 == Some(bug)
    }

    fn index(&self, key: &Key) -> String {
        match self.has(InboxBug::KeysFold) {
            true => key.to_string(),
            false => format!("{:?}/{:?}", key.scope(), key.id()),
        }
    }

    fn step(&self, committed: &RefCell<Tables>, tx: &mut Tables, now: Wall, step: &Step) -> Told {
        let key = match step {
            Step::Accept { key, .. } | Step::Cancel { key } => key,
        };
        let index = self.index(key);
        let seen = match self.has(InboxBug::OwnMarkersUnseen) {
            true => committed.borrow().marks.get(&index).cloned(),
            false => tx.marks.get(&index).cloned(),
        };
        let add = |tx: &mut Tables, change: i64| {
            *tx.effects.entry(key.clone()).or_default() += change;
            if self.has(InboxBug::EffectBeforeTheTransaction) {
                let mut committed = committed.borrow_mut();
                *committed.effects.entry(key.clone()).or_default() += change;
            }
        };
        let mark = |tx: &mut Tables, done: Option<(Fingerprint, Bytes)>| {
            let mark = Mark { done, at: now };
            tx.marks.insert(index.clone(), mark.clone());
            if self.has(InboxBug::MarkerBeforeTheTransaction) {
                committed.borrow_mut().marks.insert(index.clone(), mark);
            }
        };
        match step {
            Step::Accept {
                fingerprint,
                outcome,
                ..
            } => match seen {
                Some(Mark { done: None, .. }) => Told::Cancelled,
                Some(Mark {
                    done: Some((earlier, outcome)),
                    ..
                }) if !self.has(InboxBug::ActsAgain) => {
                    if earlier != *fingerprint && !self.has(InboxBug::FingerprintIsIgnored) {
                        return Told::Reused;
                    }
                    match self.has(InboxBug::OutcomeIsForgotten) {
                        true => Told::Again(Bytes::new()),
                        false => Told::Again(outcome),
                    }
                }
                _ => {
                    add(tx, 1);
                    let Some(outcome) = outcome else {
                        if self.has(InboxBug::FailureKeepsTheMarker) {
                            let mark = Mark {
                                done: Some((*fingerprint, Bytes::new())),
                                at: now,
                            };
                            committed.borrow_mut().marks.insert(index, mark);
                        }
                        return Told::Failed;
                    };
                    mark(tx, Some((*fingerprint, outcome.clone())));
                    Told::First(outcome.clone())
                }
            },
            Step::Cancel { .. } => match seen {
                None if self.has(InboxBug::NoTombstone) => Told::NothingToUndo,
                None => {
                    mark(tx, None);
                    Told::NothingToUndo
                }
                Some(Mark { done: None, .. }) => Told::AlreadyCancelled,
                Some(Mark {
                    done: Some((_, outcome)),
                    ..
                }) => {
                    add(tx, -1);
                    if !self.has(InboxBug::UndoneTwice) {
                        mark(tx, None);
                    }
                    Told::Undone(outcome)
                }
            },
        }
    }
}

impl InboxHarness for Inboxes {
    type Db = RefCell<Tables>;

    fn fresh(&self) -> Self::Db {
        RefCell::default()
    }

    fn reopen(&self, db: Self::Db) -> Self::Db {
        match self.0 {
            Some(InboxBug::ReopenForgets) => self.fresh(),
            _ => db,
        }
    }

    fn in_tx(
        &self,
        db: &mut Self::Db,
        now: Wall,
        steps: &[Step],
        end: End,
    ) -> Result<Vec<Told>, String> {
        let mut tx = db.borrow().clone();
        let mut told = Vec::new();
        for step in steps {
            told.push(self.step(db, &mut tx, now, step));
            if matches!(told.last(), Some(Told::Reused | Told::Failed)) {
                return Ok(told);
            }
        }
        let crash_commits = end == End::Crash && self.has(InboxBug::CrashCommits);
        if end == End::Commit || crash_commits {
            *db.borrow_mut() = tx;
        }
        Ok(told)
    }

    fn effects(&self, db: &Self::Db, key: &Key) -> Result<i64, String> {
        Ok(db.borrow().effects.get(key).copied().unwrap_or(0))
    }

    fn sweep(&self, db: &Self::Db, before: Wall, max: usize) -> Result<usize, String> {
        let mut db = db.borrow_mut();
        let young = self.has(InboxBug::SweepsTheYoung);
        let mut old: Vec<(Wall, String)> = db
            .marks
            .iter()
            .filter(|(_, mark)| mark.at < before || (young && mark.at == before))
            .map(|(index, mark)| (mark.at, index.clone()))
            .collect();
        old.sort();
        if !self.has(InboxBug::SweepIgnoresMax) {
            old.truncate(max);
        }
        for (_, index) in &old {
            db.marks.remove(index);
        }
        Ok(old.len())
    }
}
