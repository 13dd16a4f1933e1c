//! Turns: what most messages in slots need, without a search.
//!
//! Messages of the usual priority that may be delivered at once go out in the order of their places, and their leases, all of
//! one length, end in that order too. So two marks say of all of them which is next, and whose lease ends first: what is at a
//! mark or behind it is told by its state alone, and nothing is moved from list to list.

#[cfg(test)]
mod tests;

use dpat_core::Wall;

use super::{Entry, Machine, State};
use crate::message::PRIORITY_DEFAULT;

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
            && entry.parts.priority() == PRIORITY_DEFAULT
            && entry.not_before == Wall::MIN
            && self.places.is_recent(entry.place)
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
