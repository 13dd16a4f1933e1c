//! Futures dropped at every await.

use crate::task::{POLLS_MAX, Task};
use std::future::Future;
use std::task::Poll;

/// How one run of [`drop_at_every_await`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<T> {
    /// The future was dropped after `polls` polls (0: before the first).
    Dropped {
        /// How often it had been polled.
        polls: usize,
        /// Whether `drive` ran between the last poll and the drop.
        ///
        /// The future may then have been given something that it never saw.
        driven: bool,
    },
    /// The future completed.
    Completed(T),
}

impl<T> End<T> {
    /// Says whether the future was dropped.
    pub const fn is_dropped(&self) -> bool {
        matches!(self, Self::Dropped { .. })
    }
}

/// Drops a future at each of its await points in turn.
///
/// For k = 0, 1, 2 … a new future is made and polled k times, then dropped: once right after the poll, and once more
/// after `drive`, between the wake and the poll that would have seen it (the place where permits handed over to a
/// waiter get lost). It ends with the first run in which the future completes. `check` is told how each run ended
/// and gets the state that `make` returned. Returns the number of pending polls of the complete run.
///
/// `drive` is called after each pending poll, and lets something happen: time pass, a peer answer. A future that
/// goes on by itself needs none: `|_| ()`.
///
/// # Panics
/// After 100 000 polls without an end, and wherever `check` panics.
///
/// # Examples
/// ```
/// use dpat_testkit::{End, drop_at_every_await};
/// use std::{cell::Cell, rc::Rc};
///
/// struct Permit(Rc<Cell<i32>>);
/// impl Drop for Permit {
///     fn drop(&mut self) {
///         self.0.set(self.0.get() - 1);
///     }
/// }
/// async fn yield_once() {
///     let mut first = true;
///     std::future::poll_fn(|_| {
///         if std::mem::take(&mut first) { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
///     })
///     .await;
/// }
///
/// let awaits = drop_at_every_await(
///     || {
///         let held = Rc::new(Cell::new(0));
///         let counter = Rc::clone(&held);
///         let future = async move {
///             counter.set(counter.get() + 1);
///             let _permit = Permit(counter);
///             yield_once().await;
///             yield_once().await;
///         };
///         (future, held)
///     },
///     |_| (),
///     |held, _end| assert_eq!(held.get(), 0, "the permit is given back"),
/// );
/// assert_eq!(awaits, 2);
/// ```
#[track_caller]
pub fn drop_at_every_await<F: Future, S>(
    mut make: impl FnMut() -> (F, S),
    mut drive: impl FnMut(&mut S),
    mut check: impl FnMut(S, End<F::Output>),
) -> usize {
    for polls in 0..POLLS_MAX {
        for driven in [false, true] {
            if polls == 0 && driven {
                continue;
            }
            let (future, mut state) = make();
            let mut task = Task::new(future);
            if let Some((output, pending)) = poll_times(&mut task, polls, &mut state, &mut drive) {
                drop(task);
                check(state, End::Completed(output));
                return pending;
            }
            if driven {
                drive(&mut state);
            }
            drop(task);
            check(state, End::Dropped { polls, driven });
        }
    }
    panic!("the future was polled {POLLS_MAX} times without an end");
}

/// Polls `polls` times with `drive` in between. `Some((output, pending polls))` if the future completed.
fn poll_times<F: Future, S>(
    task: &mut Task<F>,
    polls: usize,
    state: &mut S,
    drive: &mut impl FnMut(&mut S),
) -> Option<(F::Output, usize)> {
    for poll in 0..polls {
        if poll > 0 {
            drive(state);
        }
        if let Poll::Ready(output) = task.poll() {
            return Some((output, poll));
        }
    }
    None
}
