//! Who waits, in order.

use std::collections::VecDeque;
use std::task::Waker;

/// A place in a [`WaitList`], never given twice.
pub(crate) type Place = u64;

/// Tasks in the order of their arrival. Not synchronised; wakers leave it to be woken and dropped outside of the lock.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    /// Ascending places.
    entries: VecDeque<Entry>,
    next: Place,
    armed: usize,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    waker: Waker,
    /// It also looks at the clock.
    armed: bool,
}

impl WaitList {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many also look at the clock.
    #[inline]
    pub(crate) const fn armed(&self) -> usize {
        self.armed
    }

    /// Takes a place at the end.
    pub(crate) fn join(&mut self, waker: Waker, armed: bool) -> Place {
        let place = self.next;
        self.next += 1;
        self.armed += usize::from(armed);
        self.entries.push_back(Entry {
            place,
            waker,
            armed,
        });
        place
    }

    /// Renews a place. `Err` if it has been served; the waker in either case is no longer needed.
    pub(crate) fn renew(
        &mut self,
        place: Place,
        waker: Waker,
        armed: bool,
    ) -> Result<Waker, Waker> {
        let Some(at) = self.find(place) else {
            return Err(waker);
        };
        let entry = &mut self.entries[at];
        self.armed = self.armed - usize::from(entry.armed) + usize::from(armed);
        entry.armed = armed;
        Ok(std::mem::replace(&mut entry.waker, waker))
    }

    /// Gives up a place. None if it has been served.
    pub(crate) fn leave(&mut self, place: Place) -> Option<Waker> {
        let at = self.find(place)?;
        let entry = self.entries.remove(at)?;
        self.armed -= usize::from(entry.armed);
        Some(entry.waker)
    }

    /// Serves the first in line.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Waker> {
        let entry = self.entries.pop_front()?;
        self.armed -= usize::from(entry.armed);
        Some(entry.waker)
    }

    fn find(&self, place: Place) -> Option<usize> {
        self.entries
            .binary_search_by_key(&place, |entry| entry.place)
            .ok()
    }
}

/// Wakers that were taken out under the lock, to be woken outside of it. One takes no memory.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Wakes {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakes {
    /// Serves up to so many in line.
    #[inline]
    pub(crate) fn take(&mut self, from: &mut WaitList, count: usize) {
        for _ in 0..count {
            let Some(waker) = from.next() else {
                break;
            };
            match self.first {
                None => self.first = Some(waker),
                Some(_) => self.more.push(waker),
            }
        }
    }

    #[inline]
    pub(crate) fn wake(self) {
        let Some(first) = self.first else {
            return;
        };
        first.wake();
        self.more.into_iter().for_each(Waker::wake);
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
        let mut list = WaitList::default();
        let places: Vec<_> = (0..4).map(|n| list.join(waker(), n % 2 == 0)).collect();
        assert_eq!((list.len(), list.armed()), (4, 2));
        assert!(list.leave(places[1]).is_some());
        assert!(list.next().is_some());
        assert!(list.leave(places[0]).is_none(), "it was served");
        assert_eq!((list.len(), list.armed()), (2, 1));
        assert!(list.renew(places[0], waker(), true).is_err());
        assert!(list.renew(places[3], waker(), true).is_ok());
        assert_eq!(list.armed(), 2);
        let mut wakes = Wakes::default();
        wakes.take(&mut list, 9);
        assert_eq!(wakes.more.len(), 1);
        assert!(list.is_empty() && list.armed() == 0);
        wakes.wake();
    }
}
