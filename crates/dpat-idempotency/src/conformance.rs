//! The laws of stores and inboxes, as tests for any implementation.
//!
//! Give a [`Harness`] that makes fresh stores to [`store_laws!`](crate::store_laws) and
//! [`response_laws!`](crate::response_laws), and an [`InboxHarness`] to [`inbox_laws!`](crate::inbox_laws): each expands to
//! one `#[test]` a law. Each law is also a function, and [`store_laws`], [`response_laws`] and [`inbox_laws`] list them.
//! Nothing waits: time is an argument, or a clock that the laws move themselves.
//!
//! # Examples
//! ```
//! use dpat_idempotency::MemoryStore;
//! use dpat_idempotency::conformance::Harness;
//!
//! struct InMemory;
//!
//! impl Harness for InMemory {
//!     type Store = MemoryStore;
//!     fn fresh(&self) -> MemoryStore {
//!         MemoryStore::new()
//!     }
//!     fn reopen(&self, store: MemoryStore) -> MemoryStore {
//!         store
//!     }
//! }
//!
//! dpat_idempotency::store_laws!(InMemory);
//! # fn main() {}
//! ```

mod inboxes;
mod placed;
mod random;
mod responses;
mod stores;
mod written;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dpat_core::Wall;

pub use inboxes::{
    a_cancelled_message_does_nothing, a_cancelled_message_is_undone_once, a_crash_leaves_nothing,
    a_failed_effect_leaves_nothing, a_message_takes_effect_once, a_rollback_leaves_nothing,
    another_message_under_the_key_is_refused, markers_are_kept_apart,
    markers_survive_what_was_committed, old_markers_are_forgotten,
    random_transactions_match_the_model, within_a_transaction_markers_are_seen,
};
pub use placed::{Placed, a_full_store_refuses_new_keys};
pub use random::Op;
pub use responses::{
    a_claim_is_extended, a_late_answer_ends_the_doubt, a_lease_that_ends_leaves_doubt,
    a_released_key_is_free, a_repetition_is_answered_as_the_first,
    another_request_under_the_key_is_refused, claims_survive_reopening, doubt_can_be_retaken,
    doubt_is_listed_and_resolved, expired_responses_are_forgotten, one_of_many_acts,
    while_one_acts_others_are_told_to_wait,
};
pub use stores::{
    a_removed_row_is_gone, a_row_is_put_where_there_is_none, a_version_is_swapped_once,
    an_insert_tells_what_is_there, large_rows_come_back_whole,
    one_of_many_inserts_wins_and_is_found, one_of_many_swaps_wins,
    purging_takes_what_may_be_forgotten, random_swaps_match_the_model, rows_are_kept_apart,
    rows_survive_reopening, scans_go_in_order_and_pages, versions_never_come_back,
};
pub use written::Written;

use crate::error::{BeginError, FinishError, ResolveError, StoreError};
use crate::fingerprint::Fingerprint;
use crate::key::{Key, KeyError};
use crate::store::Store;

/// What the laws need of the store under test.
pub trait Harness {
    /// The store under test; clones share the rows.
    type Store: Store + Clone + 'static;

    /// Makes an empty store that shares nothing with earlier ones.
    fn fresh(&self) -> Self::Store;

    /// Closes a store and opens it again, as a restarted process would.
    fn reopen(&self, store: Self::Store) -> Self::Store;

    /// Returns the largest row that the laws may put, in bytes; a mebibyte unless the store takes less.
    fn row_bytes_max(&self) -> usize {
        1 << 20
    }

    /// Runs a future to its end. A store that needs a runtime runs it there.
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

/// How a transaction of an [`InboxHarness`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is committed.
    Commit,
    /// It is rolled back.
    Rollback,
    /// The process dies before the commit.
    Crash,
}

/// One step within a transaction of an [`InboxHarness`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A message comes. Its effect adds one to the key's counter and answers with `outcome`.
    Accept {
        /// The message.
        key: Key,
        /// What it says.
        fingerprint: Fingerprint,
        /// What the effect answers; none: it adds one, then fails.
        outcome: Option<Bytes>,
    },
    /// A cancellation comes. Undoing takes one from the key's counter.
    Cancel {
        /// The message that is cancelled.
        key: Key,
    },
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The message took effect.
    First(Bytes),
    /// It did before.
    Again(Bytes),
    /// It was cancelled before.
    Cancelled,
    /// The key stands for another message. Ends the transaction by rolling it back.
    Reused,
    /// The effect failed. Ends the transaction by rolling it back.
    Failed,
    /// The cancellation undid an effect with this outcome.
    Undone(Bytes),
    /// The cancellation came first.
    NothingToUndo,
    /// The cancellation came before.
    AlreadyCancelled,
}

/// What the laws need of an inbox within a database.
pub trait InboxHarness {
    /// The database under test.
    type Db;

    /// Makes an empty database that shares nothing with earlier ones.
    fn fresh(&self) -> Self::Db;

    /// Closes a database and opens it again, as a restarted process would.
    fn reopen(&self, db: Self::Db) -> Self::Db;

    /// Does the steps in one transaction at the time `now`, and ends it so.
    ///
    /// Stops after a step that was [`Told::Reused`] or [`Told::Failed`], and rolls back.
    ///
    /// # Errors
    /// Any other failure, in words.
    fn in_tx(
        &self,
        db: &mut Self::Db,
        now: Wall,
        steps: &[Step],
        end: End,
    ) -> Result<Vec<Told>, String>;

    /// Reads the committed counter of a key.
    ///
    /// # Errors
    /// Any failure, in words.
    fn effects(&self, db: &Self::Db, key: &Key) -> Result<i64, String>;

    /// Forgets up to `max` markers that were written before `before`.
    ///
    /// # Errors
    /// Any failure, in words.
    fn sweep(&self, db: &Self::Db, before: Wall, max: usize) -> Result<usize, String>;
}

/// How an implementation breaks a law.
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

unexpected!(
    StoreError,
    BeginError,
    FinishError,
    ResolveError,
    KeyError,
    String
);

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

fn key(id: &str) -> Key {
    Key::new("laws", id).expect("short")
}

/// Runs futures together, polled in turns, and returns their outputs in order.
async fn together<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<Pin<Box<_>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(move |cx| {
        for (future, done) in running.iter_mut().zip(&mut done) {
            if done.is_none() {
                *done = match future.as_mut().poll(cx) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                };
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(done.iter_mut().filter_map(Option::take).collect()),
            false => Poll::Pending,
        }
    })
    .await
}

/// Declares the list of laws and the macro that makes a test of each.
macro_rules! law_list {
    ($d:tt $(#[$list_doc:meta])* $list:ident, $(#[$macro_doc:meta])* $bound:ident, $($law:ident),+ $(,)?) => {
        $(#[$list_doc])*
        #[must_use]
        pub fn $list<H: $bound>() -> Vec<Law<H>> {
            vec![$((stringify!($law), $law::<H>)),+]
        }

        $(#[$macro_doc])*
        #[macro_export]
        macro_rules! $list {
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
    /// Returns the laws of a [`Store`].
    store_laws,
    /// Expands to one `#[test]` for each law of a [`Store`](crate::Store), run on the given
    /// [`Harness`](crate::conformance::Harness).
    Harness,
    a_row_is_put_where_there_is_none,
    a_version_is_swapped_once,
    a_removed_row_is_gone,
    versions_never_come_back,
    rows_are_kept_apart,
    scans_go_in_order_and_pages,
    purging_takes_what_may_be_forgotten,
    large_rows_come_back_whole,
    rows_survive_reopening,
    an_insert_tells_what_is_there,
    one_of_many_swaps_wins,
    one_of_many_inserts_wins_and_is_found,
    random_swaps_match_the_model,
);

law_list!(
    $
    /// Returns the laws of a response store on a [`Store`].
    response_laws,
    /// Expands to one `#[test]` for each law of [`Responses`](crate::Responses), run on the given
    /// [`Harness`](crate::conformance::Harness).
    Harness,
    a_repetition_is_answered_as_the_first,
    another_request_under_the_key_is_refused,
    while_one_acts_others_are_told_to_wait,
    a_lease_that_ends_leaves_doubt,
    a_late_answer_ends_the_doubt,
    a_released_key_is_free,
    a_claim_is_extended,
    doubt_can_be_retaken,
    doubt_is_listed_and_resolved,
    expired_responses_are_forgotten,
    one_of_many_acts,
    claims_survive_reopening,
);

law_list!(
    $
    /// Returns the laws of an inbox.
    inbox_laws,
    /// Expands to one `#[test]` for each law of an inbox, run on the given
    /// [`InboxHarness`](crate::conformance::InboxHarness).
    InboxHarness,
    a_message_takes_effect_once,
    a_rollback_leaves_nothing,
    a_crash_leaves_nothing,
    a_failed_effect_leaves_nothing,
    another_message_under_the_key_is_refused,
    a_cancelled_message_does_nothing,
    a_cancelled_message_is_undone_once,
    within_a_transaction_markers_are_seen,
    markers_are_kept_apart,
    markers_survive_what_was_committed,
    old_markers_are_forgotten,
    random_transactions_match_the_model,
);
