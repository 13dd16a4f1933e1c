//! Rows that are written until their store fails.

use std::collections::BTreeMap;

use bytes::Bytes;
use dpat_core::{Classify, Effect};

use super::{Violation, ensure_eq, key};
use crate::error::StoreError;
use crate::key::Key;
use crate::store::{Change, Store, Swap, Version};
use crate::sync::Mutex;

/// Counters in a store that may fail at any time, and what is known of them: for stores whose server is killed.
///
/// [`count_up`](Self::count_up) any number of rows at one time, each by one task, and kill the server; once it is there
/// again, [`check`](Self::check).
#[derive(Debug)]
pub struct Written<S> {
    store: S,
    rows: Mutex<BTreeMap<u64, Known>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What the row surely was last.
    value: u64,
    /// What it may be since: nobody was told.
    maybe: Option<u64>,
    acknowledged: u64,
    unknown: u64,
}

impl<S: Store> Written<S> {
    /// Begins with an empty store.
    pub fn new(store: S) -> Self {
        let rows = Mutex::default();
        Self { store, rows }
    }

    /// Counts a row up, one swap after another, until the store fails.
    ///
    /// # Errors
    /// How the store breaks its promises.
    pub async fn count_up(&self, row: u64) -> Result<(), Violation> {
        // It is checked, whether or not it is ever written.
        self.know(row, |_| ());
        loop {
            let Ok((at, version)) = self.read(row).await? else {
                return Ok(());
            };
            let next = at + 1;
            let put = Change::Put {
                bytes: Bytes::from(next.to_string()),
                expires: None,
            };
            let swapped = self.store.swap(&of(row), version, put).await;
            let told = swapped.as_ref().map_err(Classify::effect).copied();
            self.know(row, |known| match told {
                Ok(_) => {
                    known.value = next;
                    known.acknowledged += 1;
                }
                Err(Effect::NotDone) => {}
                Err(_) => {
                    known.maybe = Some(next);
                    known.unknown += 1;
                }
            });
            match told {
                Ok(Swap::Done) => {}
                Ok(Swap::Conflict) => {
                    return Err(Violation::new(format!("row {row}: who else writes it?")));
                }
                Err(_) => return Ok(()),
            }
        }
    }

    /// How many swaps were acknowledged so far, and of how many nobody knows the outcome.
    pub fn told(&self) -> (u64, u64) {
        self.rows.with(|rows| {
            let sum = |of: fn(&Known) -> u64| rows.values().map(of).sum();
            (sum(|known| known.acknowledged), sum(|known| known.unknown))
        })
    }

    /// Every row is what was acknowledged last, or what a swap of unknown outcome would have made it.
    ///
    /// # Errors
    /// Which is not, or cannot be read.
    pub async fn check(&self) -> Result<(), Violation> {
        let rows: Vec<u64> = self.rows.with(|rows| rows.keys().copied().collect());
        for row in rows {
            let (found, _) = self.read(row).await??;
            self.know(row, |known| {
                known.value = found;
                known.maybe = None;
            });
        }
        Ok(())
    }

    /// Reads a row, and compares it with what is known. The inner error: the store failed.
    async fn read(
        &self,
        row: u64,
    ) -> Result<Result<(u64, Option<Version>), StoreError>, Violation> {
        let found = match self.store.load(&of(row)).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let version = found.as_ref().map(|row| row.version);
        let value = match &found {
            None => 0,
            Some(row) => {
                let text = String::from_utf8_lossy(&row.bytes);
                text.parse()
                    .map_err(|_| Violation::new(format!("{text} was never put")))?
            }
        };
        let known = self.know(row, |known| *known);
        if known.maybe != Some(value) {
            ensure_eq!(value, known.value, format!("row {row}"));
        }
        Ok(Ok((value, version)))
    }

    fn know<R>(&self, row: u64, work: impl FnOnce(&mut Known) -> R) -> R {
        self.rows.with(|rows| work(rows.entry(row).or_default()))
    }
}

fn of(row: u64) -> Key {
    key(&format!("row {row}"))
}
