//! Messages, and what they are made of.

use crate::error::DraftError;
use crate::subject::Subject;
use bytes::Bytes;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The most headers of a message.
pub const HEADERS_MAX: usize = 32;

/// The most bytes of all names and values of a message's headers together.
pub const HEADER_BYTES_MAX: usize = 8 << 10;

/// A message as subscribers get it. Cloning counts one reference; the content is never copied.
#[derive(Clone)]
pub struct Message(Arc<Envelope>);

/// Small, because it is moved into its allocation; what few messages have is apart.
struct Envelope {
    subject: Subject,
    draft: Draft,
    /// Grows with each retained message, so that a replay and the live messages after it do not overlap. 0: not
    /// retained.
    retained: u64,
}

/// A message before it has a subject: payload, headers, and where answers go.
///
/// Bytes and texts are drafts without headers.
///
/// # Examples
/// ```
/// use dpat_pubsub::Draft;
///
/// let draft = Draft::new("created").header("trace-id", "7f3a");
/// # let _ = draft;
/// ```
#[derive(Clone, Default)]
pub struct Draft {
    payload: Bytes,
    extra: Option<Box<Extra>>,
}

#[derive(Clone, Default)]
struct Extra {
    headers: Vec<(Box<str>, Box<str>)>,
    reply_to: Option<Subject>,
    /// What a typed publisher gave; typed subscribers of the process share it.
    value: Option<Value>,
}

/// A value behind its type.
pub(crate) type Value = Arc<dyn Any + Send + Sync>;

impl Draft {
    /// Starts a draft with a payload.
    #[must_use]
    #[inline]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            extra: None,
        }
    }

    /// Adds a header.
    ///
    /// Checked when the draft is published: a name is visible ASCII without a colon, a value has no control characters; at
    /// most [`HEADERS_MAX`] of together [`HEADER_BYTES_MAX`] bytes. A name may come more than once.
    #[must_use]
    pub fn header(mut self, name: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        self.extra().headers.push((name.into(), value.into()));
        self
    }

    /// Says where an answer goes.
    #[must_use]
    pub fn reply_to(mut self, subject: Subject) -> Self {
        self.extra().reply_to = Some(subject);
        self
    }

    pub(crate) fn value(mut self, value: Value) -> Self {
        self.extra().value = Some(value);
        self
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    fn headers(&self) -> &[(Box<str>, Box<str>)] {
        self.extra.as_ref().map_or(&[], |extra| &extra.headers)
    }

    fn answers_to(&self) -> Option<&Subject> {
        self.extra.as_ref()?.reply_to.as_ref()
    }

    /// Returns the payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Checks the draft against the limits of a message.
    ///
    /// # Errors
    /// [`DraftError`] names the field and the limit.
    #[inline]
    pub fn check(&self, payload_bytes_max: usize) -> Result<(), DraftError> {
        if self.payload.len() > payload_bytes_max {
            return Err(DraftError::TooLarge {
                field: "payload",
                max: payload_bytes_max,
                got: self.payload.len(),
            });
        }
        match &self.extra {
            None => Ok(()),
            Some(extra) => extra.check(),
        }
    }
}

impl Extra {
    fn check(&self) -> Result<(), DraftError> {
        if self.headers.len() > HEADERS_MAX {
            return Err(DraftError::TooLarge {
                field: "headers",
                max: HEADERS_MAX,
                got: self.headers.len(),
            });
        }
        let lengths = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let got = lengths.sum();
        if got > HEADER_BYTES_MAX {
            return Err(DraftError::TooLarge {
                field: "header bytes",
                max: HEADER_BYTES_MAX,
                got,
            });
        }
        for (name, value) in &self.headers {
            let visible = |letter: u8| letter.is_ascii_graphic() && letter != b':';
            if name.is_empty() || !name.bytes().all(visible) {
                return Err(DraftError::HeaderName { name: name.clone() });
            }
            if value.chars().any(char::is_control) {
                return Err(DraftError::HeaderValue { name: name.clone() });
            }
        }
        Ok(())
    }
}

macro_rules! from_payload {
    ($($payload:ty),*) => {$(
        /// A draft without headers.
        impl From<$payload> for Draft {
            #[inline]
            fn from(payload: $payload) -> Self {
                Self::new(payload)
            }
        }
    )*};
}

from_payload!(
    Bytes,
    Vec<u8>,
    Box<[u8]>,
    String,
    &'static str,
    &'static [u8]
);

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("payload", &self.payload)
            .field("headers", &self.headers())
            .field("reply_to", &self.answers_to())
            .finish_non_exhaustive()
    }
}

impl Message {
    /// Makes a message of a draft that was checked before, or came from another system.
    #[must_use]
    pub fn new(subject: Subject, draft: Draft) -> Self {
        Self::retained(subject, draft, 0)
    }

    #[inline]
    pub(crate) fn retained(subject: Subject, draft: Draft, retained: u64) -> Self {
        Self(Arc::new(Envelope {
            subject,
            draft,
            retained,
        }))
    }

    /// Returns what it was published to.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// Returns the payload. Cloning it counts a reference.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.0.draft.payload
    }

    /// Returns the payload, without counting a reference if nobody else has the message.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        match Arc::try_unwrap(self.0) {
            Ok(envelope) => envelope.draft.payload,
            Err(shared) => shared.draft.payload.clone(),
        }
    }

    /// Returns where an answer is expected, if one is.
    #[must_use]
    pub fn reply_to(&self) -> Option<&Subject> {
        self.0.draft.answers_to()
    }

    /// Returns the first header of this name. Case matters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value)
    }

    /// Returns all headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.0.draft.headers().iter();
        headers.map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn value(&self) -> Option<&Value> {
        self.0.draft.extra.as_ref()?.value.as_ref()
    }

    pub(crate) fn retained_number(&self) -> u64 {
        self.0.retained
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", self.subject())
            .field("payload", self.payload())
            .field("headers", &self.0.draft.headers())
            .field("reply_to", &self.reply_to())
            .finish_non_exhaustive()
    }
}

/// Messages are equal if subject, payload, headers and reply subject are.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&*self.0, &*other.0);
        one.subject == other.subject
            && one.draft.payload == other.draft.payload
            && one.draft.headers() == other.draft.headers()
            && one.draft.answers_to() == other.draft.answers_to()
    }
}

impl Eq for Message {}

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A message.
    Message(Message),
    /// So many messages were lost here, between the previous message and the next one; 0: an engine knows that some may be,
    /// and nobody has counted them.
    Lagged(u64),
}

impl Delivery {
    /// Returns the message, if it is one.
    #[must_use]
    pub fn message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            Self::Lagged(_) => None,
        }
    }
}

/// How far a message went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Subscriptions and queue groups that have it; none where the backend cannot tell.
    pub reached: Option<usize>,
    /// Those of the matching ones that lost it, and will be told by [`Delivery::Lagged`].
    pub lost: usize,
}

impl Published {
    pub(crate) const NOBODY: Self = Self {
        reached: Some(0),
        lost: 0,
    };
}
