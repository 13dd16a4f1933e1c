//! The armed timers of a node.

use dpat_core::Instant;

use super::queue::Key;

/// What is known about one timer of a node.
///
/// A timer that is armed again and again, to ever later times, has one entry in the queue: when that comes up, it is
/// put back to the time that is then right, with the number of the arming. So timers equal in time fire in the order in
/// which they were armed, and armings leave nothing behind.
#[derive(Debug)]
struct State<T> {
    key: T,
    /// When it is due by the node's clock.
    local: Instant,
    /// None while it is not armed.
    due: Option<Key>,
    /// The entry in the queue; none if the timer is due at the end of time.
    queued: Option<Key>,
}

/// The timers of one life of a node, sorted by their keys.
#[derive(Debug)]
pub(super) struct Timers<T> {
    states: Vec<State<T>>,
}

/// What to do with an entry that came up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CameUp {
    /// The timer fires.
    Fire,
    /// The timer is due later: queue it for then.
    Later(Key),
    /// The entry is of a timer that is gone.
    Stale,
}

/// What to do after an arming: queue an entry, unless an earlier one is there already.
pub(super) type Queued = Option<Key>;

impl<T: Copy + Ord> Timers<T> {
    pub(super) const fn new() -> Self {
        Self { states: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.states.clear();
    }

    /// Arms a timer. `due` has the number of the arming.
    #[must_use]
    pub(super) fn arm(&mut self, key: T, local: Instant, due: Key) -> Queued {
        match self.find(key) {
            Ok(index) => {
                let state = &mut self.states[index];
                state.local = local;
                state.set(due)
            }
            Err(index) => {
                let mut state = State {
                    key,
                    local,
                    due: None,
                    queued: None,
                };
                let queued = state.set(due);
                self.states.insert(index, state);
                queued
            }
        }
    }

    pub(super) fn disarm(&mut self, key: T) {
        if let Ok(index) = self.find(key) {
            let state = &mut self.states[index];
            state.due = None;
            if state.queued.is_none() {
                self.states.remove(index);
            }
        }
    }

    /// Decides about the entry `key` in the queue.
    #[must_use]
    pub(super) fn came_up(&mut self, timer: T, key: Key) -> CameUp {
        let Ok(index) = self.find(timer) else {
            return CameUp::Stale;
        };
        let state = &mut self.states[index];
        if state.queued != Some(key) {
            return CameUp::Stale;
        }
        match state.due {
            None => {
                self.states.remove(index);
                CameUp::Stale
            }
            Some(due) if due == key => {
                self.states.remove(index);
                CameUp::Fire
            }
            Some(due) => {
                state.queued = due.if_ever();
                state.queued.map_or(CameUp::Stale, CameUp::Later)
            }
        }
    }

    /// Moves every armed timer to the time that the changed clock of the node gives; calls `queue` for new entries.
    pub(super) fn move_all(
        &mut self,
        true_time_of: impl Fn(Instant) -> u64,
        mut queue: impl FnMut(T, Key),
    ) {
        for state in &mut self.states {
            let Some(due) = state.due else { continue };
            let at_ns = true_time_of(state.local);
            if let Some(key) = state.set(Key { at_ns, ..due }) {
                queue(state.key, key);
            }
        }
    }

    fn find(&self, key: T) -> Result<usize, usize> {
        self.states.binary_search_by(|state| state.key.cmp(&key))
    }
}

impl<T> State<T> {
    fn set(&mut self, due: Key) -> Queued {
        self.due = Some(due);
        if self.queued.is_some_and(|queued| queued <= due) {
            return None;
        }
        let queued = due.if_ever()?;
        self.queued = Some(queued);
        Some(queued)
    }
}

impl Key {
    /// Nothing is queued for the end of time.
    fn if_ever(self) -> Option<Self> {
        (self.at_ns != u64::MAX).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::MIN;

    fn key(at_ns: u64, seq: u64) -> Key {
        Key { at_ns, seq }
    }

    #[test]
    fn an_arming_to_a_later_time_waits_for_the_entry_that_is_there() {
        let mut timers = Timers::new();
        assert_eq!(timers.arm('a', NOW, key(10, 1)), Some(key(10, 1)));
        assert_eq!(timers.arm('a', NOW, key(20, 2)), None);
        assert_eq!(timers.arm('a', NOW, key(30, 3)), None);
        assert_eq!(timers.came_up('a', key(10, 1)), CameUp::Later(key(30, 3)));
        assert_eq!(timers.came_up('a', key(30, 3)), CameUp::Fire);
        assert_eq!(timers.came_up('a', key(30, 3)), CameUp::Stale);
    }

    #[test]
    fn an_arming_to_an_earlier_time_has_an_entry_of_its_own() {
        let mut timers = Timers::new();
        assert!(timers.arm('a', NOW, key(30, 1)).is_some());
        assert_eq!(timers.arm('a', NOW, key(20, 2)), Some(key(20, 2)));
        assert_eq!(timers.came_up('a', key(20, 2)), CameUp::Fire);
        assert_eq!(timers.came_up('a', key(30, 1)), CameUp::Stale);
    }

    #[test]
    fn arming_and_disarming_leaves_one_entry() {
        let mut timers = Timers::new();
        assert!(timers.arm('a', NOW, key(10, 1)).is_some());
        for seq in 2..9 {
            timers.disarm('a');
            assert_eq!(timers.arm('a', NOW, key(10 + seq, seq)), None);
        }
        timers.disarm('a');
        timers.disarm('b');
        assert_eq!(timers.came_up('a', key(10, 1)), CameUp::Stale);
        assert!(timers.states.is_empty());
    }

    #[test]
    fn what_is_never_due_is_not_queued() {
        let mut timers = Timers::new();
        assert_eq!(timers.arm('a', NOW, key(u64::MAX, 1)), None);
        timers.disarm('a');
        assert!(timers.states.is_empty());
        assert!(timers.arm('b', NOW, key(10, 2)).is_some());
        assert_eq!(timers.arm('b', NOW, key(u64::MAX, 3)), None);
        assert_eq!(timers.came_up('b', key(10, 2)), CameUp::Stale);
        // The clock runs again.
        let mut queued = Vec::new();
        timers.move_all(|_| 50, |timer, key| queued.push((timer, key)));
        assert_eq!(queued, [('b', key(50, 3))]);
        assert_eq!(timers.came_up('b', key(50, 3)), CameUp::Fire);
    }
}
