//! What a handler says about a message that it could not handle.

use std::fmt;
use std::time::Duration;

use dpat_core::{Class, Classify};

/// A message was not handled.
///
/// `?` makes one of every error that is [`Classify`]: what a repetition will not cure (invalid, permanent, corrupt) is
/// rejected, everything else is retried.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use dpat_queue::Failure;
///
/// let busy = Failure::retry("the gateway is busy").after(Duration::from_secs(60));
/// let hopeless = Failure::reject("no such customer");
/// assert_ne!(busy, hopeless);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Failure {
    pub(super) rejects: bool,
    pub(super) after: Option<Duration>,
    pub(super) reason: String,
}

impl Failure {
    /// It may work another time: the message comes again, unless this was the last attempt.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self {
            rejects: false,
            after: None,
            reason: reason.to_string(),
        }
    }

    /// It will never work: the message becomes a dead letter.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self {
            rejects: true,
            ..Self::retry(reason)
        }
    }

    /// Sets the delay before the next attempt, in place of the worker's own.
    pub const fn after(mut self, delay: Duration) -> Self {
        self.after = Some(delay);
        self
    }
}

impl<E: Classify + fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        let hopeless = [Class::InvalidInput, Class::Permanent, Class::Corrupt];
        Self {
            rejects: hopeless.contains(&error.class()),
            after: error.retry_after(),
            reason: error.to_string(),
        }
    }
}
