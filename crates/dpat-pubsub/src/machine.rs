//! What a subscriber's buffer does with a message: pure, without lock, waker, clock or file.

#[cfg(test)]
mod tests;

use crate::config::Key;
use std::collections::{HashMap, VecDeque};

/// What happens to a message that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It waits outside.
    Await,
    /// It takes the place of the oldest.
    DropOldest,
    /// It is lost.
    DropNewest,
    /// It ends the subscription.
    Disconnect,
    /// It takes the place of an older one with its key; of the oldest, if there is none.
    Conflate,
    /// It goes beyond the buffer, and so do the later ones until those are read.
    #[cfg_attr(
        not(feature = "spill"),
        allow(dead_code, reason = "nothing else has a store")
    )]
    Spill,
}

/// Messages in their order, at most `capacity`, and how many were lost between them.
#[derive(Debug)]
pub(crate) struct Buffer<M> {
    mode: Mode,
    capacity: usize,
    queue: VecDeque<Slot<M>>,
    /// Messages after those of the queue that are kept elsewhere.
    beyond: u64,
    /// Lost between those of the queue and those beyond.
    lost_between: u64,
    /// Lost after everything that is kept.
    lost_after: u64,
    /// Lost and not yet told.
    untold: u64,
    keys: Option<Box<Keys>>,
    counts: Counts,
}

#[derive(Debug)]
struct Slot<M> {
    lost_before: u64,
    message: M,
}

/// The keys of the queued messages, in a buffer that conflates.
#[derive(Debug, Default)]
struct Keys {
    by_place: VecDeque<Key>,
    /// The place of each key, counted from the first message ever.
    places: HashMap<Key, u64>,
    /// The place of the first message in the queue.
    first: u64,
}

/// What a buffer has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) taken: u64,
    pub(crate) lost: u64,
    pub(crate) conflated: u64,
}

/// What became of an offered message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer<M> {
    /// It is in. The message that made room goes.
    Stored { gone: Option<M> },
    /// There is no room, and it must not be lost.
    NoRoom(M),
    /// It is lost, and counted.
    Lost(M),
    /// There is no room; the subscription ends. It is lost, and counted.
    Overflow(M),
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Take<M> {
    Message(M),
    Lagged(u64),
    /// Nothing here; the next message is beyond the buffer.
    Beyond,
    Empty,
}

impl<M> Buffer<M> {
    /// `capacity` is at least 1.
    pub(crate) fn new(mode: Mode, capacity: usize) -> Self {
        Self {
            mode,
            capacity,
            queue: VecDeque::new(),
            beyond: 0,
            lost_between: 0,
            lost_after: 0,
            untold: 0,
            keys: (mode == Mode::Conflate).then(Box::default),
            counts: Counts::default(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Messages that wait to be taken, those beyond included.
    pub(crate) fn len(&self) -> u64 {
        self.queue.len() as u64 + self.beyond
    }

    /// Messages that were lost so far.
    #[inline]
    pub(crate) fn lost(&self) -> u64 {
        self.counts.lost
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Says whether a reader would find anything.
    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        !self.queue.is_empty() || self.beyond > 0 || self.lost_after > 0
    }

    /// Says whether what is next is in the buffer, and not beyond it.
    pub(crate) fn is_next_here(&self) -> bool {
        !self.queue.is_empty() || self.lost_between > 0 || self.beyond == 0
    }

    /// Takes a message in, or says what else becomes of it. `key` is for buffers that conflate.
    #[inline]
    pub(crate) fn offer(&mut self, message: M, key: Option<Key>) -> Offer<M> {
        if let Some(key) = key {
            return self.offer_keyed(message, key);
        }
        if self.has_room() {
            self.push(message);
            return Offer::Stored { gone: None };
        }
        match self.mode {
            Mode::Await | Mode::Spill => Offer::NoRoom(message),
            Mode::DropOldest | Mode::Conflate => {
                let gone = self.evict();
                self.push(message);
                Offer::Stored { gone }
            }
            Mode::DropNewest => {
                self.lose(1);
                Offer::Lost(message)
            }
            Mode::Disconnect => {
                self.lose(1);
                Offer::Overflow(message)
            }
        }
    }

    fn offer_keyed(&mut self, message: M, key: Key) -> Offer<M> {
        let Some(keys) = &mut self.keys else {
            return self.offer(message, None);
        };
        if let Some(place) = keys.places.get(&key) {
            let at = usize::try_from(place - keys.first).unwrap_or(usize::MAX);
            if let Some(slot) = self.queue.get_mut(at) {
                self.counts.accepted += 1;
                self.counts.conflated += 1;
                let gone = Some(std::mem::replace(&mut slot.message, message));
                return Offer::Stored { gone };
            }
        }
        let gone = if self.queue.len() < self.capacity {
            None
        } else {
            self.evict()
        };
        if let Some(keys) = &mut self.keys {
            let place = keys.first + self.queue.len() as u64;
            keys.places.insert(key.clone(), place);
            keys.by_place.push_back(key);
        }
        self.push(message);
        Offer::Stored { gone }
    }

    /// Says whether the next message only has to be put into the queue, unless it has a key.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < self.capacity && self.beyond == 0
    }

    #[inline]
    pub(crate) fn push(&mut self, message: M) {
        self.counts.accepted += 1;
        self.queue.push_back(Slot {
            lost_before: std::mem::take(&mut self.lost_after),
            message,
        });
    }

    /// Removes the oldest message, which is thereby lost.
    fn evict(&mut self) -> Option<M> {
        let slot = self.pop()?;
        self.counts.lost += 1;
        self.untold += 1;
        match self.queue.front_mut() {
            Some(next) => next.lost_before += slot.lost_before + 1,
            None => self.lost_after += slot.lost_before + 1,
        }
        Some(slot.message)
    }

    #[inline]
    fn pop(&mut self) -> Option<Slot<M>> {
        let slot = self.queue.pop_front()?;
        if let Some(keys) = &mut self.keys {
            if let Some(key) = keys.by_place.pop_front() {
                keys.places.remove(&key);
            }
            keys.first += 1;
        }
        Some(slot)
    }

    /// Counts messages that are lost after everything that is kept.
    pub(crate) fn lose(&mut self, count: u64) {
        self.lost_after += count;
        self.untold += count;
        self.counts.lost += count;
    }

    /// Says whether something was lost that the reader does not know of.
    pub(crate) fn lags(&self) -> bool {
        self.untold > 0
    }

    /// Takes what is next if it is a message, nothing was lost before it, and it has no key.
    #[inline]
    pub(crate) fn take_plain(&mut self) -> Option<M> {
        if self.keys.is_some() || self.queue.front()?.lost_before > 0 {
            return None;
        }
        self.counts.taken += 1;
        self.queue.pop_front().map(|slot| slot.message)
    }

    /// Takes what is next: the number of lost messages before the next one, or that one.
    #[inline]
    pub(crate) fn take(&mut self) -> Take<M> {
        if let Some(slot) = self.queue.front_mut() {
            let lost = std::mem::take(&mut slot.lost_before);
            if lost > 0 {
                self.untold -= lost;
                return Take::Lagged(lost);
            }
        }
        if let Some(slot) = self.pop() {
            self.counts.taken += 1;
            return Take::Message(slot.message);
        }
        let lost = if self.lost_between > 0 {
            &mut self.lost_between
        } else if self.beyond > 0 {
            return Take::Beyond;
        } else {
            &mut self.lost_after
        };
        match std::mem::take(lost) {
            0 => Take::Empty,
            lost => {
                self.untold -= lost;
                Take::Lagged(lost)
            }
        }
    }

    /// Starts a message that goes beyond: returns what was lost before it.
    pub(crate) fn begin_beyond(&mut self) -> u64 {
        std::mem::take(&mut self.lost_after)
    }

    /// Ends a message that went beyond, or did not get there.
    pub(crate) fn end_beyond(&mut self, arrived: bool, lost_before: u64) {
        if arrived {
            self.beyond += 1;
            self.counts.accepted += 1;
        } else {
            self.lost_after += lost_before;
            self.lose(1);
        }
    }

    /// Brings messages back from beyond; a missing one did not survive there.
    pub(crate) fn bring_back(&mut self, messages: impl IntoIterator<Item = (u64, Option<M>)>) {
        let mut lost = std::mem::take(&mut self.lost_between);
        for (lost_before, message) in messages {
            self.beyond = self.beyond.saturating_sub(1);
            lost += lost_before;
            match message {
                Some(message) => self.queue.push_back(Slot {
                    lost_before: std::mem::take(&mut lost),
                    message,
                }),
                None => {
                    lost += 1;
                    self.untold += 1;
                    self.counts.lost += 1;
                }
            }
        }
        if self.beyond > 0 {
            self.lost_between = lost;
        } else {
            self.lost_after += lost;
        }
    }

    /// Gives up what is beyond.
    pub(crate) fn lose_beyond(&mut self) {
        let beyond = std::mem::take(&mut self.beyond);
        self.lost_after += std::mem::take(&mut self.lost_between);
        self.lose(beyond);
    }

    /// Empties the buffer; the messages go to the caller.
    pub(crate) fn clear(&mut self) -> impl Drop + use<M> {
        self.beyond = 0;
        self.lost_between = 0;
        self.lost_after = 0;
        self.untold = 0;
        self.keys = None;
        std::mem::take(&mut self.queue)
    }
}
