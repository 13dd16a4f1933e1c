//! What a log has promised.

use std::collections::BTreeMap;

use dpat_core::{Classify, Effect};

use crate::error::AppendError;
use crate::position::Position;

/// What became of a record, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is there, at this position.
    There(Position),
    /// It is not, and never will be.
    Gone,
    /// It may be there.
    InDoubt,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fate: Fate,
    /// The first record of its batch, and how many they are.
    batch: u64,
    records: u64,
}

/// What a log has promised to a workload. It survives what the disk does not.
///
/// Records are numbered in the order in which they are submitted, and their bytes follow from their numbers.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<u64, Entry>,
    /// The last number given.
    numbered: u64,
    /// The highest mark that was confirmed, and the highest that was asked for.
    low: Position,
    low_tried: Position,
    /// The newest snapshot that was confirmed.
    snapshot: Option<Position>,
    violation: Option<String>,
    acknowledged: u64,
    found: u64,
}

impl Ledger {
    /// How many records were acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many records have a fate that only recovery can tell.
    #[must_use]
    pub fn in_doubt(&self) -> usize {
        let in_doubt = |entry: &&Entry| entry.fate == Fate::InDoubt;
        self.entries.values().filter(in_doubt).count()
    }

    /// How many records in doubt were found by a recovery.
    #[must_use]
    pub const fn found(&self) -> u64 {
        self.found
    }

    /// What a recovery in the middle of the workload found wrong.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(super) fn violate(&mut self, message: String) {
        self.violation.get_or_insert(message);
    }

    /// Numbers the records of a batch; they are in doubt until they are answered.
    pub(super) fn submit(&mut self, records: u64) -> u64 {
        let first = self.numbered + 1;
        self.numbered += records;
        for number in first..=self.numbered {
            let entry = Entry {
                fate: Fate::InDoubt,
                batch: first,
                records,
            };
            self.entries.insert(number, entry);
        }
        first
    }

    /// Notes the answer to a batch.
    pub(super) fn answer(&mut self, first: u64, answer: &Result<Position, AppendError>) {
        let Some(records) = self.entries.get(&first).map(|entry| entry.records) else {
            return;
        };
        for (offset, number) in (first..first + records).enumerate() {
            let fate = match answer {
                Ok(position) => Fate::There(position.after(offset as u64)),
                Err(error) if error.effect() == Effect::NotDone => Fate::Gone,
                Err(_) => Fate::InDoubt,
            };
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.fate = fate;
            }
        }
        if answer.is_ok() {
            self.acknowledged += records;
        }
    }

    pub(super) fn try_low(&mut self, low: Position) {
        self.low_tried = self.low_tried.max(low);
    }

    pub(super) fn confirm_low(&mut self, low: Position) {
        self.low = self.low.max(low);
    }

    pub(super) fn confirm_snapshot(&mut self, position: Position) {
        self.snapshot = self.snapshot.max(Some(position));
    }

    /// Compares what a recovery found: the first position, and the numbers of the records from there on.
    pub(super) fn compare(
        &self,
        first: Position,
        numbers: &[u64],
        snapshot: Option<Position>,
    ) -> Result<(), String> {
        if first < self.low || first > self.low_tried {
            let Self { low, low_tried, .. } = self;
            return Err(format!(
                "the log begins at {first}, the low-water mark is {low} or up to {low_tried}"
            ));
        }
        if snapshot < self.snapshot {
            let promised = self.snapshot;
            return Err(format!(
                "the newest snapshot is {snapshot:?}, not {promised:?}"
            ));
        }
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("record {} comes before {}", pair[0], pair[1]));
        }
        let at = |number: u64| numbers.binary_search(&number).ok();
        for (number, entry) in &self.entries {
            let found = at(*number).map(|at| first.after(at as u64));
            match (entry.fate, found) {
                (Fate::There(position), None) if position >= first => {
                    return Err(format!("record {number} at {position} is lost"));
                }
                (Fate::There(position), Some(found)) if position != found => {
                    return Err(format!("record {number} moved from {position} to {found}"));
                }
                (Fate::Gone, Some(found)) => {
                    return Err(format!(
                        "record {number} was not written, and is at {found}"
                    ));
                }
                _ => {}
            }
            // Of a batch that the low-water mark cuts, the end is left.
            let last = entry.batch + entry.records - 1;
            if found.is_some() && at(last).is_none() {
                return Err(format!("of the batch of {number} only a part is there"));
            }
            let is_next = numbers.first() != Some(number) && *number > entry.batch;
            if found.is_some() && is_next && at(number - 1).is_none() {
                return Err(format!("of the batch of {number} only a part is there"));
            }
        }
        // What nobody has numbered is a probe of an earlier check.
        Ok(())
    }

    /// Settles what was in doubt: what a recovery has found stays, what it has not never comes back.
    pub(super) fn settle(&mut self, first: Position, numbers: &[u64]) {
        for (number, entry) in &mut self.entries {
            if entry.fate == Fate::InDoubt {
                entry.fate = match numbers.binary_search(number) {
                    Ok(at) => {
                        self.found += 1;
                        Fate::There(first.after(at as u64))
                    }
                    Err(_) => Fate::Gone,
                };
            }
        }
        self.low = self.low.max(first);
        self.low_tried = self.low_tried.max(self.low);
    }
}
