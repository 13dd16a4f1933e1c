//! The laws that every backend keeps, as tests for yours.
//!
//! Implement [`Harness`] and expand [`pubsub_laws!`](crate::pubsub_laws) in a test module: one `#[test]` a law. A law about
//! something that the backend does not claim ([`Capabilities`](crate::Capabilities)) checks that it is refused by name. No law
//! sleeps: what must not arrive is told by a later message that does.

mod declared;
mod laws;
mod model;
mod random;

use crate::PubSub;
use crate::error::{Closed, PublishError, RequestError, SubjectError, SubscribeError};
use dpat_core::Sleep;
use std::fmt;
use std::future::Future;

pub use declared::{Declared, declared};
pub use laws::{
    a_closed_hub_ends_its_subscriptions_and_refuses, a_group_gets_each_message_once,
    a_message_comes_as_it_was_sent, a_request_gets_its_first_answer,
    a_request_that_nobody_hears_is_told_so, a_subscriber_that_left_gets_nothing,
    every_subscriber_gets_every_message, lag_is_counted_where_messages_are_missing,
    messages_of_a_publisher_come_in_order, nothing_comes_from_before_the_subscription,
    retained_messages_come_first, subjects_are_matched_as_nats_does,
    the_payload_limit_is_exact_and_nothing_is_done_beyond_it,
    what_is_not_offered_is_refused_by_name,
};
pub use random::{Op, random_operations_match_the_model, run};

/// What the laws need of the backend under test.
pub trait Harness {
    /// The time of the backend, for requests.
    type Time: Sleep;

    /// Makes a hub. Of a server that tests share, a new connection.
    fn hub(&self) -> PubSub;

    /// Makes a hub that retains the last `last` messages of each subject below `prefix`; none if the backend cannot.
    fn retaining(&self, prefix: &str, last: usize) -> Option<PubSub>;

    /// Returns a token, different each time, that the subjects of one test begin with.
    fn prefix(&self) -> String;

    /// Returns the time.
    fn time(&self) -> Self::Time;

    /// Runs a future to its end, advancing the time while it waits; for a server within a bounded real time, after which
    /// it panics.
    fn block_on<F: Future>(&self, future: F) -> F::Output;
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

unexpected!(
    SubjectError,
    PublishError,
    SubscribeError,
    RequestError,
    Closed
);

/// A law and its name.
pub type Law<H> = (&'static str, fn(&H) -> Result<(), Violation>);

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
        /// Returns all laws.
        #[must_use]
        pub fn laws<H: Harness>() -> Vec<Law<H>> {
            vec![$((stringify!($law), $law::<H>)),+]
        }

        /// Expands to one `#[test]` for each law, run on the given [`Harness`](crate::conformance::Harness).
        #[macro_export]
        macro_rules! pubsub_laws {
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
    subjects_are_matched_as_nats_does,
    nothing_comes_from_before_the_subscription,
    messages_of_a_publisher_come_in_order,
    every_subscriber_gets_every_message,
    a_group_gets_each_message_once,
    a_message_comes_as_it_was_sent,
    the_payload_limit_is_exact_and_nothing_is_done_beyond_it,
    a_subscriber_that_left_gets_nothing,
    a_request_gets_its_first_answer,
    a_request_that_nobody_hears_is_told_so,
    a_closed_hub_ends_its_subscriptions_and_refuses,
    lag_is_counted_where_messages_are_missing,
    retained_messages_come_first,
    what_is_not_offered_is_refused_by_name,
    random_operations_match_the_model,
);
