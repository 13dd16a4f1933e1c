//! A small database in memory, to try an inbox on.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};

use super::Markers;
use crate::key::Key;
use crate::sync::Mutex;

/// A database in memory with markers and your own rows, for tests and to see an inbox work. Clones share it.
///
/// Transactions are optimistic: one that began before another committed fails at its own commit, and is done again.
#[derive(Clone, Debug, Default)]
pub struct MemoryDb {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    commits: u64,
    markers: BTreeMap<Key, (Bytes, Wall)>,
    by_time: BTreeSet<(Wall, Key)>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A transaction of a [`MemoryDb`]. Dropping it rolls it back.
#[derive(Debug)]
pub struct MemoryTx {
    db: MemoryDb,
    /// The commits that had been made when it began.
    seen: u64,
    markers: BTreeMap<Key, (Bytes, Wall)>,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// Why a transaction was not committed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Another transaction committed first: do it again.
    #[error("another transaction committed first")]
    Contended,
    /// The database is full.
    #[error("rows: the limit of {} is reached", MemoryDb::ROWS_MAX)]
    Full,
}

impl Classify for CommitError {
    fn class(&self) -> Class {
        match self {
            Self::Contended => Class::Conflict,
            Self::Full => Class::Overloaded,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

impl MemoryDb {
    /// The number of markers and rows together: 100 000.
    pub const ROWS_MAX: usize = 100_000;

    /// Makes an empty database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a transaction.
    #[must_use]
    pub fn begin(&self) -> MemoryTx {
        MemoryTx {
            seen: self.state.with(|state| state.commits),
            db: self.clone(),
            markers: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Reads a committed row.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.with(|state| state.rows.get(key).cloned())
    }

    /// Forgets up to `max` markers that were written before `before`, and returns how many.
    #[must_use]
    pub fn sweep(&self, before: Wall, max: usize) -> usize {
        self.state.with(|state| {
            let old = state.by_time.iter().take(max);
            let old: Vec<_> = old.take_while(|(at, _)| *at < before).cloned().collect();
            for entry in &old {
                state.by_time.remove(entry);
                state.markers.remove(&entry.1);
            }
            old.len()
        })
    }
}

impl MemoryTx {
    /// Reads a row as this transaction sees it.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.rows.get(key) {
            Some(own) => own.clone(),
            None => self.db.get(key),
        }
    }

    /// Writes a row.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.rows.insert(key.to_vec(), Some(value.to_vec()));
    }

    /// Removes a row.
    pub fn remove(&mut self, key: &[u8]) {
        self.rows.insert(key.to_vec(), None);
    }

    /// Makes everything visible at once, or nothing.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(self) -> Result<(), CommitError> {
        let Self {
            db,
            seen,
            markers,
            rows,
        } = self;
        db.state.with(|state| {
            if state.commits != seen {
                return Err(CommitError::Contended);
            }
            // Replacements counted as additions: a little early rather than late.
            let rows_now = state.markers.len() + state.rows.len();
            if rows_now + markers.len() + rows.len() > MemoryDb::ROWS_MAX {
                return Err(CommitError::Full);
            }
            state.commits += 1;
            for (key, marker) in markers {
                let at = marker.1;
                if let Some((_, old)) = state.markers.insert(key.clone(), marker) {
                    state.by_time.remove(&(old, key.clone()));
                }
                state.by_time.insert((at, key));
            }
            for (key, value) in rows {
                match value {
                    Some(value) => drop(state.rows.insert(key, value)),
                    None => drop(state.rows.remove(&key)),
                }
            }
            Ok(())
        })
    }
}

impl Markers for MemoryTx {
    type Error = Infallible;

    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, Infallible> {
        if let Some((marker, _)) = self.markers.get(key) {
            return Ok(Some(marker.clone()));
        }
        let committed =
            |state: &mut State| state.markers.get(key).map(|(marker, _)| marker.clone());
        Ok(self.db.state.with(committed))
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), Infallible> {
        self.markers.insert(key.clone(), (marker, at));
        Ok(())
    }
}
