//! What is going to happen, in order.

/// When an entry is due, and which of those due together comes first: the one with the lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) at_ns: u64,
    pub(super) seq: u64,
}

/// An entry that is due.
#[derive(Debug)]
pub(super) struct Due<T> {
    pub(super) key: Key,
    /// The event that made the entry.
    pub(super) cause: u64,
    pub(super) item: T,
}

/// A priority queue: a heap of small entries with four children each, and a slab for what they stand for.
///
/// In steady state it allocates nothing.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// Time, number and slot, packed so that one comparison decides.
    heap: Vec<u128>,
    slots: Vec<Slot<T>>,
    free: u32,
    next_seq: u64,
}

#[derive(Debug)]
enum Slot<T> {
    /// With the next free slot.
    Free(u32),
    Full {
        cause: u64,
        item: T,
    },
}

const SLOT_BITS: u32 = 24;
const SEQ_BITS: u32 = 40;
const NO_SLOT: u32 = u32::MAX;
const ARITY: usize = 4;

/// The most entries.
pub(super) const ENTRIES_MAX: usize = 1 << SLOT_BITS;

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self {
            heap: Vec::new(),
            slots: Vec::new(),
            free: NO_SLOT,
            next_seq: 0,
        }
    }

    /// Returns how many entries there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Takes a number, which an entry may be given later.
    pub(super) const fn reserve(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// Adds an entry after all others of its time.
    #[inline]
    pub(super) fn push(&mut self, at_ns: u64, cause: u64, item: T) {
        let seq = self.reserve();
        self.push_at(Key { at_ns, seq }, cause, item);
    }

    /// Adds an entry with a reserved number.
    ///
    /// The caller keeps the number of entries below [`ENTRIES_MAX`].
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "slots are fewer than 2^24")]
    pub(super) fn push_at(&mut self, key: Key, cause: u64, item: T) {
        let full = Slot::Full { cause, item };
        let slot = self.free;
        let slot = if let Some(place) = self.slots.get_mut(slot as usize) {
            if let Slot::Free(next) = std::mem::replace(place, full) {
                self.free = next;
            }
            slot
        } else {
            self.slots.push(full);
            (self.slots.len() - 1) as u32
        };
        let seq = u128::from(key.seq & ((1 << SEQ_BITS) - 1));
        let entry = u128::from(key.at_ns) << 64 | seq << SLOT_BITS | u128::from(slot);
        self.heap.push(entry);
        self.sift_up(self.heap.len() - 1, entry);
    }

    /// Takes the first entry.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "takes an entry apart")]
    pub(super) fn pop(&mut self) -> Option<Due<T>> {
        let last = self.heap.pop()?;
        let first = match self.heap.first() {
            None => last,
            Some(first) => {
                let first = *first;
                self.sift_down(last);
                first
            }
        };
        let slot = first as u32 & ((1 << SLOT_BITS) - 1);
        let key = Key {
            at_ns: (first >> 64) as u64,
            seq: (first as u64) >> SLOT_BITS,
        };
        let place = self.slots.get_mut(slot as usize)?;
        match std::mem::replace(place, Slot::Free(self.free)) {
            Slot::Full { cause, item } => {
                self.free = slot;
                Some(Due { key, cause, item })
            }
            Slot::Free(_) => None, // an entry has a full slot
        }
    }

    fn sift_up(&mut self, mut at: usize, entry: u128) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.heap[parent] <= entry {
                break;
            }
            self.heap[at] = self.heap[parent];
            at = parent;
        }
        self.heap[at] = entry;
    }

    /// Puts an entry where the first one was.
    fn sift_down(&mut self, entry: u128) {
        let heap = self.heap.as_mut_slice();
        let mut at = 0;
        loop {
            let child = at * ARITY + 1;
            let (least, value) = if let Some([a, b, c, d]) = heap.get(child..child + ARITY) {
                let (left, left_value) = if b < a { (child + 1, *b) } else { (child, *a) };
                let (right, right_value) = if d < c {
                    (child + 3, *d)
                } else {
                    (child + 2, *c)
                };
                if right_value < left_value {
                    (right, right_value)
                } else {
                    (left, left_value)
                }
            } else {
                let rest = heap.iter().enumerate().skip(child);
                match rest.min_by_key(|(_, value)| **value) {
                    Some((index, value)) => (index, *value),
                    None => break,
                }
            };
            if entry <= value {
                break;
            }
            heap[at] = value;
            at = least;
        }
        heap[at] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;

    #[test]
    fn entries_come_out_by_time_and_number() {
        let mut stream = Stream::new(1, "test", 0);
        let mut queue = Queue::new();
        let mut expected = std::collections::BTreeMap::new();
        for round in 0..20_000_u64 {
            if stream.chance(550_000) {
                let at_ns = stream.below(500);
                expected.insert(
                    Key {
                        at_ns,
                        seq: queue.next_seq,
                    },
                    round,
                );
                queue.push(at_ns, round + 1, round);
            } else {
                let due = queue.pop().map(|due| {
                    assert_eq!(due.cause, due.item + 1);
                    (due.key, due.item)
                });
                assert_eq!(due, expected.pop_first());
            }
            assert_eq!(queue.len(), expected.len());
        }
        while let Some(due) = queue.pop() {
            assert_eq!(Some((due.key, due.item)), expected.pop_first());
        }
        assert!(expected.is_empty());
    }

    #[test]
    fn a_reserved_number_keeps_its_place() {
        let mut queue = Queue::new();
        let seq = queue.reserve();
        queue.push(5, 0, "second");
        queue.push(4, 0, "first");
        queue.push_at(Key { at_ns: 5, seq }, 0, "between");
        let order: Vec<&str> = std::iter::from_fn(|| queue.pop())
            .map(|due| due.item)
            .collect();
        assert_eq!(order, ["first", "between", "second"]);
        assert_eq!(queue.pop().map(|due| due.item), None);
    }

    #[test]
    fn the_last_time_can_be_used() {
        let mut queue = Queue::new();
        queue.push(u64::MAX, 0, 1);
        queue.push(0, 0, 2);
        assert_eq!(queue.pop().unwrap().item, 2);
        assert_eq!(queue.pop().unwrap().key.at_ns, u64::MAX);
    }
}
