//! Errors, one per operation that can fail.

use dpat_core::{Class, Classify, Effect};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

macro_rules! invalid_input {
    ($($name:ident),*) => {$(
        /// Invalid input; nothing was done.
        impl Classify for $name {
            fn class(&self) -> Class {
                Class::InvalidInput
            }
            fn effect(&self) -> Effect {
                Effect::NotDone
            }
        }
    )*};
}

invalid_input!(SubjectError, DraftError, ConfigError);

/// A text that is no subject, or no filter. Positions are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// There is no text.
    #[error("subject: is empty")]
    Empty,
    /// The text is too long.
    #[error("subject: {got} bytes are more than {max}")]
    TooLong {
        /// The most bytes.
        max: usize,
        /// The bytes given.
        got: usize,
    },
    /// The text has too many tokens.
    #[error("subject: {got} tokens are more than {max}")]
    TooManyTokens {
        /// The most tokens.
        max: usize,
        /// The tokens given.
        got: usize,
    },
    /// A token is empty: two dots in a row, or a dot at an end.
    #[error("subject: the token at byte {at} is empty")]
    EmptyToken {
        /// Where the token would start.
        at: usize,
    },
    /// A character that no token has.
    #[error("subject: {found:?} at byte {at} is white space or a control character")]
    Character {
        /// Where the character is.
        at: usize,
        /// The character.
        found: char,
    },
    /// A wildcard in a subject; only filters have them.
    #[error("subject: the token at byte {at} is a wildcard, which only filters have")]
    Wildcard {
        /// Where the token starts.
        at: usize,
    },
    /// `>` before the last token.
    #[error("filter: `>` at byte {at} is not the last token")]
    RestNotLast {
        /// Where the token is.
        at: usize,
    },
}

/// For conversions that cannot fail.
impl From<Infallible> for SubjectError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A payload or headers outside the limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Too many, or too large.
    #[error("{field}: {got} is more than {max}")]
    TooLarge {
        /// What is too large.
        field: &'static str,
        /// The most of it.
        max: usize,
        /// The amount given.
        got: usize,
    },
    /// A header's name is empty or has characters other than visible ASCII without a colon.
    #[error("header {name:?}: a name is visible ASCII without a colon")]
    HeaderName {
        /// The name.
        name: Box<str>,
    },
    /// A header's value has control characters.
    #[error("header {name:?}: the value has a control character")]
    HeaderValue {
        /// The name.
        name: Box<str>,
    },
}

/// A setting outside its limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A count is outside its limits.
    #[error("{field}: {got} is not within {min}..={max}")]
    Count {
        /// The field at fault.
        field: &'static str,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
        /// The value given.
        got: u64,
    },
    /// A name is empty, too long, or has characters that names of its kind do not have.
    #[error("{field}: {got:?} is not a name of 1 to {max} bytes without white space")]
    Name {
        /// The field at fault.
        field: &'static str,
        /// The most bytes.
        max: usize,
        /// The name given.
        got: Box<str>,
    },
    /// Two settings exclude each other.
    #[error("{field}: cannot be together with {with}")]
    Conflict {
        /// The field at fault.
        field: &'static str,
        /// The other one.
        with: &'static str,
    },
    /// A filter is none.
    #[error("{field}: {source}")]
    Filter {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        source: SubjectError,
    },
}

/// A failure that a backend reports.
#[derive(Clone, Debug)]
pub struct BackendError(Arc<Failure>);

#[derive(Debug)]
struct Failure {
    class: Class,
    effect: Effect,
    source: Box<dyn Error + Send + Sync>,
}

impl BackendError {
    /// Wraps a failure, with what kind it is and whether the operation may have happened.
    pub fn new(
        class: Class,
        effect: Effect,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Failure {
            class,
            effect,
            source: source.into(),
        }))
    }
}

impl From<Unsupported> for BackendError {
    fn from(error: Unsupported) -> Self {
        Self::new(error.class(), error.effect(), error)
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source.fmt(f)
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.source()
    }
}

impl Classify for BackendError {
    fn class(&self) -> Class {
        self.0.class
    }
    fn effect(&self) -> Effect {
        self.0.effect
    }
}

/// A message that was not published.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The subject is none.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The payload or the headers are outside the limits.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The message to answer does not say where answers go.
    #[error("reply: the message asks for no answer")]
    NoReply,
    /// The hub is closed.
    #[error("the hub is closed")]
    Closed,
    /// The backend cannot do what is asked for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The backend failed.
    #[error("publish: {0}")]
    Backend(#[source] BackendError),
}

impl Classify for PublishError {
    fn class(&self) -> Class {
        match self {
            Self::Subject(_) | Self::Draft(_) | Self::NoReply => Class::InvalidInput,
            Self::Closed => Class::Unavailable,
            Self::Unsupported(error) => error.class(),
            Self::Backend(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Backend(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// A subscription that was not made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The filter is none.
    #[error(transparent)]
    Filter(#[from] SubjectError),
    /// A setting is outside its limits.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are as many subscriptions as the hub takes.
    #[error("subscriptions: all {max} are in use")]
    Full {
        /// The most subscriptions.
        max: usize,
    },
    /// The queue group exists with another `field`; its members share one buffer.
    #[error("{field}: the members of queue group {group:?} have another one")]
    Group {
        /// The setting that differs.
        field: &'static str,
        /// The group.
        group: Box<str>,
    },
    /// The backend cannot do what is asked for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The hub is closed.
    #[error("the hub is closed")]
    Closed,
    /// The file for what a subscriber leaves behind cannot be made.
    #[cfg(feature = "spill")]
    #[error("spill: {0}")]
    Spill(#[source] Arc<dpat_storage::StorageError>),
    /// The backend failed.
    #[error("subscribe: {0}")]
    Backend(#[source] BackendError),
}

impl Classify for SubscribeError {
    fn class(&self) -> Class {
        match self {
            Self::Filter(_) | Self::Config(_) | Self::Group { .. } => Class::InvalidInput,
            Self::Unsupported(error) => error.class(),
            Self::Full { .. } => Class::Overloaded,
            Self::Closed => Class::Unavailable,
            #[cfg(feature = "spill")]
            Self::Spill(error) => error.class(),
            Self::Backend(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Backend(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}

/// Something that a backend does not offer, asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{backend} does not offer {what}")]
pub struct Unsupported {
    pub(crate) what: &'static str,
    pub(crate) backend: &'static str,
}

impl Unsupported {
    /// Names what is missing, and where.
    #[must_use]
    pub const fn new(what: &'static str, backend: &'static str) -> Self {
        Self { what, backend }
    }

    /// Returns what is missing.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// Returns the backend.
    #[must_use]
    pub const fn backend(&self) -> &'static str {
        self.backend
    }
}

invalid_input!(Unsupported);

/// A subscription is at its end: nothing more will come.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// The hub was closed, or its last publisher has gone.
    #[error("the hub is closed")]
    Hub,
    /// The subscriber was too slow, and its policy is to be disconnected.
    #[error("disconnected: more than {capacity} messages were waiting")]
    Overflow {
        /// The capacity that was exceeded.
        capacity: usize,
    },
    /// It waits for the answers to a request that nobody heard.
    ///
    /// Of backends that tell so behind the publication, and not by [`Published::reached`](crate::Published::reached).
    #[error("nobody answers")]
    NoResponders,
    /// The backend ended it.
    #[error("subscription: {0}")]
    Backend(#[source] BackendError),
}

impl Classify for Closed {
    fn class(&self) -> Class {
        match self {
            Self::Hub | Self::NoResponders => Class::Unavailable,
            Self::Overflow { .. } => Class::Overloaded,
            Self::Backend(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Hub | Self::NoResponders | Self::Overflow { .. } => Effect::NotDone,
            Self::Backend(error) => error.effect(),
        }
    }
}

/// A request without an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The inbox for the answer was not made; nothing was published.
    #[error("inbox: {0}")]
    Inbox(#[from] SubscribeError),
    /// Nobody subscribes to the subject.
    #[error("nobody answers")]
    NoResponders,
    /// No answer came in time. The request may have been handled.
    #[error("no answer within {within:?}")]
    Timeout {
        /// The time that was allowed.
        within: Duration,
    },
    /// The inbox ended before the answer. The request may have been handled.
    #[error("no answer: {0}")]
    Closed(#[from] Closed),
}

impl Classify for RequestError {
    fn class(&self) -> Class {
        match self {
            Self::Publish(error) => error.class(),
            Self::Inbox(error) => error.class(),
            Self::NoResponders => Class::Unavailable,
            Self::Timeout { .. } => Class::Timeout,
            Self::Closed(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Publish(error) => error.effect(),
            Self::Inbox(_) | Self::NoResponders => Effect::NotDone,
            Self::Timeout { .. } | Self::Closed(_) => Effect::Unknown,
        }
    }
}
