//! The only place that names a lock, or puts a thread to sleep.

#![allow(clippy::disallowed_types)] // the one place where locks may be named

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::thread::{Thread, current, park};

/// A lock under which nothing panics, so that it is never poisoned with half a change.
#[derive(Debug)]
pub(crate) struct Lock<T>(Mutex<T>);

pub(crate) type Guard<'a, T> = MutexGuard<'a, T>;

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that waits, as a waker.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: who wakes up sees what was done before.
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls on this thread, which sleeps in between, until there is an answer.
pub(crate) fn wait<T>(mut poll: impl FnMut(&Waker) -> Poll<T>) -> T {
    // Nothing is made for an answer that is there at once. A wake that is lost here is seen by the next poll.
    if let Poll::Ready(answer) = poll(Waker::noop()) {
        return answer;
    }
    let parked = Arc::new(Parked {
        thread: current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parked));
    loop {
        if let Poll::Ready(answer) = poll(&waker) {
            return answer;
        }
        while !parked.woken.swap(false, Ordering::Acquire) {
            park();
        }
    }
}
