//! Applying records: live and at recovery, the same.

use std::sync::Arc;

use dpat_core::Wall;

use super::{Dead, Ends, Entry, Links, Machine, NONE, Record, State, Why};
use crate::config::WhenFull;
use crate::message::Parts;

impl Machine {
    /// Does what a record says. Total: a record about a message that is not there does nothing.
    #[inline]
    pub(crate) fn apply(&mut self, record: Record) {
        self.end_row();
        match record {
            Record::Sent {
                id,
                at,
                not_before,
                expires,
                parts,
            } => {
                let [at, not_before, expires] = [at, not_before, expires].map(Wall::from_nanos);
                self.apply_sent(id, at, (not_before, expires), parts);
            }
            Record::Claimed { id, count, until } => {
                if let Some(slot) = self.slot_of(id) {
                    self.claim_slot(slot, count, Wall::from_nanos(until));
                }
            }
            Record::Done { id } => self.apply_done(id),
            Record::Retried {
                id,
                not_before,
                reason,
            } => self.apply_retried(id, not_before, reason),
            Record::Rejected { id, at, reason } => self.apply_rejected(id, at, reason),
            Record::Removed { id, why } => {
                if let Some(slot) = self.slot_of(id) {
                    let parts = self.take(slot);
                    self.trash.push(parts);
                    match why {
                        Why::Expired => self.counts.expired += 1,
                        Why::Dropped => self.counts.dropped += 1,
                        Why::Purged => self.counts.purged += 1,
                    }
                }
            }
            Record::Replayed { id, place } => self.apply_replayed(id, place),
            Record::Discarded { id } => {
                if let Some(dead) = self.unbury(id) {
                    self.trash.push(dead.parts);
                }
            }
            Record::Paused { paused } => {
                self.paused = paused;
                if !paused {
                    self.made_ready += self.ready();
                }
            }
            Record::Noted => {}
            Record::Next { next } => self.next = self.next.max(next),
            Record::Kept(kept) => self.insert(Entry {
                id: kept.id,
                place: kept.place,
                size: kept.parts.size(),
                parts: kept.parts,
                sent_at: Wall::from_nanos(kept.at),
                not_before: Wall::from_nanos(kept.not_before),
                expires: Wall::from_nanos(kept.expires),
                count: kept.count,
                base: kept.base.min(kept.count),
                reason: kept.reason,
                ..Entry::NEW
            }),
            Record::Buried(buried) => {
                let dead = Dead {
                    size: buried.parts.size(),
                    parts: buried.parts,
                    reason: buried.reason,
                    at: Wall::from_nanos(buried.at),
                    sent_at: Wall::from_nanos(buried.sent_at),
                    count: buried.count,
                };
                self.bury(buried.id, dead);
            }
            Record::Remembered { key, id, until } => {
                self.remember(key, id, Wall::from_nanos(until));
            }
        }
    }

    /// After all records of an earlier process: nobody holds a lease.
    #[cfg(any(feature = "wal", test))]
    pub(crate) fn recovered(&mut self) {
        for slot in 0..self.slots.len() {
            if let Ok(slot) = u32::try_from(slot) {
                self.free_lease(slot);
            }
        }
        self.counts = crate::message::Stats::default();
    }

    #[inline]
    pub(super) fn apply_sent(&mut self, id: u64, sent_at: Wall, times: (Wall, Wall), parts: Parts) {
        if let Some(key) = parts.dedup() {
            let until = sent_at + self.config.dedup_window;
            self.remember(Arc::clone(key), id, until);
        }
        self.counts.sent += 1;
        self.put(id, sent_at, times, parts);
    }

    /// Adds a message that was never handed out, and that may be delivered from the first of these times on and ends at the
    /// second; returns its slot.
    #[inline]
    pub(super) fn put(
        &mut self,
        id: u64,
        sent_at: Wall,
        (not_before, expires): (Wall, Wall),
        parts: Parts,
    ) -> Option<u32> {
        let slot = self.occupy(id, id)?;
        // In place: a whole entry is large to carry about.
        let entry = &mut self.slots[slot as usize];
        entry.id = id;
        entry.place = id;
        entry.size = parts.size();
        // What was there has nothing to drop.
        std::mem::forget(std::mem::replace(&mut entry.parts, parts));
        entry.sent_at = sent_at;
        entry.not_before = not_before;
        entry.expires = expires;
        self.settle_in(slot);
        Some(slot)
    }

    fn apply_done(&mut self, id: u64) {
        if let Some(slot) = self.slot_of(id) {
            let parts = self.take(slot);
            self.counts.done += 1;
            self.trash.push(parts);
        }
    }

    #[inline]
    pub(super) fn claim_slot(&mut self, slot: u32, count: u32, until: Wall) {
        let entry = &mut self.slots[slot as usize];
        entry.count = count;
        entry.held = true;
        self.counts.delivered += 1;
        self.counts.redelivered += u64::from(count > 1);
        self.lease(slot, until);
    }

    fn apply_retried(&mut self, id: u64, not_before: u64, reason: Option<Arc<str>>) {
        let Some(slot) = self.slot_of(id) else {
            return;
        };
        self.unschedule(slot);
        let rises_at_claim = self.config.rules.count_at_claim();
        let Some(entry) = self.entry_mut(slot) else {
            return;
        };
        entry.held = false;
        if !rises_at_claim {
            entry.count += 1;
        }
        entry.not_before = Wall::from_nanos(not_before);
        entry.reason = reason.or_else(|| entry.reason.take());
        self.counts.retried += 1;
        self.rest(slot);
        self.schedule(slot);
    }

    fn apply_rejected(&mut self, id: u64, at: u64, reason: Arc<str>) {
        let Some(slot) = self.slot_of(id) else {
            return;
        };
        let entry = self.take_entry(slot);
        self.counts.rejected += 1;
        let dead = Dead {
            parts: entry.parts,
            size: entry.size,
            reason,
            at: Wall::from_nanos(at),
            sent_at: entry.sent_at,
            count: entry.count,
        };
        self.bury(id, dead);
    }

    fn apply_replayed(&mut self, id: u64, place: u64) {
        let Some(dead) = self.unbury(id) else {
            return;
        };
        self.insert(Entry {
            id,
            place,
            parts: dead.parts,
            size: dead.size,
            sent_at: dead.sent_at,
            count: dead.count,
            base: dead.count,
            reason: Some(dead.reason),
            ..Entry::NEW
        });
    }

    fn bury(&mut self, id: u64, dead: Dead) {
        self.dead_bytes += dead.size;
        self.next = self.next.max(id + 1);
        self.dead.insert(id, dead);
    }

    fn unbury(&mut self, id: u64) -> Option<Dead> {
        let dead = self.dead.remove(&id)?;
        self.dead_bytes -= dead.size;
        Some(dead)
    }

    fn remember(&mut self, key: Arc<str>, id: u64, until: Wall) {
        self.dedup.insert(Arc::clone(&key), (id, until));
        self.dedup_ends.push_back((until, key));
        self.look_at(until);
    }

    /// Adds a message at the end of all, and of its key.
    fn insert(&mut self, entry: Entry) {
        if let Some(slot) = self.occupy(entry.id, entry.place) {
            self.slots[slot as usize] = entry;
            self.settle_in(slot);
        }
    }

    /// Finds a slot for a message that is not here, whose place is free.
    #[inline]
    fn occupy(&mut self, id: u64, place: u64) -> Option<u32> {
        self.end_row();
        if self.places.get(place).is_some() || place != id && self.slot_of(id).is_some() {
            return None;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.new_slot()?,
        };
        while let Some(old) = self.places.retire_for(place) {
            self.lose_turn(old);
        }
        self.places.insert(place, slot);
        if place != id {
            self.replayed.insert(id, slot);
        }
        Some(slot)
    }

    #[cold]
    fn new_slot(&mut self) -> Option<u32> {
        // One for each message; their number is limited far below.
        let slot = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Entry::NEW);
        (slot != NONE).then_some(slot)
    }

    /// Adds what is in its slot to the lists.
    #[inline]
    fn settle_in(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Behind;
        self.next = self.next.max(entry.id + 1).max(entry.place + 1);
        self.bytes += entry.size;
        if entry.parts.key().is_some() && self.config.rules.one_of_a_key() {
            self.join_lane(slot);
        }
        self.rest(slot);
        self.schedule(slot);
    }

    /// Puts a message behind those of its key.
    fn join_lane(&mut self, slot: u32) {
        let Some(key) = self.slots[slot as usize].parts.key().cloned() else {
            return;
        };
        let mut lane = self.lanes.get(&key).copied().unwrap_or(Ends::EMPTY);
        self.link(&mut lane, slot);
        self.lanes.insert(key, lane);
    }

    /// Takes out what is in a slot, and frees it.
    pub(super) fn take(&mut self, slot: u32) -> Parts {
        self.leave(slot);
        let entry = &mut self.slots[slot as usize];
        entry.clear();
        std::mem::replace(&mut entry.parts, Parts::EMPTY)
    }

    fn take_entry(&mut self, slot: u32) -> Entry {
        self.leave(slot);
        std::mem::replace(&mut self.slots[slot as usize], Entry::NEW)
    }

    /// Takes a message out of all lists; the next one of its key comes to the front. Its slot is the next that is used:
    /// the caller clears it.
    #[inline]
    fn leave(&mut self, slot: u32) {
        let entry = &self.slots[slot as usize];
        let (id, place, has_extra) = (entry.id, entry.place, entry.parts.has_extra());
        self.bytes -= entry.size;
        self.made_room = true;
        self.places.remove(place);
        if place != id {
            self.replayed.remove(&id);
        }
        self.unschedule(slot);
        self.expiry.remove(slot);
        self.victims.remove(slot);
        if has_extra {
            self.leave_lane(slot);
        }
        self.free.push(slot);
    }

    /// Takes a message out of those of its key, and makes the next one of them ready.
    fn leave_lane(&mut self, slot: u32) {
        let parts = &self.slots[slot as usize].parts;
        if let (Some(key), false) = (parts.dedup(), self.config.rules.remember_keys()) {
            self.dedup.remove(key);
        }
        let Some(key) = parts.key().cloned() else {
            return;
        };
        let Some(mut lane) = self.lanes.get(&key).copied() else {
            return;
        };
        let was_first = lane.first == slot;
        self.unlink(&mut lane, slot);
        if lane.first == NONE {
            self.lanes.remove(&key);
            return;
        }
        self.lanes.insert(key, lane);
        // Not one that is leased already, as a damaged log may have it.
        let next = self.entry(lane.first);
        if was_first && next.is_some_and(|next| next.state == State::Behind) {
            self.schedule(lane.first);
        }
    }

    /// Puts a message that is not leased where it belongs: ready, waiting for its time, or behind another.
    #[inline]
    fn schedule(&mut self, slot: u32) {
        self.end_row();
        let entry = &self.slots[slot as usize];
        let state = if entry.in_lane.before != NONE {
            State::Behind
        } else if entry.not_before > self.clock {
            let key = (entry.not_before, entry.place);
            self.due.insert(slot, key);
            self.look_at(key.0);
            State::Due
        } else if self.has_turn(entry) {
            self.turn.ready += 1;
            self.made_ready += 1;
            State::InTurn
        } else {
            let rank = self.rank(entry);
            self.ready.insert(slot, rank);
            self.made_ready += 1;
            State::Ready
        };
        self.slots[slot as usize].state = state;
    }

    #[inline]
    pub(super) fn unschedule(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        match std::mem::replace(&mut entry.state, State::Behind) {
            State::InTurn => self.turn.ready -= 1,
            State::Ready => drop(self.ready.remove(slot)),
            State::Due => drop(self.due.remove(slot)),
            State::Leased => {
                self.due.remove(slot);
                self.leased -= 1;
            }
            State::LeasedInTurn => {
                let place = entry.place;
                self.leased -= 1;
                self.end_in_turn(place);
            }
            State::Free | State::Behind => {}
        }
    }

    /// What is not leased may end, and may have to make room.
    #[inline]
    fn rest(&mut self, slot: u32) {
        let entry = &self.slots[slot as usize];
        let (expires, place) = (entry.expires, entry.place);
        let priority = entry.parts.priority();
        if expires < Wall::MAX {
            self.expiry.insert(slot, (expires, place));
            self.look_at(expires);
        }
        if self.config.when_full == WhenFull::DropOldest {
            self.victims.insert(slot, (priority, place));
        }
    }

    /// Leases a message until then.
    #[inline]
    pub(super) fn lease(&mut self, slot: u32, until: Wall) {
        self.expiry.remove(slot);
        self.victims.remove(slot);
        if self.lease_in_turn(slot, until) {
            return;
        }
        self.unschedule(slot);
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Leased;
        self.due.insert(slot, (until, entry.place));
        self.look_at(until);
        self.leased += 1;
    }

    /// Ends a lease, and with it the say of its receipt.
    pub(super) fn free_lease(&mut self, slot: u32) {
        let Some(entry) = self.entry_mut(slot) else {
            return;
        };
        entry.held = false;
        if entry.state.is_leased() {
            self.unschedule(slot);
            self.rest(slot);
            self.schedule(slot);
        }
    }

    /// The time of a message has come, or its lease has ended. Its receipt keeps its say until it is handed out again.
    pub(super) fn come_due(&mut self, slot: u32) {
        if self.slots[slot as usize].state.is_leased() {
            self.counts.lapsed += 1;
            self.unschedule(slot);
            self.rest(slot);
        } else {
            self.unschedule(slot);
        }
        self.schedule(slot);
    }

    #[inline]
    fn link(&mut self, ends: &mut Ends, slot: u32) {
        let before = ends.last;
        ends.last = slot;
        match self.entry_mut(before) {
            Some(last) => last.in_lane.after = slot,
            None => ends.first = slot,
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.in_lane = Links {
                before,
                after: NONE,
            };
        }
    }

    #[inline]
    fn unlink(&mut self, ends: &mut Ends, slot: u32) {
        let Some(Links { before, after }) = self.entry_mut(slot).map(|entry| entry.in_lane) else {
            return;
        };
        match self.entry_mut(before) {
            Some(entry) => entry.in_lane.after = after,
            None => ends.first = after,
        }
        match self.entry_mut(after) {
            Some(entry) => entry.in_lane.before = before,
            None => ends.last = before,
        }
    }
}

impl Entry {
    /// Makes it [`NEW`](Self::NEW), but for its parts, and for what every message sets.
    #[inline]
    fn clear(&mut self) {
        self.count = 0;
        self.base = 0;
        self.held = false;
        self.state = State::Free;
        self.reason = None;
        self.in_lane = Self::NEW.in_lane;
    }

    /// A message that was never handed out; the rest is filled in.
    const NEW: Self = Self {
        id: 0,
        place: 0,
        parts: Parts::EMPTY,
        size: 0,
        sent_at: Wall::MIN,
        not_before: Wall::MIN,
        expires: Wall::MAX,
        until: Wall::MIN,
        count: 0,
        base: 0,
        held: false,
        state: State::Free,
        reason: None,
        in_lane: Links {
            before: NONE,
            after: NONE,
        },
    };
}
