//! What is still to happen, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The place of an entry: its time, a number that no other has, and where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    at_ns: u64,
    seq: u64,
    slot: u32,
}

/// A heap of small keys, and a slab for what they stand for.
///
/// Most timers are given up before they fire: an entry is taken out of the slab at once, and its key stays in the heap
/// until it comes to the front, or until such keys are the majority.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<Key>>,
    slots: Vec<Option<(u64, T)>>,
    free: Vec<u32>,
    next_seq: u64,
}

/// Keys without an entry that are never worth a rebuilding of the heap.
const STALE_MIN: usize = 1_024;

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            next_seq: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Says whether there is no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds an entry after all others of its time.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "tasks and messages are limited below"
    )]
    pub(super) fn push(&mut self, at_ns: u64, item: T) -> Key {
        let seq = self.next_seq;
        self.next_seq += 1;
        let full = Some((seq, item));
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = full;
            slot
        } else {
            self.slots.push(full);
            self.slots.len() as u32 - 1
        };
        let key = Key { at_ns, seq, slot };
        self.heap.push(Reverse(key));
        key
    }

    /// Returns when the first entry is due.
    pub(super) fn first_at(&mut self) -> Option<u64> {
        loop {
            let Reverse(key) = *self.heap.peek()?;
            if self.get_mut(key).is_some() {
                return Some(key.at_ns);
            }
            self.heap.pop();
        }
    }

    /// Takes the first entry if it is due at a time.
    pub(super) fn pop_at(&mut self, at_ns: u64) -> Option<T> {
        loop {
            let Reverse(key) = *self.heap.peek()?;
            if key.at_ns != at_ns && self.get_mut(key).is_some() {
                return None;
            }
            self.heap.pop();
            if let Some(item) = self.take(key) {
                return Some(item);
            }
        }
    }

    /// Returns an entry that is still there.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.slot as usize)? {
            Some((seq, item)) if *seq == key.seq => Some(item),
            _ => None,
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let item = self.take(key)?;
        if self.heap.len() > 2 * self.len() + STALE_MIN {
            let slots = &self.slots;
            let full =
                |key: &Key| matches!(slots[key.slot as usize], Some((seq, _)) if seq == key.seq);
            self.heap.retain(|Reverse(key)| full(key));
        }
        Some(item)
    }

    /// Returns the keys of some entries, in order.
    pub(super) fn keys(&self, which: impl Fn(&T) -> bool) -> Vec<Key> {
        let keys = self.heap.iter().map(|Reverse(key)| *key);
        let mut keys: Vec<Key> = keys
            .filter(|key| match &self.slots[key.slot as usize] {
                Some((seq, item)) => *seq == key.seq && which(item),
                None => false,
            })
            .collect();
        keys.sort_unstable();
        keys
    }

    fn take(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let (_, item) = self.slots[key.slot as usize].take()?;
        self.free.push(key.slot);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Stream;

    #[test]
    fn it_does_what_a_sorted_map_does() {
        let mut rng = Stream::new(7, "queue", 0);
        let mut queue = Queue::default();
        let mut map: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut keys: Vec<Key> = Vec::new();
        for number in 0..20_000 {
            match rng.below(5) {
                0 => {
                    let first = map.first_key_value().map(|(key, _)| key.0);
                    assert_eq!(queue.first_at(), first);
                    let due = first.and_then(|at| queue.pop_at(at));
                    assert_eq!(due, map.pop_first().map(|(_, item)| item));
                }
                1 | 2 if !keys.is_empty() => {
                    let drawn = rng.below(keys.len() as u64);
                    let key = keys.swap_remove(usize::try_from(drawn).unwrap());
                    assert_eq!(
                        queue.get_mut(key).copied(),
                        map.get(&(key.at_ns, key.seq)).copied()
                    );
                    assert_eq!(queue.remove(key), map.remove(&(key.at_ns, key.seq)));
                    assert_eq!(queue.remove(key), None);
                }
                _ => {
                    let at = rng.below(50);
                    let key = queue.push(at, number);
                    map.insert((at, key.seq), number);
                    keys.push(key);
                }
            }
            assert_eq!(queue.len(), map.len());
        }
        let even = queue.keys(|item| item % 2 == 0).into_iter();
        let even: Vec<_> = even.map(|key| (key.at_ns, key.seq)).collect();
        let expected = map.iter().filter(|(_, item)| *item % 2 == 0);
        assert_eq!(even, expected.map(|(key, _)| *key).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_else_is_due_at_the_time_of_the_first() {
        let mut queue = Queue::default();
        let first = queue.push(3, 'a');
        queue.push(5, 'b');
        assert_eq!(queue.pop_at(5), None);
        assert_eq!(queue.remove(first), Some('a'));
        assert_eq!((queue.pop_at(3), queue.pop_at(5)), (None, Some('b')));
        assert!(queue.is_empty() && queue.first_at().is_none());
    }

    #[test]
    fn what_is_given_up_is_not_kept_for_long() {
        let mut queue = Queue::default();
        for at in 0..100_000 {
            let key = queue.push(at, ());
            queue.remove(key);
        }
        assert!(queue.heap.len() <= STALE_MIN);
        assert_eq!(queue.slots.len(), 1);
    }
}
