//! Virtual time without a runtime, and errors that say what they are.

use dpat_core::{Class, Classify, Clock, Effect, ManualTime};
use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time jump to the next sleeper.
pub(crate) fn advance(time: &ManualTime) -> bool {
    let next = time.next_wake();
    next.into_iter().for_each(|at| time.advance_to(at));
    next.is_some()
}

/// Runs a future to its end, time jumping from sleeper to sleeper.
#[track_caller]
pub(crate) fn run<F: Future>(time: &ManualTime, future: F) -> F::Output {
    dpat_testkit::run_with(|| advance(time), future)
}

/// When things happened, since the log was made.
pub(crate) struct Log {
    time: ManualTime,
    start: dpat_core::Instant,
    at: RefCell<Vec<Duration>>,
}

impl Log {
    pub(crate) fn new(time: &ManualTime) -> Self {
        Self {
            time: time.clone(),
            start: time.now(),
            at: RefCell::default(),
        }
    }

    /// Notes the time and returns how often that has been done.
    pub(crate) fn note(&self) -> usize {
        let mut at = self.at.borrow_mut();
        at.push(self.time.now().since(self.start));
        at.len()
    }

    pub(crate) fn at(&self) -> Vec<Duration> {
        self.at.borrow().clone()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.time.now().since(self.start)
    }
}

/// An error of a remote call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    pub(crate) effect: Effect,
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) const fn new(class: Class, effect: Effect) -> Self {
        Self {
            class,
            effect,
            retry_after: None,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.class)
    }
}

impl std::error::Error for Fault {}

impl Classify for Fault {
    fn class(&self) -> Class {
        self.class
    }
    fn effect(&self) -> Effect {
        self.effect
    }
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
