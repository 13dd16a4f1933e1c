//! Virtual time.

use super::{Clock, Instant, Sleep, Wall};
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A clock that stands still until it is told to advance.
///
/// Clones share the same time. Advancing wakes the sleepers that are due, in order of their time and then of their
/// first poll. [`advance`](Self::advance) over several sleepers shows all of them the final time; to stop at each,
/// call [`advance_to_next_wake`](Self::advance_to_next_wake).
///
/// # Examples
/// ```
/// use dpat_core::{Clock, ManualTime, Sleep};
/// use std::time::Duration;
///
/// let time = ManualTime::new();
/// let start = time.now();
/// let sleep = time.sleep(Duration::from_secs(60));
/// time.advance(Duration::from_secs(60));
/// assert_eq!(time.now().since(start), Duration::from_secs(60));
/// # drop(sleep);
/// ```
#[derive(Clone, Debug)]
pub struct ManualTime {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now: Instant,
    wall: Wall,
    next_id: u64,
    sleepers: BTreeMap<(Instant, u64), Waker>,
}

impl Default for ManualTime {
    fn default() -> Self {
        Self::new()
    }
}

impl ManualTime {
    /// Starts one hour after the origin, on 2020-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                now: Instant::from_nanos(3_600_000_000_000),
                wall: Wall::from_nanos(1_577_836_800_000_000_000),
                next_id: 0,
                sleepers: BTreeMap::new(),
            })),
        }
    }

    /// Moves both clocks forward and wakes whoever is due.
    pub fn advance(&self, duration: Duration) {
        let target = self.state.with(|state| state.now + duration);
        self.advance_to(target);
    }

    /// Moves both clocks to `target`, if it is later than now, and wakes whoever is due.
    pub fn advance_to(&self, target: Instant) {
        let due = self.state.with(|state| {
            let step = target.since(state.now);
            state.now = state.now + step;
            state.wall = state.wall + step;
            let mut due = Vec::new();
            while let Some(first) = state.sleepers.first_entry() {
                if first.key().0 > state.now {
                    break;
                }
                due.push(first.remove());
            }
            due
        });
        // Outside the lock: a waker may run anything.
        due.into_iter().for_each(Waker::wake);
    }

    /// Moves to the earliest sleeper and wakes it; false if nobody sleeps.
    #[allow(clippy::must_use_candidate)] // also called for its effect
    pub fn advance_to_next_wake(&self) -> bool {
        let Some(next) = self.next_wake() else {
            return false;
        };
        self.advance_to(next);
        true
    }

    /// Sets the wall clock alone, also backwards.
    pub fn set_wall(&self, wall: Wall) {
        self.state.with(|state| state.wall = wall);
    }

    /// Returns the time of the earliest sleeper.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.state
            .with(|state| state.sleepers.keys().next().map(|(at, _)| *at))
    }

    /// Returns how many sleepers wait.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.state.with(|state| state.sleepers.len())
    }
}

impl Clock for ManualTime {
    fn now(&self) -> Instant {
        self.state.with(|state| state.now)
    }
    fn wall(&self) -> Wall {
        self.state.with(|state| state.wall)
    }
}

impl Sleep for ManualTime {
    type Sleeping = ManualSleep;
    fn sleep_until(&self, at: Instant) -> ManualSleep {
        ManualSleep {
            time: self.clone(),
            at,
            id: None,
        }
    }
}

/// The future of a [`ManualTime`] sleep.
///
/// It takes its place in line at its first poll. Dropping it gives the place up.
#[derive(Debug)]
pub struct ManualSleep {
    time: ManualTime,
    at: Instant,
    id: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let this = &mut *self;
        // The replaced waker is dropped outside the lock: its destructor may drop other sleeps.
        let (polled, _replaced) = this.time.state.with(|state| {
            if state.now >= this.at {
                let place = this.id.take().map(|id| (this.at, id));
                let own = place.and_then(|place| state.sleepers.remove(&place));
                return (Poll::Ready(()), own);
            }
            let id = *this.id.get_or_insert_with(|| {
                state.next_id += 1;
                state.next_id
            });
            (Poll::Pending, state.sleepers.insert((this.at, id), waker))
        });
        polled
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let place = (self.at, id);
            // Bound, so that the waker is dropped outside the lock.
            let _waker = self.time.state.with(|state| state.sleepers.remove(&place));
        }
    }
}
