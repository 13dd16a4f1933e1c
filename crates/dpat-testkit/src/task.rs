//! Futures polled by hand.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// How often [`run_with`] and `drop_at_every_await` poll one future before they call it stuck.
pub(crate) const POLLS_MAX: usize = 100_000;

#[derive(Default)]
struct Flag {
    woken: AtomicBool,
    wakes: AtomicUsize,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.woken.store(true, Ordering::SeqCst);
    }
}

/// A boxed future with a waker that remembers.
///
/// Dropping the task drops the future.
pub struct Task<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
    waker: Waker,
    done: bool,
}

impl<F> fmt::Debug for Task<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("woken", &self.is_woken())
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl<F: Future> Task<F> {
    /// Takes a future that was not polled yet.
    pub fn new(future: F) -> Self {
        let flag = Arc::new(Flag::default());
        Self {
            future: Box::pin(future),
            waker: Waker::from(Arc::clone(&flag)),
            flag,
            done: false,
        }
    }

    /// Polls once and forgets earlier wakes.
    ///
    /// # Panics
    /// If the future has completed before.
    pub fn poll(&mut self) -> Poll<F::Output> {
        assert!(!self.done, "the future has completed before");
        self.flag.woken.store(false, Ordering::SeqCst);
        let polled = self
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        self.done = polled.is_ready();
        polled
    }

    /// Polls once and asserts that the future waits.
    ///
    /// # Panics
    /// If the future completes.
    #[track_caller]
    pub fn assert_pending(&mut self) {
        assert!(self.poll().is_pending(), "the future completed too early");
    }

    /// Polls once and asserts that the future completes.
    ///
    /// # Panics
    /// If the future is still pending.
    #[track_caller]
    pub fn assert_ready(&mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future is still pending"),
        }
    }
}

impl<F> Task<F> {
    /// Says whether the task was woken since the last poll.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.flag.woken.load(Ordering::SeqCst)
    }

    /// Returns how often the task was woken altogether.
    #[must_use]
    pub fn wakes(&self) -> usize {
        self.flag.wakes.load(Ordering::SeqCst)
    }
}

/// Runs a future to its end without a runtime.
///
/// `drive` is called whenever the future waits and nothing has woken it; it lets time pass, and returns whether
/// anything was due (`|| time.advance_to_next_wake()` with dpat-core's `ManualTime`).
///
/// # Panics
/// If the future waits, nothing woke it and `drive` returned false: it would wait for ever. Also after 100 000 polls.
#[track_caller]
pub fn run_with<F: Future>(mut drive: impl FnMut() -> bool, future: F) -> F::Output {
    let mut task = Task::new(future);
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(output) = task.poll() {
            return output;
        }
        if !task.is_woken() {
            let moved = drive();
            assert!(
                moved || task.is_woken(),
                "the future waits, and nothing is due that could wake it"
            );
        }
    }
    panic!("the future was polled {POLLS_MAX} times without an end");
}
