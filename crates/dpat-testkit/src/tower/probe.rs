//! The inner service of the contract suite.

use crate::sync::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tower_service::Service;

/// What the probe does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answers with the request.
    Ok,
    /// Waits for one wake, then answers with the request.
    Later,
    /// Fails.
    Fail,
    /// Never answers.
    Hang,
    /// Panics when its future is polled.
    Panic,
    /// Panics in `call`.
    PanicInCall,
}

/// A service that keeps an account of how it is used.
///
/// It has a number of permits. `poll_ready` reserves one for this instance, `call` moves it into the future, and the
/// future gives it back when it completes or is dropped. A clone starts without a reservation.
pub struct Probe<E> {
    shared: Arc<Shared<E>>,
    reserved: Option<Permit<E>>,
}

struct Shared<E> {
    state: Mutex<State>,
    error: Box<dyn Fn() -> E + Send + Sync>,
}

struct State {
    script: VecDeque<Outcome>,
    permits: usize,
    held: usize,
    refuse: bool,
    calls: usize,
    violations: Vec<&'static str>,
    waiting: Vec<Waker>,
}

struct Permit<E>(Arc<Shared<E>>);

impl<E> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl<E> Drop for Permit<E> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.lock();
            state.held -= 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<E> fmt::Debug for Probe<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("reserved", &self.reserved.is_some())
            .finish_non_exhaustive()
    }
}

impl<E> Clone for Probe<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            reserved: None,
        }
    }
}

impl<E> Probe<E> {
    /// Makes a probe with `permits` permits that answers every request; `error` makes the errors of
    /// [`Outcome::Fail`].
    pub fn new(permits: usize, error: impl Fn() -> E + Send + Sync + 'static) -> Self {
        let state = State {
            script: VecDeque::new(),
            permits,
            held: 0,
            refuse: false,
            calls: 0,
            violations: Vec::new(),
            waiting: Vec::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                error: Box::new(error),
            }),
            reserved: None,
        }
    }

    /// Appends outcomes for the next calls; after them every call is [`Outcome::Ok`].
    pub fn script(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.shared.lock().script.extend(outcomes);
    }

    /// Forgets the outcomes that were not used.
    pub fn clear_script(&self) {
        self.shared.lock().script.clear();
    }

    /// Makes `poll_ready` fail, or no longer.
    pub fn refuse(&self, refuse: bool) {
        self.shared.lock().refuse = refuse;
    }

    /// Changes the number of permits and wakes who waits for one.
    pub fn set_permits(&self, permits: usize) {
        let waiting = {
            let mut state = self.shared.lock();
            state.permits = permits;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Returns how many permits are reserved or in use.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.lock().held
    }

    /// Returns how often `call` was called.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.lock().calls
    }

    /// Returns the rules that the middleware broke so far.
    #[must_use]
    pub fn violations(&self) -> Vec<&'static str> {
        self.shared.lock().violations.clone()
    }
}

impl<E> Service<u64> for Probe<E> {
    type Response = u64;
    type Error = E;
    type Future = ProbeFuture<E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        if self.reserved.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.shared.lock();
        if state.refuse {
            drop(state);
            return Poll::Ready(Err((self.shared.error)()));
        }
        if state.held >= state.permits {
            state.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        state.held += 1;
        drop(state);
        self.reserved = Some(Permit(Arc::clone(&self.shared)));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> ProbeFuture<E> {
        let permit = self.reserved.take();
        let outcome = {
            let mut state = self.shared.lock();
            state.calls += 1;
            if permit.is_none() {
                state
                    .violations
                    .push("call on an instance whose poll_ready had not returned Ready");
            }
            state.script.pop_front().unwrap_or(Outcome::Ok)
        };
        assert!(
            outcome != Outcome::PanicInCall,
            "the probe panics in call, as its script says"
        );
        ProbeFuture {
            shared: Arc::clone(&self.shared),
            permit,
            outcome,
            request,
            done: false,
        }
    }
}

/// The future of a [`Probe`].
pub struct ProbeFuture<E> {
    shared: Arc<Shared<E>>,
    permit: Option<Permit<E>>,
    outcome: Outcome,
    request: u64,
    done: bool,
}

impl<E> fmt::Debug for ProbeFuture<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeFuture")
            .field("outcome", &self.outcome)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl<E> Future for ProbeFuture<E> {
    type Output = Result<u64, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.done {
            let mut state = self.shared.lock();
            state.violations.push("future polled after it completed");
            return Poll::Pending;
        }
        let result = match self.outcome {
            Outcome::Ok => Ok(self.request),
            Outcome::Fail => Err((self.shared.error)()),
            Outcome::Later => {
                self.outcome = Outcome::Ok;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Outcome::Hang => return Poll::Pending,
            Outcome::Panic | Outcome::PanicInCall => {
                panic!("the probe panics, as its script says")
            }
        };
        self.done = true;
        self.permit = None;
        Poll::Ready(result)
    }
}
