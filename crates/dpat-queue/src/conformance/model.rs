//! What a queue is: a list of messages, and plain loops over it.

use std::time::Duration;

use crate::capability::Capabilities;
use crate::message::{MessageId, Outcome, Receipt};

/// A message as the model has it; times are those of the run.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) id: MessageId,
    pub(super) key: Option<u64>,
    pub(super) priority: u8,
    pub(super) not_before: Duration,
    pub(super) expires: Duration,
    pub(super) count: u32,
    pub(super) base: u32,
    place: u64,
    leased_until: Option<Duration>,
    receipt: Option<Receipt>,
    dead: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) now: Duration,
    pub(super) paused: bool,
    rows: Vec<Row>,
    places: u64,
    dedup: Vec<(u64, MessageId, Duration)>,
}

impl Model {
    /// Lets time pass: leases end, then messages do.
    pub(super) fn pass(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        for row in &mut self.rows {
            if row.leased_until.is_some_and(|until| until <= now) {
                row.leased_until = None;
            }
        }
        self.end();
    }

    fn end(&mut self) {
        let now = self.now;
        let over = |row: &Row| !row.dead && row.leased_until.is_none() && row.expires <= now;
        self.rows.retain(|row| !over(row));
        self.dedup.retain(|(_, _, until)| *until > now);
    }

    pub(super) fn duplicate(&self, key: u64) -> Option<MessageId> {
        let mut known = self.dedup.iter();
        known
            .find(|(other, ..)| *other == key)
            .map(|(_, id, _)| *id)
    }

    pub(super) fn remember(&mut self, key: u64, id: MessageId, window: Duration) {
        self.dedup.push((key, id, self.now + window));
    }

    pub(super) fn send(&mut self, mut row: Row) {
        row.place = self.places;
        self.places += 1;
        self.rows.push(row);
    }

    /// What can be handed out, the first first.
    pub(super) fn deliverable(&self) -> Vec<u64> {
        if self.paused {
            return Vec::new();
        }
        let free = |row: &&Row| {
            let first = self.rows.iter().all(|other| {
                other.dead || row.key.is_none() || other.key != row.key || other.place >= row.place
            });
            !row.dead && row.leased_until.is_none() && row.not_before <= self.now && first
        };
        let mut rows: Vec<&Row> = self.rows.iter().filter(free).collect();
        rows.sort_by_key(|row| (u8::MAX - row.priority, row.place));
        rows.iter().map(|row| row.number).collect()
    }

    pub(super) fn row(&self, number: u64) -> Option<&Row> {
        self.rows.iter().find(|row| row.number == number)
    }

    fn row_mut(&mut self, number: u64) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.number == number)
    }

    pub(super) fn claim(&mut self, number: u64, receipt: Receipt, lease: Duration) {
        let until = self.now + lease;
        if let Some(row) = self.row_mut(number) {
            row.count += 1;
            row.leased_until = Some(until);
            row.receipt = Some(receipt);
        }
    }

    /// Whether a receipt has a say.
    fn holder(&mut self, receipt: Receipt) -> Option<&mut Row> {
        let mut rows = self.rows.iter_mut();
        rows.find(|row| row.receipt == Some(receipt) && !row.dead)
    }

    pub(super) fn settle(&mut self, receipt: Receipt, outcome: &Outcome) -> bool {
        let now = self.now;
        let Some(row) = self.holder(receipt) else {
            return false;
        };
        row.receipt = None;
        row.leased_until = None;
        match outcome {
            Outcome::Done => {
                let number = row.number;
                self.rows.retain(|row| row.number != number);
            }
            Outcome::Retry { delay, .. } => {
                row.not_before = if delay.is_zero() {
                    Duration::ZERO
                } else {
                    now + *delay
                };
            }
            Outcome::Reject { .. } => row.dead = true,
        }
        self.end();
        true
    }

    pub(super) fn extend(&mut self, receipt: Receipt, by: Duration) -> bool {
        let until = self.now + by;
        match self.holder(receipt) {
            None => false,
            Some(row) => {
                row.leased_until = Some(until);
                true
            }
        }
    }

    /// Dead letters, by their ids.
    pub(super) fn dead(&self) -> Vec<(u64, MessageId)> {
        let dead = self.rows.iter().filter(|row| row.dead);
        let mut dead: Vec<_> = dead.map(|row| (row.number, row.id)).collect();
        dead.sort_by_key(|(_, id)| *id);
        dead
    }

    pub(super) fn replay(&mut self, number: u64) {
        let place = self.places;
        self.places += 1;
        if let Some(row) = self.row_mut(number) {
            row.dead = false;
            row.place = place;
            row.base = row.count;
            row.not_before = Duration::ZERO;
            row.expires = Duration::MAX;
        }
    }

    pub(super) fn discard(&mut self, number: u64) {
        self.rows.retain(|row| row.number != number);
    }

    pub(super) fn purge(&mut self) -> u64 {
        let before = self.rows.len();
        self.rows
            .retain(|row| row.dead || row.leased_until.is_some());
        (before - self.rows.len()) as u64
    }

    /// Another process: nobody holds anything.
    pub(super) fn reopen(&mut self) {
        for row in &mut self.rows {
            row.leased_until = None;
            row.receipt = None;
        }
        self.end();
    }

    pub(super) fn live(&self) -> usize {
        self.rows.iter().filter(|row| !row.dead).count()
    }
}

impl Row {
    pub(super) fn new(number: u64, id: MessageId) -> Self {
        Self {
            number,
            id,
            key: None,
            priority: crate::message::PRIORITY_DEFAULT,
            not_before: Duration::ZERO,
            expires: Duration::MAX,
            count: 0,
            base: 0,
            place: 0,
            leased_until: None,
            receipt: None,
            dead: false,
        }
    }
}

/// Whether the backend says so much about the order that only one message can come next.
pub(super) fn is_exact(offered: &Capabilities) -> bool {
    offered.order == crate::capability::OrderScope::Queue
}
