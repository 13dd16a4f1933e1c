//! The last messages of subjects, for subscribers that come later.

use crate::message::Message;
use crate::subject::{Filter, Subject};
use crate::sync::{Lock, SharedLock};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The retained messages of a hub, in bounded space.
pub(crate) struct Retention {
    rules: Vec<(Filter, usize)>,
    cells: SharedLock<HashMap<Subject, Arc<Cell>>>,
    subjects_max: usize,
    /// The number of the latest retained message; each has a higher one than all before it.
    numbers: AtomicU64,
}

/// The retained messages of a subject.
pub(crate) struct Cell {
    last: usize,
    kept: Lock<Kept>,
    /// The number of the latest message, to find the subject that was quiet longest.
    latest: AtomicU64,
}

struct Kept {
    messages: VecDeque<Message>,
    /// Another subject has taken the place.
    evicted: bool,
}

impl Retention {
    pub(crate) fn new(rules: Vec<(Filter, usize)>, subjects_max: usize) -> Self {
        Self {
            rules,
            cells: SharedLock::new(HashMap::new()),
            subjects_max,
            numbers: AtomicU64::new(0),
        }
    }

    /// Returns the place for the messages of a subject, if they are to be kept.
    pub(crate) fn cell(&self, subject: &Subject) -> Option<Arc<Cell>> {
        let (_, last) = self
            .rules
            .iter()
            .find(|(filter, _)| filter.matches(subject))?;
        let known = self.cells.read(|cells| cells.get(subject).cloned());
        if known.is_some() {
            return known;
        }
        let new = Arc::new(Cell {
            last: *last,
            kept: Lock::new(Kept {
                messages: VecDeque::new(),
                evicted: false,
            }),
            latest: AtomicU64::new(self.numbers.load(Ordering::Relaxed)),
        });
        let (cell, evicted) = self.cells.write(|cells| {
            if let Some(known) = cells.get(subject) {
                return (Arc::clone(known), None);
            }
            let evicted = (cells.len() >= self.subjects_max)
                .then(|| quietest(cells))
                .flatten()
                .and_then(|quietest| cells.remove(&quietest));
            cells.insert(subject.clone(), Arc::clone(&new));
            (new, evicted)
        });
        if let Some(evicted) = evicted {
            drop(evicted.empty(true));
        }
        Some(cell)
    }

    /// Makes a message under the next number and keeps it. `Err` if the place has gone to another subject.
    pub(crate) fn append(
        &self,
        cell: &Cell,
        make: impl FnOnce(u64) -> Message,
    ) -> Result<Message, Evicted> {
        let (message, _oldest) = cell.kept.with(|kept| {
            if kept.evicted {
                return Err(Evicted);
            }
            let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
            cell.latest.store(number, Ordering::Relaxed);
            let message = make(number);
            let full = kept.messages.len() >= cell.last;
            let oldest = full.then(|| kept.messages.pop_front()).flatten();
            kept.messages.push_back(message.clone());
            Ok((message, oldest))
        })?;
        Ok(message)
    }

    /// Returns up to `count` of the last messages of each subject that matches, in the order of their publication.
    pub(crate) fn replay(&self, filter: &Filter, count: usize) -> VecDeque<Message> {
        let cells: Vec<Arc<Cell>> = self.cells.read(|cells| {
            let matching = cells.iter().filter(|(subject, _)| filter.matches(subject));
            matching.map(|(_, cell)| Arc::clone(cell)).collect()
        });
        let mut messages = Vec::new();
        for cell in cells {
            cell.kept.with(|kept| {
                let skipped = kept.messages.len().saturating_sub(count);
                messages.extend(kept.messages.iter().skip(skipped).cloned());
            });
        }
        messages.sort_unstable_by_key(Message::retained_number);
        messages.into()
    }

    /// Forgets what is kept of a subject.
    pub(crate) fn forget(&self, subject: &Subject) {
        let cell = self.cells.read(|cells| cells.get(subject).cloned());
        if let Some(cell) = cell {
            drop(cell.empty(false));
        }
    }
}

/// The place of a subject has gone to another one.
#[derive(Debug)]
pub(crate) struct Evicted;

impl Cell {
    /// Takes the messages out, for the caller to drop.
    fn empty(&self, evicted: bool) -> VecDeque<Message> {
        self.kept.with(|kept| {
            kept.evicted |= evicted;
            std::mem::take(&mut kept.messages)
        })
    }
}

fn quietest(cells: &HashMap<Subject, Arc<Cell>>) -> Option<Subject> {
    let oldest = cells
        .iter()
        .min_by_key(|(_, cell)| cell.latest.load(Ordering::Relaxed));
    oldest.map(|(subject, _)| subject.clone())
}
