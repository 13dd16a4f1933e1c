//! A change that can be waited for, without a runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

/// How many changes there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Counts changes and wakes whoever waits for one. For backends of an outbox.
///
/// Take a [`ticket`](Self::ticket) before looking; [`changed`](Self::changed) then misses nothing that happened since.
///
/// # Examples
/// ```
/// use dpat_outbox::Signal;
///
/// # async fn example() {
/// let signal = Signal::new();
/// let seen = signal.ticket();
/// // … look, and find nothing; meanwhile somebody calls …
/// signal.notify();
/// signal.changed(seen).await; // at once
/// # }
/// ```
pub struct Signal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    changes: u64,
    last_id: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

impl Signal {
    /// Starts without a change.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
        }
    }

    /// Returns how many changes there were.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket(self.state.with(|state| state.changes))
    }

    /// Counts a change and wakes everybody.
    pub fn notify(&self) {
        let waiting = self.state.with(|state| {
            state.changes += 1;
            std::mem::take(&mut state.waiting)
        });
        // Outside the lock: a waker may run anything.
        waiting.into_values().for_each(Waker::wake);
    }

    /// Completes once there was a change since `seen`.
    ///
    /// # Cancel safety
    /// Dropping it forgets the waiter.
    pub fn changed(&self, seen: Ticket) -> Changed<'_> {
        Changed {
            signal: self,
            seen,
            id: None,
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (changes, waiting) = self
            .state
            .with(|state| (state.changes, state.waiting.len()));
        f.debug_struct("Signal")
            .field("changes", &changes)
            .field("waiting", &waiting)
            .finish()
    }
}

/// The future of [`Signal::changed`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Changed<'s> {
    signal: &'s Signal,
    seen: Ticket,
    id: Option<u64>,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (seen, id) = (self.seen, self.id);
        let registered = self.signal.state.with(|state| {
            if state.changes > seen.0 {
                if let Some(id) = id {
                    state.waiting.remove(&id);
                }
                return None;
            }
            let id = id.unwrap_or_else(|| {
                state.last_id += 1;
                state.last_id
            });
            state.waiting.insert(id, cx.waker().clone());
            Some(id)
        });
        self.id = registered;
        match registered {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            drop(self.signal.state.with(|state| state.waiting.remove(&id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;
    use std::thread;

    use super::*;

    const ROUNDS: usize = 200;

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn a_change_from_another_thread_ends_the_wait() {
        for _ in 0..ROUNDS {
            let signal = Signal::new();
            let seen = signal.ticket();
            thread::scope(|scope| {
                scope.spawn(|| signal.notify());
                block_on(signal.changed(seen));
            });
            assert!(signal.ticket() > seen);
        }
    }

    #[test]
    fn a_waiter_that_another_thread_drops_is_forgotten() {
        for _ in 0..ROUNDS {
            let signal = Signal::new();
            let seen = signal.ticket();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut changed = Box::pin(signal.changed(seen));
                    let _ = changed
                        .as_mut()
                        .poll(&mut Context::from_waker(Waker::noop()));
                });
                signal.notify();
            });
            assert_eq!(signal.state.with(|state| state.waiting.len()), 0);
        }
    }
}
