//! The wait list of a ring: who waits, in order, with what they have brought.

use std::collections::VecDeque;
use std::task::Waker;

/// A place in a [`WaitList`], never given twice.
pub(crate) type Place = u64;

/// Tasks in the order of their arrival, each with its waker and something that it brought.
///
/// Not synchronised; it lives under the ring's lock. Wakers leave it to be woken and dropped outside.
#[derive(Debug)]
pub(crate) struct WaitList<T> {
    /// Ascending places.
    entries: VecDeque<Entry<T>>,
    next: Place,
}

#[derive(Debug)]
struct Entry<T> {
    place: Place,
    waker: Waker,
    brought: T,
}

impl<T> WaitList<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            next: 0,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a place at the end.
    pub(crate) fn join(&mut self, waker: Waker, brought: T) -> Place {
        let place = self.next;
        self.next += 1;
        self.entries.push_back(Entry {
            place,
            waker,
            brought,
        });
        place
    }

    /// Replaces the waker of a place. `Err` if the place has been served; the waker in either case is no longer needed.
    pub(crate) fn renew(&mut self, place: Place, waker: Waker) -> Result<Waker, Waker> {
        match self.find(place) {
            Some(at) => Ok(std::mem::replace(&mut self.entries[at].waker, waker)),
            None => Err(waker),
        }
    }

    /// Gives up a place. None if it has been served.
    pub(crate) fn leave(&mut self, place: Place) -> Option<(Waker, T)> {
        let at = self.find(place)?;
        let entry = self.entries.remove(at)?;
        Some((entry.waker, entry.brought))
    }

    /// Serves the first in line.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(Waker, T)> {
        let entry = self.entries.pop_front()?;
        Some((entry.waker, entry.brought))
    }

    /// Returns the waker of the first in line.
    pub(crate) fn first(&self) -> Option<&Waker> {
        self.entries.front().map(|entry| &entry.waker)
    }

    pub(crate) fn is_first(&self, place: Place) -> bool {
        self.entries
            .front()
            .is_some_and(|entry| entry.place == place)
    }

    /// Serves everybody.
    pub(crate) fn all(&mut self) -> impl ExactSizeIterator<Item = (Waker, T)> + use<T> {
        let entries = std::mem::take(&mut self.entries);
        entries
            .into_iter()
            .map(|entry| (entry.waker, entry.brought))
    }

    fn find(&self, place: Place) -> Option<usize> {
        self.entries
            .binary_search_by_key(&place, |entry| entry.place)
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker() -> Waker {
        Waker::noop().clone()
    }

    #[test]
    fn the_first_come_is_the_first_served() {
        let mut list = WaitList::new();
        let places: Vec<_> = (0..4).map(|n| list.join(waker(), n)).collect();
        assert_eq!(list.leave(places[1]).map(|(_, n)| n), Some(1));
        assert_eq!(list.next().map(|(_, n)| n), Some(0));
        assert_eq!(list.len(), 2);
        assert_eq!(list.all().map(|(_, n)| n).collect::<Vec<_>>(), [2, 3]);
        assert!(list.is_empty() && list.next().is_none());
    }

    #[test]
    fn a_place_that_was_served_is_gone() {
        let mut list = WaitList::new();
        let first = list.join(waker(), ());
        let second = list.join(waker(), ());
        list.next();
        assert!(list.leave(first).is_none());
        assert!(list.renew(first, waker()).is_err());
        assert!(list.renew(second, waker()).is_ok());
        let third = list.join(waker(), ());
        assert!(third > second, "places are never given twice");
    }
}
