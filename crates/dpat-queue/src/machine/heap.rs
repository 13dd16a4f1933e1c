//! A binary heap that knows where each slot is, so that any of them can leave.

const NOWHERE: u32 = u32::MAX;

/// Slots in the order of their keys. Inserting and removing take O(log n) and, once grown, no memory.
#[derive(Debug)]
pub(super) struct IndexedHeap<K> {
    items: Vec<(K, u32)>,
    places: Vec<u32>,
}

impl<K: Copy + Ord> IndexedHeap<K> {
    pub(super) const fn new() -> Self {
        Self {
            items: Vec::new(),
            places: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn first(&self) -> Option<(K, u32)> {
        self.items.first().copied()
    }

    #[cfg(test)]
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.place(slot).is_some()
    }

    /// Inserts a slot, or moves it to another key.
    pub(super) fn insert(&mut self, slot: u32, key: K) {
        if let Some(at) = self.place(slot) {
            self.items[at].0 = key;
            self.up(at);
            if let Some(at) = self.place(slot) {
                self.down(at);
            }
            return;
        }
        let index = slot as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, NOWHERE);
        }
        self.items.push((key, slot));
        self.set_place(self.items.len() - 1);
        self.up(self.items.len() - 1);
    }

    /// Removes a slot; false if it was not there.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let Some(at) = self.place(slot) else {
            return false;
        };
        self.places[slot as usize] = NOWHERE;
        let Some(last) = self.items.pop() else {
            return false;
        };
        if at < self.items.len() {
            self.items[at] = last;
            self.set_place(at);
            self.up(at);
            if let Some(at) = self.place(last.1) {
                self.down(at);
            }
        }
        true
    }

    fn place(&self, slot: u32) -> Option<usize> {
        let place = *self.places.get(slot as usize)?;
        (place != NOWHERE).then_some(place as usize)
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "there are no more items than slots, which are u32"
    )]
    fn set_place(&mut self, at: usize) {
        let slot = self.items[at].1;
        self.places[slot as usize] = at as u32;
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
        let mut heap = IndexedHeap::new();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..20_000 {
            let slot = u32::try_from(entropy.below(50)).unwrap();
            match entropy.below(3) {
                0 => assert_eq!(heap.remove(slot), model.remove(&slot).is_some()),
                _ => {
                    let key = entropy.below(30);
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
