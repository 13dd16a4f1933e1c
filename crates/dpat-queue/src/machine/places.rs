//! Which slot has which place in the order: the places are numbers in a row, so that most are found by one look.

use std::collections::BTreeMap;

use super::NONE;

/// How many places may be empty between the first and the last, beside as many as there are messages.
const HOLES: u64 = 64;

/// Slots by their places.
///
/// The newest are in a ring, one spot for each number. Those that stay behind are in a tree, so that one old message does not
/// keep the ring as long as everything that came after it. All but the old ones take O(1).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Places {
    base: u64,
    end: u64,
    len: usize,
    /// A slot, or [`NONE`], for each place from `base` to `end`, at the place modulo the length, which is a power of two.
    ring: Vec<u32>,
    old: BTreeMap<u64, u32>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            ring: vec![NONE; 64],
            base: 1,
            end: 1,
            old: BTreeMap::new(),
            len: 0,
        }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, place: u64) -> Option<u32> {
        let slot = if self.is_recent(place) {
            self.at(place)
        } else if self.old.is_empty() {
            NONE
        } else {
            self.old.get(&place).copied().unwrap_or(NONE)
        };
        (slot != NONE).then_some(slot)
    }

    /// What is at a place, if that is in the ring.
    #[inline]
    pub(super) fn recent(&self, place: u64) -> Option<u32> {
        if !self.is_recent(place) {
            return None;
        }
        let slot = self.at(place);
        (slot != NONE).then_some(slot)
    }

    /// Says whether a place is in the ring.
    #[inline]
    pub(super) const fn is_recent(&self, place: u64) -> bool {
        place >= self.base && place < self.end
    }

    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the rest is cut off anyway"
    )]
    fn spot(&self, place: u64) -> usize {
        place as usize & (self.ring.len() - 1)
    }

    /// What is at a place of the ring.
    #[inline]
    fn at(&self, place: u64) -> u32 {
        self.ring[self.spot(place)]
    }

    /// The slots of the ring from a place on, and their places.
    #[inline]
    pub(super) fn recent_from(&self, place: u64) -> impl Iterator<Item = (u64, u32)> {
        let places = place.max(self.base)..self.end;
        let slots = places.map(|place| (place, self.at(place)));
        slots.filter(|(_, slot)| *slot != NONE)
    }

    /// Before a place is added: moves one slot to the old ones, and returns it; none if that is not necessary (any more).
    #[inline]
    pub(super) fn retire_for(&mut self, place: u64) -> Option<u32> {
        let span = self.end - self.base;
        let stretched = span > 2 * self.len as u64 + HOLES;
        if span > 0 && (place > self.end || stretched) {
            self.retire()
        } else {
            None
        }
    }

    /// Adds a slot at a place that is free, mostly the one behind all.
    #[inline]
    pub(super) fn insert(&mut self, place: u64, slot: u32) {
        self.len += 1;
        if place != self.end {
            return self.insert_elsewhere(place, slot);
        }
        if self.end - self.base == self.ring.len() as u64 {
            self.grow();
        }
        self.end += 1;
        let spot = self.spot(place);
        self.ring[spot] = slot;
    }

    #[cold]
    fn insert_elsewhere(&mut self, place: u64, slot: u32) {
        if place < self.base {
            self.old.insert(place, slot);
            return;
        }
        if place > self.end {
            // Numbers were left out, and the ring is empty.
            self.base = place;
            self.end = place + 1;
        }
        let spot = self.spot(place);
        self.ring[spot] = slot;
    }

    #[cold]
    fn grow(&mut self) {
        let mut longer = vec![NONE; 2 * self.ring.len()];
        let mask = longer.len() as u64 - 1;
        for place in self.base..self.end {
            if let Ok(spot) = usize::try_from(place & mask) {
                longer[spot] = self.at(place);
            }
        }
        self.ring = longer;
    }

    /// Moves the first of the ring to the old ones.
    #[cold]
    fn retire(&mut self) -> Option<u32> {
        let (place, slot) = (self.base, self.at(self.base));
        self.old.insert(place, slot);
        self.leave(place);
        Some(slot)
    }

    /// Removes what is at a place.
    #[inline]
    pub(super) fn remove(&mut self, place: u64) {
        if !self.is_recent(place) {
            self.len -= usize::from(self.old.remove(&place).is_some());
        } else if self.at(place) != NONE {
            self.remove_recent(place);
        }
    }

    /// Removes the slot at a place of the ring, which has one.
    #[inline]
    pub(super) fn remove_recent(&mut self, place: u64) {
        self.len -= 1;
        self.leave(place);
    }

    /// Empties a place of the ring, which begins with a slot, or is empty.
    #[inline]
    fn leave(&mut self, place: u64) {
        let spot = self.spot(place);
        self.ring[spot] = NONE;
        while self.base < self.end && self.at(self.base) == NONE {
            self.base += 1;
        }
    }

    /// The slots behind a place, in order.
    pub(super) fn behind(&self, place: Option<u64>) -> impl Iterator<Item = u32> {
        let from = place.map_or(0, |place| place.saturating_add(1));
        let old = self.old.range(from..).map(|(_, slot)| *slot);
        old.chain(self.recent_from(from).map(|(_, slot)| slot))
    }
}

#[cfg(test)]
mod tests {
    use dpat_core::{Entropy as _, SplitMix64};

    use super::*;

    #[test]
    fn random_inserts_and_removals_keep_the_order_and_the_bounds() {
        for seed in 0..20 {
            let entropy = SplitMix64::stream(seed, "places");
            let (mut places, mut model) = (Places::new(), BTreeMap::new());
            let mut next = 0;
            for slot in 0..3_000 {
                // Now and then numbers are left out, a few or very many.
                next += match entropy.below(500) {
                    0 => 1 << 40,
                    1 => 7,
                    _ => 1,
                };
                while let Some(old) = places.retire_for(next) {
                    assert!(model.values().any(|slot| *slot == old));
                }
                let span = places.end - places.base;
                assert!(span <= 2 * model.len() as u64 + HOLES, "{span}");
                places.insert(next, slot);
                model.insert(next, slot);
                while entropy.below(100) < 48 {
                    // Mostly one of the oldest, but for those that stay.
                    let skip = usize::try_from(entropy.below(3)).unwrap() + 5;
                    let Some(place) = model.keys().nth(skip).copied() else {
                        break;
                    };
                    places.remove(place);
                    model.remove(&place);
                    places.remove(place);
                }
                assert_eq!(places.len(), model.len());
                let behind = next.saturating_sub(entropy.below(50));
                let rest: Vec<_> = places.behind(Some(behind)).collect();
                let expected = model.range(behind + 1..).map(|(_, slot)| *slot);
                assert_eq!(rest, expected.collect::<Vec<_>>());
                assert_eq!(places.get(behind), model.get(&behind).copied());
            }
            assert!(places.behind(None).eq(model.values().copied()));
        }
    }
}
