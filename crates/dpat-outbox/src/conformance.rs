//! The laws of an outbox, as tests for any backend.
//!
//! Give a [`Harness`] to [`outbox_laws!`](crate::outbox_laws), and it expands to one `#[test]` a law. Each law is also a
//! function, and [`outbox_laws`] lists them. Nothing waits: time is an argument.
//!
//! The last law is differential: random operations run against the backend and against one pure model, and a difference
//! is shrunk to the fewest operations that still show it.
//!
//! # Examples
//! ```
//! use dpat_core::Wall;
//! use dpat_outbox::conformance::{End, Harness};
//! use dpat_outbox::{AppendError, Appended, Event, Limits, MemoryOutbox};
//!
//! struct InMemory;
//!
//! impl Harness for InMemory {
//!     type Outbox = MemoryOutbox;
//!     fn fresh(&self, limits: Limits) -> MemoryOutbox {
//!         MemoryOutbox::with_limits(limits)
//!     }
//!     fn reopen(&self, outbox: MemoryOutbox) -> MemoryOutbox {
//!         outbox
//!     }
//!     fn in_tx(
//!         &self,
//!         outbox: &MemoryOutbox,
//!         now: Wall,
//!         events: &[Event],
//!         end: End,
//!     ) -> Result<Vec<Appended>, AppendError> {
//!         let mut tx = outbox.begin();
//!         let appended = events.iter().map(|event| tx.append(event, now)).collect();
//!         if end == End::Commit {
//!             tx.commit().expect("nobody else writes");
//!         }
//!         appended
//!     }
//! }
//!
//! dpat_outbox::outbox_laws!(InMemory);
//! # fn main() {}
//! ```

mod kit;
mod order;
mod random;
mod repair;
mod rows;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use dpat_core::Wall;

pub use order::{
    a_failed_event_holds_its_key, a_parked_event_blocks_or_is_set_aside,
    a_transaction_that_commits_late_is_not_passed_over, events_without_a_key_do_not_wait,
    order_is_kept_within_a_key,
};
pub use random::{Op, random_operations_match_the_model};
pub use repair::{
    lag_counts_what_waits, parked_events_are_listed_and_repaired,
    purging_removes_what_was_sent_long_ago, replays_send_again_what_was_sent,
};
pub use rows::{
    a_claim_holds_until_its_lease_ends, a_double_append_is_none, a_full_backlog_refuses_appends,
    an_event_comes_back_as_it_was_appended, claims_are_bounded, everything_survives_reopening,
    released_events_are_free_at_once, settled_events_are_settled_once, waiting_ends_with_an_append,
    what_is_not_committed_is_not_claimed,
};

use crate::error::{AppendError, StoreError};
use crate::event::{Event, EventError};
use crate::store::{Appended, Limits, Store};

/// How a transaction of a [`Harness`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is committed.
    Commit,
    /// It is rolled back.
    Rollback,
    /// The process dies before the commit.
    Crash,
}

/// What the laws need of the outbox under test.
pub trait Harness {
    /// The outbox under test.
    type Outbox: Store;

    /// Makes an empty outbox that shares nothing with earlier ones.
    fn fresh(&self, limits: Limits) -> Self::Outbox;

    /// Closes an outbox and opens it again, as a restarted process would.
    fn reopen(&self, outbox: Self::Outbox) -> Self::Outbox;

    /// Appends events in one transaction, and ends it so. An error rolls it back.
    ///
    /// # Errors
    /// The first error of an append.
    fn in_tx(
        &self,
        outbox: &Self::Outbox,
        now: Wall,
        events: &[Event],
        end: End,
    ) -> Result<Vec<Appended>, AppendError>;

    /// Overlaps two transactions: one appends `early`, another appends `late` and commits, `between` is called, and the
    /// first commits. Returns false if the backend has one writer at a time, so that nothing can overlap.
    fn overlap(
        &self,
        outbox: &Self::Outbox,
        now: Wall,
        early: &Event,
        late: &Event,
        between: &mut dyn FnMut(),
    ) -> bool {
        let _ = (outbox, now, early, late, between);
        false
    }

    /// Says whether [`Store::wait`] hears of appends, or leaves it to the clock.
    fn hears_appends(&self) -> bool {
        true
    }

    /// Runs a future to its end. A backend that needs a runtime runs it there.
    ///
    /// # Panics
    /// As it stands: if the future is not ready after many polls.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        const POLLS_MAX: usize = 1_000_000;
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..POLLS_MAX {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
        }
        panic!("the future is not ready after {POLLS_MAX} polls: override `Harness::run`");
    }
}

/// How a backend breaks a law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// Describes a violation.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

macro_rules! unexpected {
    ($($error:ty),*) => {$(
        impl From<$error> for Violation {
            fn from(error: $error) -> Self {
                Self(format!("unexpected error: {error}"))
            }
        }
    )*};
}

unexpected!(StoreError, AppendError, EventError);

/// A law and its name.
pub type Law<H> = (&'static str, fn(&H) -> Result<(), Violation>);

/// Fails the law unless the two are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $what:expr) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err($crate::conformance::Violation::new(format!(
                "{}: {:?} instead of {:?}",
                $what, left, right
            )));
        }
    }};
}
use ensure_eq;

/// Declares the list of laws and the macro that makes a test of each.
macro_rules! law_list {
    ($d:tt $($law:ident),+ $(,)?) => {
        /// Returns the laws of an outbox.
        #[must_use]
        pub fn outbox_laws<H: Harness>() -> Vec<Law<H>> {
            vec![$((stringify!($law), $law::<H>)),+]
        }

        /// Expands to one `#[test]` for each law of an outbox, run on the given [`Harness`](crate::conformance::Harness).
        #[macro_export]
        macro_rules! outbox_laws {
            ($d harness:expr) => {
                $(
                    #[test]
                    fn $law() {
                        if let Err(violation) = $crate::conformance::$law(&$d harness) {
                            panic!("{violation}");
                        }
                    }
                )+
            };
        }
    };
}

law_list!(
    $
    an_event_comes_back_as_it_was_appended,
    what_is_not_committed_is_not_claimed,
    a_claim_holds_until_its_lease_ends,
    settled_events_are_settled_once,
    released_events_are_free_at_once,
    claims_are_bounded,
    a_double_append_is_none,
    a_full_backlog_refuses_appends,
    waiting_ends_with_an_append,
    everything_survives_reopening,
    order_is_kept_within_a_key,
    a_failed_event_holds_its_key,
    events_without_a_key_do_not_wait,
    a_parked_event_blocks_or_is_set_aside,
    a_transaction_that_commits_late_is_not_passed_over,
    parked_events_are_listed_and_repaired,
    replays_send_again_what_was_sent,
    purging_removes_what_was_sent_long_ago,
    lag_counts_what_waits,
    random_operations_match_the_model,
);
