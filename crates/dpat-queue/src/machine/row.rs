//! The row: messages that have nothing but a payload, where nothing else is ready to be handed out.
//!
//! Most messages are sent, handed out and done in the order of their ids, and nothing more is ever asked about them. While
//! that is so, a message is an item of a ring, found by its id, and its lease is a time in it: leases of one length end in
//! the order in which they were given. For all else the row [ends](Machine::end_row): its messages move to the slots, where
//! everything is known of each. None comes back, so a message moves at most once. A lease that stays behind the others moves
//! alone.
//!
//! While there is a message in the row
//! - all ids and places that the machine knows are before the row's, and
//! - nothing is ready but what is in it.

use std::time::Duration;
use std::{iter, mem};

use bytes::Bytes;
use dpat_core::Wall;

#[cfg(any(feature = "wal", test))]
use super::Kept;
use super::Machine;
use crate::config::WhenFull;
use crate::message::{Delivery, MessageId, Parts, Receipt};

/// How many messages that are done may stand between others, beside as many as there are; few where random tests have to
/// meet it.
const HOLES: u64 = if cfg!(test) { 4 } else { 64 };

/// How many places of a row that ended are kept for the next one.
const RING_KEPT: usize = 4_096;

/// The only delivery of a message in the row.
const FIRST: u32 = 1;

/// A message that has nothing but a payload.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) payload: Bytes,
    pub(crate) sent_at: Wall,
}

/// A message of the row.
#[derive(Debug)]
pub(super) struct Plain {
    payload: Bytes,
    pub(super) sent_at: Wall,
    /// When its lease ends, if it was handed out; [`Wall::MIN`] once it is done.
    until: Wall,
}

impl Plain {
    /// Where no message is.
    const NONE: Self = Self {
        payload: Bytes::new(),
        sent_at: Wall::MIN,
        until: Wall::MIN,
    };

    #[inline]
    const fn is_done(&self) -> bool {
        self.until.as_nanos() == Wall::MIN.as_nanos()
    }

    pub(super) fn parts(&self) -> Parts {
        Parts::plain(self.payload.clone())
    }

    #[inline]
    fn delivery(&self, id: u64, lease: Duration) -> Delivery {
        Delivery {
            parts: self.parts(),
            receipt: Receipt::new(MessageId::new(id.into()), FIRST.into()),
            count: FIRST,
            attempt: FIRST,
            sent_at: self.sent_at,
            lease,
        }
    }
}

/// Those before `next` were handed out, and the first of them is not done; the others are ready.
#[derive(Debug)]
pub(super) struct Row {
    /// The id of the first; ids are numbers in a row.
    first: u64,
    /// The id of the first that was not handed out.
    next: u64,
    /// The id behind the last.
    end: u64,
    /// How many were handed out and are not done.
    leased: u64,
    /// The messages, each at its id modulo the length, which is a power of two. What is elsewhere is [`Plain::NONE`].
    ring: Vec<Plain>,
}

impl Row {
    const EMPTY: Self = Self {
        first: 0,
        next: 0,
        end: 0,
        leased: 0,
        ring: Vec::new(),
    };

    pub(super) fn new() -> Self {
        Self {
            ring: iter::repeat_with(|| Plain::NONE).take(64).collect(),
            ..Self::EMPTY
        }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// How many messages are in it.
    #[inline]
    pub(super) const fn len(&self) -> u64 {
        self.ready() + self.leased
    }

    #[inline]
    pub(super) const fn ready(&self) -> u64 {
        self.end - self.next
    }

    /// When the first lease ends.
    #[inline]
    pub(super) fn first_lease(&self) -> Option<Wall> {
        (self.leased > 0).then(|| self.at(self.first).until)
    }

    pub(super) fn first(&self) -> Option<&Plain> {
        (!self.is_empty()).then(|| self.at(self.first))
    }

    const fn is_here(&self, id: u64) -> bool {
        id >= self.first && id < self.end
    }

    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the rest is cut off anyway"
    )]
    fn spot(&self, id: u64) -> usize {
        id as usize & (self.ring.len() - 1)
    }

    #[inline]
    fn at(&self, id: u64) -> &Plain {
        &self.ring[self.spot(id)]
    }

    #[inline]
    fn at_mut(&mut self, id: u64) -> &mut Plain {
        let spot = self.spot(id);
        &mut self.ring[spot]
    }

    /// Adds a message behind the last.
    #[inline]
    fn push(&mut self, left: Left) {
        if self.end - self.first == self.ring.len() as u64 {
            self.grow();
        }
        let plain = self.at_mut(self.end);
        // What was there is none: there is nothing to drop.
        mem::forget(mem::replace(&mut plain.payload, left.payload));
        plain.sent_at = left.sent_at;
        plain.until = Wall::MAX;
        self.end += 1;
    }

    #[cold]
    fn grow(&mut self) {
        let more = iter::repeat_with(|| Plain::NONE).take(2 * self.ring.len());
        let mut old = mem::replace(&mut self.ring, more.collect());
        let mask = old.len() - 1;
        for id in self.first..self.end {
            let spot = self.spot(id);
            mem::swap(&mut self.ring[spot], &mut old[spot & mask]);
        }
    }

    /// The messages behind an id, their ids, and whether they are leased.
    pub(super) fn behind(&self, id: Option<u64>) -> impl Iterator<Item = (u64, &Plain, bool)> {
        let from = id.map_or(0, |id| id.saturating_add(1)).max(self.first);
        let here = (from..self.end).map(|id| (id, self.at(id), id < self.next));
        here.filter(|(_, plain, _)| !plain.is_done())
    }
}

/// What is handed out.
pub(crate) struct Next<'a> {
    plain: &'a Plain,
    id: u64,
    lease: Duration,
}

impl Next<'_> {
    #[inline]
    pub(crate) fn delivery(&self) -> Delivery {
        self.plain.delivery(self.id, self.lease)
    }
}

impl Machine {
    /// Says whether a message that has nothing but a payload may join the row.
    #[inline]
    pub(crate) fn is_row_open(&self) -> bool {
        let rules = self.config.rules;
        let nothing_ready = self.turn.ready == 0 && self.ready.len() == 0 && !self.paused;
        let by_the_rules = rules.fence() && rules.count_at_claim();
        nothing_ready && by_the_rules && self.config.when_full != WhenFull::DropOldest
    }

    /// Takes a message of this size, which [has nothing but a payload](crate::Message::plain_size), into the row, and returns
    /// its id; none where there is no room, or [it may not](Self::is_row_open).
    #[inline]
    pub(crate) fn join_row(&mut self, size: u64, payload: impl FnOnce() -> Bytes) -> Option<u64> {
        if !self.is_row_open() || !self.has_room(size) {
            return None;
        }
        self.make_row();
        let id = self.next;
        let (payload, sent_at) = (payload(), self.clock);
        self.row.push(Left { payload, sent_at });
        self.joined(1, size);
        Some(id)
    }

    /// Takes messages of these bytes together into the row, which [is open](Self::is_row_open) and has room for them.
    #[inline]
    pub(crate) fn join_row_all(&mut self, messages: &mut Vec<Left>, bytes: u64) {
        self.make_row();
        let count = messages.len();
        if count == 1 {
            messages
                .pop()
                .into_iter()
                .for_each(|left| self.row.push(left));
        } else {
            messages.drain(..).for_each(|left| self.row.push(left));
        }
        self.joined(count, bytes);
    }

    /// The row goes on, or begins with the next id.
    #[inline]
    fn make_row(&mut self) {
        let row = &self.row;
        if row.end - row.first > 2 * row.len() + HOLES {
            // One that stays behind must not keep the places of all that came after it.
            self.move_row(row.next);
        }
        let row = &mut self.row;
        if row.end != self.next {
            (row.first, row.next, row.end) = (self.next, self.next, self.next);
        }
    }

    #[inline]
    fn joined(&mut self, count: usize, bytes: u64) {
        self.next += count as u64;
        self.bytes += bytes;
        self.counts.sent += count as u64;
        self.made_ready += count;
    }

    /// How many messages of the row are ready.
    #[inline]
    pub(crate) const fn ready_in_row(&self) -> u64 {
        self.row.ready()
    }

    /// Leases the next message of the row; none if there is none that is ready.
    #[inline]
    pub(crate) fn next_of_row(&mut self) -> Option<Next<'_>> {
        let id = self.row.next;
        if id == self.row.end {
            return None;
        }
        let lease = self.config.visibility;
        let until = self.lease_end();
        self.handed_out_of_row(1, until);
        let plain = self.row.at_mut(id);
        plain.until = until;
        Some(Next { plain, id, lease })
    }

    /// Hands out up to so many messages of the row.
    #[inline]
    pub(crate) fn hand_out_row(&mut self, max: usize, into: &mut Vec<Delivery>) {
        let (lease, until) = (self.config.visibility, self.lease_end());
        let row = &mut self.row;
        let count = row.ready().min(max as u64);
        if count == 0 {
            return;
        }
        let ids = row.next..row.next + count;
        // In one go: each delivery is made where it stays.
        into.extend(ids.map(|id| {
            let plain = row.at_mut(id);
            plain.until = until;
            plain.delivery(id, lease)
        }));
        self.handed_out_of_row(count, until);
    }

    #[inline]
    fn handed_out_of_row(&mut self, count: u64, until: Wall) {
        if self.row.leased == 0 {
            // Those that follow end later.
            self.look_at(until);
        }
        self.row.next += count;
        self.row.leased += count;
        self.leased += count;
        self.counts.delivered += count;
    }

    /// Removes a message of the row that was handed out, and returns its payload; none if its receipt does not name one.
    #[inline]
    pub(crate) fn settle_in_row(&mut self, receipt: Receipt) -> Option<Bytes> {
        let id = u64::try_from(receipt.id().get()).ok()?;
        let row = &mut self.row;
        if id < row.first || id >= row.next || receipt.token() != FIRST.into() {
            return None;
        }
        let plain = row.at_mut(id);
        if plain.is_done() {
            return None;
        }
        plain.until = Wall::MIN;
        let payload = mem::take(&mut plain.payload);
        row.leased -= 1;
        if id == row.first {
            row.first += 1;
            // Those that are done leave, up to the first that is not.
            while row.first < row.next && row.at(row.first).is_done() {
                row.first += 1;
            }
        }
        self.bytes -= Parts::plain_size(&payload);
        self.leased -= 1;
        self.counts.done += 1;
        self.made_room = true;
        Some(payload)
    }

    /// Something is asked of a message that has to be in a slot.
    #[inline]
    pub(super) fn end_row_with(&mut self, id: MessageId) {
        if u64::try_from(id.get()).is_ok_and(|id| self.row.is_here(id)) {
            self.end_row();
        }
    }

    /// Moves all messages of the row to the slots.
    #[inline]
    pub(super) fn end_row(&mut self) {
        if !self.row.is_empty() {
            self.move_row(self.row.end);
        }
    }

    /// Moves the messages of the row that are before this id to the slots: those that are leased, or all.
    #[cold]
    fn move_row(&mut self, end: u64) {
        let mut row = mem::replace(&mut self.row, Row::EMPTY);
        // All of this was counted when it joined the row, and when it was handed out.
        let made_ready = self.made_ready;
        self.leased -= row.leased;
        for id in row.first..end {
            let plain = mem::replace(row.at_mut(id), Plain::NONE);
            if plain.is_done() {
                continue;
            }
            self.bytes -= Parts::plain_size(&plain.payload);
            let parts = Parts::plain(plain.payload);
            let Some(slot) = self.put(id, plain.sent_at, (Wall::MIN, Wall::MAX), parts) else {
                continue;
            };
            if id < row.next {
                let entry = &mut self.slots[slot as usize];
                entry.count = FIRST;
                entry.held = true;
                self.lease(slot, plain.until);
            }
        }
        self.made_ready = made_ready;
        row.first = end;
        row.next = end;
        row.leased = 0;
        // Its memory serves the next one, if it is not much.
        if row.is_empty() && row.ring.len() > RING_KEPT {
            row.ring = Row::new().ring;
        }
        self.row = row;
    }

    /// What a snapshot says of the messages in the row.
    #[cfg(any(feature = "wal", test))]
    pub(super) fn row_image(&self) -> impl Iterator<Item = Kept> {
        let items = self.row.behind(None);
        items.map(|(id, plain, leased)| Kept {
            id,
            place: id,
            at: plain.sent_at.as_nanos(),
            not_before: Wall::MIN.as_nanos(),
            expires: Wall::MAX.as_nanos(),
            count: if leased { FIRST } else { 0 },
            base: 0,
            reason: None,
            parts: plain.parts(),
        })
    }
}
