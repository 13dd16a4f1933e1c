//! Who waits for what. A waiter that is woken is taken out, and comes back if it must go on waiting.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::machine::{Machine, Ticket};
use crate::position::Position;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// What became of a frame.
    Answer(Ticket),
    /// Room for a frame.
    Room,
    /// A record at this position, or the end of the log.
    Beyond(Position),
    /// A sync of this number.
    Sync(u64),
    /// That nothing is under way.
    Rest,
}

#[derive(Debug)]
struct Waiter {
    wants: Wants,
    waker: Waker,
    /// Whether it is a thread that does nothing else: it can be left to lead.
    blocks: bool,
}

/// The place of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// By their numbers, and so in the order in which they came.
    all: BTreeMap<Place, Waiter>,
    made: u64,
}

impl Waiters {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn add(&mut self, wants: Wants, waker: &Waker, blocks: bool) -> Place {
        self.made += 1;
        let place = Place(self.made);
        let waiter = Waiter {
            wants,
            waker: waker.clone(),
            blocks,
        };
        self.all.insert(place, waiter);
        place
    }

    pub(crate) fn remove(&mut self, place: Place) {
        self.all.remove(&place);
    }

    /// Takes out those for whom something has changed.
    pub(crate) fn take_ready(&mut self, machine: &Machine, synced: u64, wakers: &mut Vec<Waker>) {
        let ended = machine.is_over();
        let is_ready = |wants| match wants {
            Wants::Answer(ticket) => ended || machine.has_answer(ticket),
            Wants::Room => ended || !machine.has_open(),
            Wants::Beyond(position) => ended || position < machine.durable(),
            Wants::Sync(number) => ended || number <= synced,
            Wants::Rest => ended || machine.is_idle(),
        };
        self.take_all_that(is_ready, wakers);
    }

    /// Takes out those that want something.
    pub(crate) fn take_all_that(&mut self, is_it: impl Fn(Wants) -> bool, wakers: &mut Vec<Waker>) {
        self.all.retain(|_, waiter| {
            let taken = is_it(waiter.wants);
            if taken {
                wakers.push(waiter.waker.clone());
            }
            !taken
        });
    }

    /// Takes out all.
    pub(crate) fn take_all(&mut self, wakers: &mut Vec<Waker>) {
        let all = std::mem::take(&mut self.all);
        wakers.extend(all.into_values().map(|waiter| waiter.waker));
    }

    /// Takes out the first that can be left to lead.
    pub(crate) fn take_blocked(&mut self) -> Option<Waker> {
        let leads = |waiter: &Waiter| {
            waiter.blocks && matches!(waiter.wants, Wants::Answer(_) | Wants::Sync(_))
        };
        let (place, _) = self.all.iter().find(|(_, waiter)| leads(waiter))?;
        let place = *place;
        self.all.remove(&place).map(|waiter| waiter.waker)
    }
}
