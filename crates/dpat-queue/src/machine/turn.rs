//! Turns: what most messages need, without a search.
//!
//! Messages of the usual priority that may be delivered at once go out in the order of their places, and their leases, all of
//! one length, end in that order too. So two marks say of all of them which is next, and whose lease ends first: what is at a
//! mark or behind it is told by its state alone, and nothing is moved from list to list.

#[cfg(test)]
mod tests;

use std::mem;

use dpat_core::Wall;

use super::{Entry, Machine, State};
use crate::config::WhenFull;
use crate::message::{PRIORITY_DEFAULT, Parts, Receipt};

/// The marks.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// No message before this place is [`State::InTurn`].
    next: u64,
    /// How many are.
    pub(super) ready: usize,
    /// The place of the first message that is [`State::LeasedInTurn`]; they are all before `next`.
    lease: u64,
    /// How many are.
    leases: usize,
    /// When the last of these leases ends.
    until: Wall,
}

impl Machine {
    /// Says whether a message that is ready is handed out when its turn comes.
    #[inline]
    pub(super) fn has_turn(&self, entry: &Entry) -> bool {
        entry.place >= self.turn.next
            && entry.place == entry.id
            && entry.parts.priority == PRIORITY_DEFAULT
            && entry.not_before == Wall::MIN
            && self.places.is_recent(entry.place)
    }

    /// Takes a message in that has nothing but a payload, and [this size](crate::Message::plain_size), in turn behind all
    /// others, where that needs nothing else; returns its id.
    ///
    /// This and the two below do what `take_in`, `hand_out` and `take` do, for what asks for the least.
    #[inline]
    pub(crate) fn take_in_turn(&mut self, size: u64, take: impl FnOnce() -> Parts) -> Option<u64> {
        let id = self.next;
        if self.config.when_full == WhenFull::DropOldest || !self.has_room(size) {
            return None;
        }
        let slot = self.free.last().copied()?;
        if !self.places.push(id, slot) {
            return None;
        }
        self.free.pop();
        let entry = &mut self.slots[slot as usize];
        entry.id = id;
        entry.place = id;
        entry.size = size;
        // What a free slot has is empty: there is nothing to drop.
        mem::forget(mem::replace(&mut entry.parts, take()));
        entry.sent_at = self.clock;
        entry.not_before = Wall::MIN;
        entry.expires = Wall::MAX;
        entry.state = State::InTurn;
        self.next = id + 1;
        self.bytes += size;
        self.counts.sent += 1;
        self.made_ready += 1;
        self.turn.ready += 1;
        Some(id)
    }

    /// Says whether what is in turn is all that can be handed out, and nothing else has to be looked at.
    #[inline]
    pub(super) fn goes_by_turns(&self) -> bool {
        let others = self.ready.len() + self.expiry.len() + self.victims.len();
        others == 0 && !self.paused
    }

    /// The slot of the message whose turn it is, where it [goes by turns](Self::goes_by_turns) and is at its mark.
    #[inline]
    pub(super) fn next_in_turn(&self) -> Option<u32> {
        self.places.recent(self.turn.next)
    }

    /// Hands out the message [whose turn it is](Self::next_in_turn), until then. False: it is not in turn.
    #[inline]
    pub(super) fn hand_out_in_turn(&mut self, slot: u32, until: Wall) -> bool {
        if !self.lease_in_turn(slot, until) {
            return false;
        }
        let entry = &mut self.slots[slot as usize];
        if self.config.rules.count_at_claim() || entry.count == 0 {
            entry.count = entry.count.saturating_add(1);
        }
        entry.held = true;
        self.counts.delivered += 1;
        self.counts.redelivered += u64::from(entry.count > 1);
        true
    }

    /// Removes a message that was handed out in turn and is leased since, where nothing else knows of it; none if not so.
    #[inline]
    pub(crate) fn settle_in_turn(&mut self, receipt: Receipt, out: &mut Option<Parts>) {
        let Ok(id) = u64::try_from(receipt.id().get()) else {
            return;
        };
        let Some(slot) = self.places.recent(id) else {
            return;
        };
        let entry = &mut self.slots[slot as usize];
        let in_turn = entry.state == State::LeasedInTurn && entry.id == id && entry.held;
        let plain = entry.reason.is_none() && !entry.parts.has_extra();
        if !in_turn || !plain || u128::from(entry.count) != receipt.token() {
            return;
        }
        entry.count = 0;
        entry.base = 0;
        entry.held = false;
        entry.state = State::Free;
        // It was none: there is nothing to drop.
        mem::forget(out.replace(mem::replace(&mut entry.parts, Parts::EMPTY)));
        self.bytes -= entry.size;
        self.leased -= 1;
        self.counts.done += 1;
        self.made_room = true;
        self.places.remove_recent(id);
        self.end_in_turn(id);
        self.free.push(slot);
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn first_in_turn(&mut self) -> Option<u32> {
        if self.turn.ready == 0 {
            return None;
        }
        let next = self.first_from(self.turn.next, State::InTurn);
        next.map(|(place, slot)| {
            self.turn.next = place;
            slot
        })
    }

    /// Leases the message whose turn it is. False: it is another one, or its lease would not end last.
    #[inline]
    pub(super) fn lease_in_turn(&mut self, slot: u32, until: Wall) -> bool {
        let turn = &mut self.turn;
        let entry = &mut self.slots[slot as usize];
        if entry.state != State::InTurn || entry.place != turn.next || until < turn.until {
            return false;
        }
        entry.state = State::LeasedInTurn;
        entry.until = until;
        if turn.leases == 0 {
            turn.lease = entry.place;
            // Those that follow end later.
            self.quiet_until = self.quiet_until.min(until);
        }
        turn.next += 1;
        turn.ready -= 1;
        turn.leases += 1;
        turn.until = until;
        self.leased += 1;
        true
    }

    /// The lease in turn that ends first, and when.
    #[inline]
    pub(super) fn first_lease(&self) -> Option<(Wall, u32)> {
        if self.turn.leases == 0 {
            return None;
        }
        let slot = self.places.get(self.turn.lease)?;
        Some((self.slots[slot as usize].until, slot))
    }

    /// The lease in turn of this place has ended.
    #[inline]
    pub(super) fn end_in_turn(&mut self, place: u64) {
        self.turn.leases -= 1;
        if place != self.turn.lease || self.turn.leases == 0 {
            return;
        }
        let next = self.places.recent(place + 1);
        let leased = |slot: u32| self.slots[slot as usize].state == State::LeasedInTurn;
        if next.is_some_and(leased) {
            self.turn.lease = place + 1;
        } else {
            let next = self.first_from(place + 1, State::LeasedInTurn);
            self.turn.lease = next.map_or(place, |(place, _)| place);
        }
    }

    /// The first message from a place on that is in this state.
    #[inline]
    fn first_from(&self, place: u64, state: State) -> Option<(u64, u32)> {
        let mut from = self.places.recent_from(place);
        from.find(|(_, slot)| self.slots[*slot as usize].state == state)
    }

    /// A message has become old: its place says no longer when its turn is.
    #[cold]
    pub(super) fn lose_turn(&mut self, slot: u32) {
        let entry = &self.slots[slot as usize];
        let (place, until) = (entry.place, entry.until);
        match entry.state {
            State::InTurn => {
                let rank = self.rank(entry);
                self.turn.ready -= 1;
                self.ready.insert(slot, rank);
                self.slots[slot as usize].state = State::Ready;
            }
            State::LeasedInTurn => {
                self.end_in_turn(place);
                self.due.insert(slot, (until, place));
                self.slots[slot as usize].state = State::Leased;
            }
            _ => {}
        }
    }
}
