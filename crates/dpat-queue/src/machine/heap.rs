//! Slots in the order of their keys: a list for what comes in order, and a heap, which knows where each slot is, for the rest.

/// The place of what is not here.
const NOWHERE: u32 = u32::MAX;
/// The place of what is in the list.
const LISTED: u32 = u32::MAX - 1;

/// Slots in the order of their keys. What is inserted behind all that came in order, as leases of one length and messages of
/// one priority are, takes O(1), and so does its removal; the rest O(log n). Once grown, it takes no memory.
#[derive(Debug)]
pub(super) struct InOrder<K> {
    spots: Vec<Spot<K>>,
    /// The first and the last of the list.
    first: u32,
    last: u32,
    /// The heap.
    items: Vec<(K, u32)>,
    len: usize,
}

/// Where a slot is.
#[derive(Clone, Copy, Debug)]
struct Spot<K> {
    /// In the list or nowhere, or else the index in the heap.
    place: u32,
    before: u32,
    after: u32,
    /// That of the list.
    key: K,
}

impl<K: Copy + Ord> InOrder<K> {
    pub(super) const fn new() -> Self {
        Self {
            spots: Vec::new(),
            first: NOWHERE,
            last: NOWHERE,
            items: Vec::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn first(&self) -> Option<(K, u32)> {
        let listed = self.spots.get(self.first as usize);
        let listed = listed.map(|spot| (spot.key, self.first));
        match (listed, self.items.first().copied()) {
            (Some(listed), Some(item)) if item.0 < listed.0 => Some(item),
            (None, item) => item,
            (listed, _) => listed,
        }
    }

    #[cfg(test)]
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.place(slot) != NOWHERE
    }

    /// Inserts a slot, or moves it to another key.
    #[inline]
    pub(super) fn insert(&mut self, slot: u32, key: K) {
        let index = slot as usize;
        match self.spots.get(index) {
            Some(spot) if spot.place == NOWHERE => {}
            Some(_) => drop(self.remove(slot)),
            None => {
                let spot = Spot {
                    place: NOWHERE,
                    before: NOWHERE,
                    after: NOWHERE,
                    key,
                };
                self.spots.resize(index + 1, spot);
            }
        }
        self.len += 1;
        let last = self.last;
        let in_order = match self.spots.get_mut(last as usize) {
            None => {
                self.first = slot;
                true
            }
            Some(end) if end.key <= key => {
                end.after = slot;
                true
            }
            Some(_) => false,
        };
        if in_order {
            self.last = slot;
            self.spots[index] = Spot {
                place: LISTED,
                before: last,
                after: NOWHERE,
                key,
            };
            return;
        }
        self.items.push((key, slot));
        self.set_place(self.items.len() - 1);
        self.up(self.items.len() - 1);
    }

    /// Removes a slot; false if it was not there.
    #[inline]
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        // Most queues have nothing that ends, and nothing that makes room.
        self.len > 0 && self.take_out(slot)
    }

    #[inline]
    fn take_out(&mut self, slot: u32) -> bool {
        let Some(spot) = self.spots.get_mut(slot as usize) else {
            return false;
        };
        let (place, before, after) = (spot.place, spot.before, spot.after);
        if place == NOWHERE {
            return false;
        }
        spot.place = NOWHERE;
        self.len -= 1;
        if place == LISTED {
            match self.spots.get_mut(before as usize) {
                Some(spot) => spot.after = after,
                None => self.first = after,
            }
            match self.spots.get_mut(after as usize) {
                Some(spot) => spot.before = before,
                None => self.last = before,
            }
            return true;
        }
        self.leave(place as usize);
        true
    }

    /// Takes an item out of the heap.
    fn leave(&mut self, at: usize) {
        let Some(last) = self.items.pop() else {
            return;
        };
        if at < self.items.len() {
            self.items[at] = last;
            self.set_place(at);
            self.up(at);
            self.down(self.place(last.1) as usize);
        }
    }

    fn place(&self, slot: u32) -> u32 {
        let spot = self.spots.get(slot as usize);
        spot.map_or(NOWHERE, |spot| spot.place)
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "there are no more items than slots, which are u32"
    )]
    fn set_place(&mut self, at: usize) {
        let slot = self.items[at].1;
        self.spots[slot as usize].place = at as u32;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.items.swap(a, b);
        self.set_place(a);
        self.set_place(b);
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.items[parent].0 <= self.items[at].0 {
                return;
            }
            self.swap(parent, at);
            at = parent;
        }
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.items.len() && self.items[child].0 < self.items[least].0 {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpat_core::{Entropy, SplitMix64};
    use std::collections::BTreeMap;

    #[test]
    fn random_inserts_and_removals_keep_the_order() {
        let entropy = SplitMix64::new(7);
        let mut heap = InOrder::new();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for step in 0..20_000 {
            let slot = u32::try_from(entropy.below(50)).unwrap();
            match entropy.below(3) {
                0 => assert_eq!(heap.remove(slot), model.remove(&slot).is_some()),
                // Now and then a time without order, and one in which nearly all come in order.
                _ => {
                    let key = match step / 1_000 % 2 {
                        0 => entropy.below(30),
                        _ => step + entropy.below(3),
                    };
                    heap.insert(slot, key);
                    model.insert(slot, key);
                }
            }
            assert_eq!(heap.len(), model.len());
            assert_eq!(heap.contains(slot), model.contains_key(&slot));
            let first = heap.first().map(|(key, _)| key);
            assert_eq!(first, model.values().min().copied());
            if let Some((key, slot)) = heap.first() {
                assert_eq!(model[&slot], key);
            }
        }
    }
}
