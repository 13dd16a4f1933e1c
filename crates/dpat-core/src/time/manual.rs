//! Virtual time.

use super::{Clock, Instant, Sleep, Wall};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
#[allow(clippy::disallowed_types)]
// test time only; never on a hot path, never held across a wake
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A clock that stands still until it is told to advance.
///
/// Clones share the same time. [`ManualTime::advance`] wakes the sleepers that are due, in order of their time and
/// then of their arrival.
#[derive(Clone, Debug)]
pub struct ManualTime {
    #[allow(clippy::disallowed_types)]
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
    #[allow(clippy::disallowed_types)]
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

    #[allow(clippy::disallowed_types)]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves both clocks forward and wakes whoever is due.
    pub fn advance(&self, duration: Duration) {
        let target = self.lock().now + duration;
        self.advance_to(target);
    }

    /// Moves both clocks to `target`, if it is later than now, and wakes whoever is due.
    pub fn advance_to(&self, target: Instant) {
        let due = {
            let mut state = self.lock();
            let step = target.since(state.now);
            state.now = state.now + step;
            state.wall = state.wall + step;
            let after = (state.now + Duration::from_nanos(1), 0);
            let later = state.sleepers.split_off(&after);
            std::mem::replace(&mut state.sleepers, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// Moves to the earliest sleeper and wakes it; false if nobody sleeps.
    pub fn advance_to_next_wake(&self) -> bool {
        let Some(next) = self.next_wake() else {
            return false;
        };
        self.advance_to(next);
        true
    }

    /// Sets the wall clock alone, also backwards.
    pub fn set_wall(&self, wall: Wall) {
        self.lock().wall = wall;
    }

    /// Returns the time of the earliest sleeper.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.lock().sleepers.keys().next().map(|(at, _)| *at)
    }

    /// Returns how many sleepers wait.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }
}

impl Clock for ManualTime {
    fn now(&self) -> Instant {
        self.lock().now
    }
    fn wall(&self) -> Wall {
        self.lock().wall
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
#[derive(Debug)]
pub struct ManualSleep {
    time: ManualTime,
    at: Instant,
    id: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let time = self.time.clone();
        let mut state = time.lock();
        if state.now >= self.at {
            if let Some(id) = self.id.take() {
                state.sleepers.remove(&(self.at, id));
            }
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            state.next_id += 1;
            state.next_id
        });
        state.sleepers.insert((self.at, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.time.lock().sleepers.remove(&(self.at, id));
        }
    }
}
