//! The laws of a queue, as tests for any backend.
//!
//! Give a [`Harness`] to [`queue_laws!`](crate::queue_laws), and it expands to one `#[test]` a law. Each law is also a
//! function, and [`laws`] lists them. No law sleeps: the harness lets time pass.
//!
//! A law about something that the backend does not declare checks that it is refused by name, or not there: a declared gap that
//! works fails, too. The last law is differential: random operations run against the backend and against a plain list, and
//! a difference is shrunk to the fewest operations that still show it.
//!
//! # Examples
//! ```
//! use std::time::Duration;
//! use dpat_core::ManualTime;
//! use dpat_queue::Queue;
//! use dpat_queue::conformance::{Harness, Setup};
//!
//! struct InMemory;
//!
//! impl Harness for InMemory {
//!     type World = (Queue, ManualTime);
//!     fn open(&self, setup: &Setup) -> Self::World {
//!         let time = ManualTime::new();
//!         (setup.builder().in_memory(time.clone()).expect("valid"), time)
//!     }
//!     fn queue<'w>(&self, world: &'w Self::World) -> &'w Queue {
//!         &world.0
//!     }
//!     fn reopen(&self, world: Self::World, setup: &Setup) -> Self::World {
//!         drop(world);
//!         self.open(setup)
//!     }
//!     fn advance(&self, world: &Self::World, by: Duration) {
//!         world.1.advance(by);
//!     }
//! }
//!
//! dpat_queue::queue_laws!(InMemory);
//! # fn main() {}
//! ```

mod declared;
mod delivery;
mod kit;
mod letters;
mod limits;
mod model;
mod order;
mod random;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use declared::{Declared, declared};
pub use delivery::{
    a_delivery_may_be_given_back, a_done_message_never_comes_again, a_lease_can_be_extended,
    a_message_comes_as_it_was_sent, a_message_is_hidden_while_it_is_leased,
    a_receive_returns_at_most_what_was_asked_for, a_retry_comes_after_its_delay,
    a_stale_receipt_is_refused, a_waiting_receive_ends_with_a_message_or_its_time,
    the_count_rises_when_a_message_is_handed_out, what_was_acknowledged_survives,
};
pub use letters::{
    a_dead_letter_is_replayed_or_discarded, a_paused_queue_hands_nothing_out,
    a_purge_leaves_what_is_out, a_rejected_message_is_kept_with_its_reason,
    looking_changes_nothing, the_numbers_add_up,
};
pub use limits::{
    a_drained_queue_refuses, a_full_queue_refuses_and_nothing_is_done,
    a_message_outside_of_its_limits_is_refused, what_is_not_offered_is_refused_by_name,
};
pub use order::{
    a_delayed_message_comes_at_its_time, a_double_send_answers_with_the_first,
    a_higher_priority_comes_first, a_message_ends_with_its_time_to_live,
    a_missed_schedule_fires_once, messages_come_in_the_order_of_sending,
    of_a_key_one_is_out_and_order_is_kept,
};
pub use random::{Op, random_operations_match_the_model};

use crate::config::Builder;
use crate::error::{ManageError, ReceiveError, SendError, SettleError};
use crate::queue::Queue;

/// How a queue under test is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setup {
    /// How long leases are.
    pub visibility: Duration,
    /// How long deduplication keys are remembered.
    pub dedup_window: Duration,
    /// How many messages fit.
    pub messages_max: u64,
    /// How many dead letters fit.
    pub dead_max: u64,
}

impl Setup {
    /// Leases of a second, a window of 10 seconds, 100 000 messages, 1 000 dead letters.
    pub const DEFAULT: Self = Self {
        visibility: Duration::from_secs(1),
        dedup_window: Duration::from_secs(10),
        messages_max: 100_000,
        dead_max: 1_000,
    };

    /// As the settings of an embedded queue.
    pub fn builder(&self) -> Builder {
        Queue::builder()
            .visibility(self.visibility)
            .dedup_window(self.dedup_window)
            .messages_max(self.messages_max)
            .dead_max(self.dead_max)
    }
}

/// Whose clock the queue under test goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// That of [`Harness::advance`], to the nanosecond.
    #[default]
    Exact,
    /// A server's own, which goes on by itself: of random runs there are fewer, and they let pass no time, or two leases.
    Real,
}

/// What the laws need of the queue under test.
pub trait Harness {
    /// A queue, and what belongs to it.
    type World;

    /// Returns whose clock it goes by.
    fn pace(&self) -> Pace {
        Pace::Exact
    }

    /// Returns how queues are set up, unless a law wants it otherwise: [`Setup::DEFAULT`].
    ///
    /// Where time is real, leases are long against what a busy machine adds to a call, and the window of deduplication is
    /// between three and four leases.
    fn setup(&self) -> Setup {
        Setup::DEFAULT
    }

    /// Makes an empty queue that shares nothing with earlier ones.
    fn open(&self, setup: &Setup) -> Self::World;

    /// Returns the queue.
    fn queue<'w>(&self, world: &'w Self::World) -> &'w Queue;

    /// Ends the process as the backend [declares](crate::Capabilities::survives) to survive it, and opens the queue in the
    /// next one.
    fn reopen(&self, world: Self::World, setup: &Setup) -> Self::World;

    /// Lets time pass for the queue: of a manual clock, or by waiting.
    fn advance(&self, world: &Self::World, by: Duration);

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

unexpected!(SendError, ReceiveError, SettleError, ManageError);

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

/// Fails the law unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($format:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Violation::new(format!($($format)+)));
        }
    };
}
use ensure;

/// Declares the list of laws and the macro that makes a test of each.
macro_rules! law_list {
    ($d:tt $($law:ident),+ $(,)?) => {
        /// Returns the laws of a queue.
        #[must_use]
        pub fn laws<H: Harness>() -> Vec<Law<H>> {
            vec![$((stringify!($law), $law::<H>)),+]
        }

        /// Expands to one `#[test]` for each law of a queue, run on the given [`Harness`](crate::conformance::Harness).
        #[macro_export]
        macro_rules! queue_laws {
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
    a_message_comes_as_it_was_sent,
    a_receive_returns_at_most_what_was_asked_for,
    a_waiting_receive_ends_with_a_message_or_its_time,
    a_message_is_hidden_while_it_is_leased,
    the_count_rises_when_a_message_is_handed_out,
    a_done_message_never_comes_again,
    a_retry_comes_after_its_delay,
    a_delivery_may_be_given_back,
    a_stale_receipt_is_refused,
    a_lease_can_be_extended,
    what_was_acknowledged_survives,
    messages_come_in_the_order_of_sending,
    a_higher_priority_comes_first,
    of_a_key_one_is_out_and_order_is_kept,
    a_delayed_message_comes_at_its_time,
    a_missed_schedule_fires_once,
    a_double_send_answers_with_the_first,
    a_message_ends_with_its_time_to_live,
    a_rejected_message_is_kept_with_its_reason,
    a_dead_letter_is_replayed_or_discarded,
    a_paused_queue_hands_nothing_out,
    a_purge_leaves_what_is_out,
    looking_changes_nothing,
    the_numbers_add_up,
    a_message_outside_of_its_limits_is_refused,
    a_full_queue_refuses_and_nothing_is_done,
    a_drained_queue_refuses,
    what_is_not_offered_is_refused_by_name,
    random_operations_match_the_model,
);
