//! Where senders leave messages without meeting the receivers.
//!
//! The queue's state is one, behind one lock; but a message that has nothing but a payload needs nothing of it while nobody
//! waits and there is room: it is left here, behind a lock of the senders' own, and whoever looks at the state next takes in
//! first what is here. So what is sent is there for all that happens after it, and receivers and senders go by each other.
//!
//! The lock of the state is taken before this one. While the intake is open
//! - the state [is calm](State::is_calm), and its row [is open](Machine::is_row_open);
//! - what is here and what may still come fits into the queue, and `next` is the id of the next message.
//!
//! A message that is done makes [room](Room) which a sender sees that has used up its own, without the lock of the state.

#[cfg(test)]
mod tests;

use std::hint;

use bytes::Bytes;
use dpat_core::Wall;

use super::{Embedded, State};
use crate::machine::{Left, Machine};
use crate::sync::Written;

/// On lines of its own: a sender must not wait for what receivers write.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Intake {
    is_open: bool,
    /// The latest time at which a message was left.
    clock: Wall,
    /// The id of the next message.
    next: u64,
    /// How many more, and how many bytes of them, have room.
    messages: u64,
    bytes: u64,
    /// How much of the room that was made is part of it.
    taken: (u64, u64),
    /// How often in a row a sender found none that was made while it looked.
    in_vain: u32,
    left: Vec<Left>,
    left_bytes: u64,
}

/// For how many messages memory is kept where none is left.
const LEFT_KEPT: usize = 4_096;

/// How often a sender looks for room before it waits; the pauses between the looks double.
const LOOKS: u32 = if cfg!(dpat_loom) { 0 } else { 6 };

/// After so many times in vain, a sender looks only this seldom.
const IN_VAIN: (u32, u32) = (4, 64);

/// How many messages were done since the intake was opened, and how many bytes of them; written behind the lock of the state.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Room {
    messages: Written,
    bytes: Written,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            messages: Written::new(),
            bytes: Written::new(),
        }
    }

    #[inline]
    pub(super) fn add(&self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.bytes.add(bytes);
    }

    /// Looks for a moment (some microseconds) whether room is made beside what was seen.
    fn is_made(&self, seen: u64) -> bool {
        (0..LOOKS).any(|look| {
            (0..1 << look).for_each(|_| hint::spin_loop());
            self.messages.seen() != seen
        })
    }

    fn reset(&self) {
        self.messages.set(0);
        self.bytes.set(0);
    }
}

impl Embedded {
    /// Where there was no room for a message of this size: waits for a moment until some is made. Receivers that are at work
    /// make it in less time than it takes to wait for a wake.
    #[cold]
    pub(super) fn room_comes(&self, size: u64) -> bool {
        let looks_from = self.intake.with(|intake| intake.looks_from(size));
        let comes = looks_from.is_some_and(|seen| self.room.is_made(seen));
        if comes {
            self.intake.with(|intake| intake.in_vain = 0);
        }
        comes
    }
}

impl Intake {
    /// Says whether a message of this size may be left.
    #[inline]
    pub(super) fn has_room_for(&mut self, size: u64, room: &Room) -> bool {
        self.is_open && (self.has_room(size) || self.gets_room(room, size))
    }

    /// Leaves a message of this size, for which there [is room](Self::has_room_for), and returns its id.
    #[inline]
    pub(super) fn leave(&mut self, now: Wall, size: u64, payload: impl FnOnce() -> Bytes) -> u64 {
        self.clock = self.clock.max(now);
        let id = self.next;
        self.next += 1;
        self.messages -= 1;
        self.bytes -= size;
        self.left_bytes += size;
        let (payload, sent_at) = (payload(), self.clock);
        self.left.push(Left { payload, sent_at });
        id
    }

    /// The id of the next message that is left.
    #[inline]
    pub(super) const fn next_id(&self) -> u64 {
        self.next
    }

    #[inline]
    const fn has_room(&self, size: u64) -> bool {
        self.messages > 0 && self.bytes >= size
    }

    /// Takes the room that was made meanwhile, and says whether it is enough.
    #[cold]
    fn gets_room(&mut self, room: &Room, size: u64) -> bool {
        let made = (room.messages.seen(), room.bytes.seen());
        self.messages += made.0 - self.taken.0;
        self.bytes += made.1 - self.taken.1;
        self.taken = made;
        self.has_room(size)
    }

    /// Where there was no room: how much was made until then, if it is worth to look for more.
    fn looks_from(&mut self, size: u64) -> Option<u64> {
        let (often, seldom) = IN_VAIN;
        self.in_vain = self.in_vain.saturating_add(1);
        let looks = self.is_open && !self.has_room(size);
        let worth_it = self.in_vain <= often || self.in_vain % seldom == 0;
        (looks && worth_it).then_some(self.taken.0)
    }

    /// Takes in what was left.
    #[inline]
    pub(super) fn empty_into(&mut self, machine: &mut Machine) {
        if !self.left.is_empty() {
            machine.join_row_all(&mut self.left, self.left_bytes);
            self.left_bytes = 0;
            if self.left.capacity() > LEFT_KEPT {
                self.left = Vec::new();
            }
        }
    }

    /// Says what may be left from now on: the intake is empty.
    #[inline]
    pub(super) fn open_if_calm(&mut self, state: &mut State, room: &Room) {
        state.calm = state.is_calm();
        let machine = &state.machine;
        self.is_open = state.calm && machine.is_row_open();
        self.next = machine.next_id();
        self.clock = self.clock.max(machine.clock());
        (self.messages, self.bytes) = machine.room();
        self.taken = (0, 0);
        room.reset();
        state.intake_open = self.is_open;
    }
}
