//! What is sent, what is received, and what becomes of it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::Wall;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::capability::Capability;
use crate::error::MessageError;

/// The longest key, deduplication key or name of a header, in bytes: 255.
pub const TEXT_BYTES_MAX: usize = 255;

/// The largest number of headers: 32.
pub const HEADERS_MAX: usize = 32;

/// The largest size of all headers together, names and values, in bytes: 16 KiB.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;

/// The highest priority: 9. The lowest is 0.
pub const PRIORITY_MAX: u8 = 9;

/// The priority of a message that names none: 4.
pub const PRIORITY_DEFAULT: u8 = 4;

/// How much of a reason is kept, in bytes: 256.
pub const REASON_BYTES_MAX: usize = 256;

/// What a message takes beside its texts and bytes; counted against the limits of bytes.
const OVERHEAD_BYTES: u64 = 256;

/// Something that is sent.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use dpat_queue::Message;
///
/// let message = Message::new("charge order 7")
///     .key("order-7")
///     .priority(7)
///     .header("content-type", "text/plain")
///     .delay(Duration::from_secs(5))
///     .ttl(Duration::from_secs(3600));
/// assert_eq!(message.payload(), "charge order 7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Message {
    pub(crate) parts: Parts,
    /// Of the few that have any.
    pub(crate) times: Option<Box<Times>>,
}

/// What stays the same from the sender to the receiver.
///
/// It is carried from hand to hand often: what most messages do not have takes one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) payload: Bytes,
    /// None where it would have nothing.
    extra: Option<Arc<Extra>>,
}

/// What most messages do not have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extra {
    headers: Vec<(String, Bytes)>,
    key: Option<Arc<str>>,
    dedup: Option<Arc<str>>,
    priority: u8,
}

impl Default for Extra {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            key: None,
            dedup: None,
            priority: PRIORITY_DEFAULT,
        }
    }
}

/// When a message may be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) when: When,
    pub(crate) ttl: Option<Duration>,
}

/// From when on a message may be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum When {
    #[default]
    Now,
    After(Duration),
    At(Wall),
}

/// The stored form of [`Parts`].
#[derive(Serialize, Deserialize)]
#[serde(rename = "Parts")]
struct Stored<'a> {
    payload: Cow<'a, Bytes>,
    headers: Option<Cow<'a, [(String, Bytes)]>>,
    key: Option<Cow<'a, Arc<str>>>,
    dedup: Option<Cow<'a, Arc<str>>>,
    priority: u8,
}

impl Serialize for Parts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers = self.headers();
        let stored = Stored {
            payload: Cow::Borrowed(&self.payload),
            headers: (!headers.is_empty()).then_some(Cow::Borrowed(headers)),
            key: self.key().map(Cow::Borrowed),
            dedup: self.dedup().map(Cow::Borrowed),
            priority: self.priority(),
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let extra = Extra {
            headers: stored.headers.map(Cow::into_owned).unwrap_or_default(),
            key: stored.key.map(Cow::into_owned),
            dedup: stored.dedup.map(Cow::into_owned),
            priority: stored.priority,
        };
        Ok(Self {
            payload: stored.payload.into_owned(),
            extra: (extra != Extra::default()).then(|| Arc::new(extra)),
        })
    }
}

impl Parts {
    /// What a free slot has.
    pub(crate) const EMPTY: Self = Self {
        payload: Bytes::new(),
        extra: None,
    };

    /// Nothing but a payload.
    #[inline]
    pub(crate) const fn plain(payload: Bytes) -> Self {
        Self {
            payload,
            extra: None,
        }
    }

    /// What such a payload counts against the limits of bytes.
    #[inline]
    pub(crate) const fn plain_size(payload: &Bytes) -> u64 {
        OVERHEAD_BYTES + payload.len() as u64
    }

    pub(crate) fn headers(&self) -> &[(String, Bytes)] {
        self.extra.as_ref().map_or(&[], |extra| &extra.headers)
    }

    #[inline]
    pub(crate) fn key(&self) -> Option<&Arc<str>> {
        self.extra.as_ref()?.key.as_ref()
    }

    #[inline]
    pub(crate) fn dedup(&self) -> Option<&Arc<str>> {
        self.extra.as_ref()?.dedup.as_ref()
    }

    #[inline]
    pub(crate) fn priority(&self) -> u8 {
        let extra = self.extra.as_ref();
        extra.map_or(PRIORITY_DEFAULT, |extra| extra.priority)
    }

    #[inline]
    pub(crate) const fn has_extra(&self) -> bool {
        self.extra.is_some()
    }

    fn extra(&mut self) -> &mut Extra {
        Arc::make_mut(self.extra.get_or_insert_default())
    }

    /// What it counts against the limits of bytes.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        let extra = self.extra.as_ref().map_or(0, |extra| extra.size());
        OVERHEAD_BYTES + (self.payload.len() + extra) as u64
    }
}

impl Extra {
    fn size(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_deref().map_or(0, str::len);
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        headers + text(&self.key) + text(&self.dedup)
    }

    fn check(&self) -> Result<(), MessageError> {
        text("key", self.key.as_deref())?;
        text("dedup", self.dedup.as_deref())?;
        at_most("headers", self.headers.len(), HEADERS_MAX)?;
        let mut bytes = 0;
        for (name, value) in &self.headers {
            text("header name", Some(name))?;
            bytes += name.len() + value.len();
        }
        at_most("bytes of headers", bytes, HEADERS_BYTES_MAX)
    }
}

impl Message {
    /// Makes a message of a payload: deliverable at once, of priority 4, without key, headers and end.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            parts: Parts::plain(payload.into()),
            times: None,
        }
    }

    /// Keeps the order among messages of this key, and one of them out at a time.
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.parts.extra().key = Some(key.into());
        self
    }

    /// Makes a second send of the same text none, within the window of the queue.
    pub fn dedup(mut self, dedup: impl Into<Arc<str>>) -> Self {
        self.parts.extra().dedup = Some(dedup.into());
        self
    }

    /// Sets the priority, from 0 to 9; higher comes first.
    pub fn priority(mut self, priority: u8) -> Self {
        let parts = &mut self.parts;
        parts.extra().priority = priority;
        if parts.extra.as_deref() == Some(&Extra::default()) {
            parts.extra = None;
        }
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let headers = &mut self.parts.extra().headers;
        headers.push((name.into(), value.into()));
        self
    }

    /// Holds it back for so long from its sending on.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.times.get_or_insert_default().when = When::After(delay);
        self
    }

    /// Holds it back until a time. A time that has passed is none; one that passes while nobody receives fires once.
    pub fn not_before(mut self, at: Wall) -> Self {
        self.times.get_or_insert_default().when = When::At(at);
        self
    }

    /// Removes it if it is not delivered within so long, counted from when it may be delivered. It then leaves no dead letter.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.times.get_or_insert_default().ttl = Some(ttl);
        self
    }

    /// Returns the payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.parts.payload
    }

    /// Returns the key within which order is kept.
    #[must_use]
    pub fn get_key(&self) -> Option<&str> {
        self.parts.key().map(|key| &**key)
    }

    /// Returns the deduplication key.
    #[must_use]
    pub fn get_dedup(&self) -> Option<&str> {
        self.parts.dedup().map(|dedup| &**dedup)
    }

    /// Returns the priority.
    #[must_use]
    pub fn get_priority(&self) -> u8 {
        self.parts.priority()
    }

    /// Returns the headers, in their order.
    #[must_use]
    pub fn headers(&self) -> &[(String, Bytes)] {
        self.parts.headers()
    }

    /// Returns how long it is held back from `now` on; none if not at all.
    #[must_use]
    pub fn delay_from(&self, now: Wall) -> Option<Duration> {
        match self.when() {
            When::Now => None,
            When::After(delay) => Some(delay),
            When::At(at) => Some(at.since(now)),
        }
        .filter(|delay| !delay.is_zero())
    }

    /// Returns within how long it must be delivered.
    #[must_use]
    pub fn get_ttl(&self) -> Option<Duration> {
        self.times.as_ref()?.ttl
    }

    fn when(&self) -> When {
        self.times.as_ref().map_or(When::Now, |times| times.when)
    }

    /// Checks the limits that hold everywhere; for backends that take messages beside a [`Queue`](crate::Queue).
    ///
    /// # Errors
    /// [`MessageError`] names the field.
    #[inline]
    pub fn check(&self, payload_max: usize) -> Result<(), MessageError> {
        let parts = &self.parts;
        at_most("payload", parts.payload.len(), payload_max)?;
        at_most("priority", parts.priority().into(), PRIORITY_MAX.into())?;
        if self.get_ttl().is_some_and(|ttl| ttl.is_zero()) {
            return Err(MessageError::Empty { field: "ttl" });
        }
        parts.extra.as_ref().map_or(Ok(()), |extra| extra.check())
    }

    /// What a message counts that has nothing but a payload, of at most so many bytes; none if this is not one.
    #[inline]
    pub(crate) fn plain_size(&self, payload_max: usize) -> Option<u64> {
        let Parts { payload, extra } = &self.parts;
        let plain = extra.is_none() && self.times.is_none();
        (plain && payload.len() <= payload_max).then(|| Parts::plain_size(payload))
    }

    /// The first thing that it asks for and `offers` denies.
    pub(crate) fn wants(&self, offers: impl Fn(Capability) -> bool) -> Option<Capability> {
        let wanted = [
            (Capability::OrderedKeys, self.parts.key().is_some()),
            (Capability::Dedup, self.parts.dedup().is_some()),
            (
                Capability::Priority,
                self.parts.priority() != PRIORITY_DEFAULT,
            ),
            (Capability::Delay, self.when() != When::Now),
            (Capability::Ttl, self.get_ttl().is_some()),
        ];
        let mut missing = wanted
            .into_iter()
            .filter(|(capability, wanted)| *wanted && !offers(*capability));
        missing.next().map(|(capability, _)| capability)
    }
}

fn text(field: &'static str, text: Option<&str>) -> Result<(), MessageError> {
    match text {
        None => Ok(()),
        Some("") => Err(MessageError::Empty { field }),
        Some(text) => at_most(field, text.len(), TEXT_BYTES_MAX),
    }
}

#[inline]
fn at_most(field: &'static str, got: usize, limit: usize) -> Result<(), MessageError> {
    if got > limit {
        return Err(MessageError::TooLarge { field, limit, got });
    }
    Ok(())
}

/// Cuts a reason to what is kept of it.
pub(crate) fn reason(text: &str) -> Arc<str> {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Arc::from(&text[..end])
}

/// Names a message within its queue, for good.
///
/// A number that the backend chose. In an embedded queue it rises from message to message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

impl MessageId {
    /// Makes an id; for backends.
    #[must_use]
    pub const fn new(id: u128) -> Self {
        Self(id)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to settle one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    id: MessageId,
    token: u128,
}

impl Receipt {
    /// Makes a receipt; for backends. The token tells the deliveries of a message apart.
    #[must_use]
    pub const fn new(id: MessageId, token: u128) -> Self {
        Self { id, token }
    }

    /// Returns the message.
    #[must_use]
    pub const fn id(self) -> MessageId {
        self.id
    }

    /// Returns what tells the deliveries apart.
    #[must_use]
    pub const fn token(self) -> u128 {
        self.token
    }
}

/// What a send returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The message; of a duplicate, the one that was sent first.
    pub id: MessageId,
    /// One for a duplicate. It fills all that is beside the id: room between fields is copied in pieces.
    duplicates: u128,
}

impl Sent {
    /// A message that was taken in.
    #[must_use]
    #[inline]
    pub const fn new(id: MessageId) -> Self {
        let duplicates = 0;
        Self { id, duplicates }
    }

    /// A message that was there already, and was sent first with this id.
    #[must_use]
    pub const fn duplicate(id: MessageId) -> Self {
        let duplicates = 1;
        Self { id, duplicates }
    }

    /// Says whether it was there already, and nothing was added.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        self.duplicates > 0
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("id", &self.id)
            .field("duplicate", &self.is_duplicate())
            .finish()
    }
}

/// A message that was handed out, and is leased until it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Delivery {
    pub(crate) parts: Parts,
    /// How often the message was handed out, this time included; it rises when a message is handed out, not when it is
    /// settled.
    pub count: u32,
    /// As `count`, but since the message was last replayed from the dead letters.
    pub attempt: u32,
    /// What settles it.
    pub receipt: Receipt,
    /// When it was sent.
    pub sent_at: Wall,
    /// How long it is leased, on the backend's clock.
    pub lease: Duration,
}

impl Delivery {
    /// Makes a delivery; for backends. The message's times are not kept.
    #[must_use]
    pub fn new(
        message: Message,
        receipt: Receipt,
        count: u32,
        sent_at: Wall,
        lease: Duration,
    ) -> Self {
        Self {
            parts: message.parts,
            receipt,
            count,
            attempt: count,
            sent_at,
            lease,
        }
    }

    /// Returns the message's id.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        self.receipt.id
    }

    /// Returns the payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.parts.payload
    }

    /// Returns the key within which order is kept.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.parts.key().map(|key| &**key)
    }

    /// Returns the priority.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.parts.priority()
    }

    /// Returns the headers, in their order.
    #[must_use]
    pub fn headers(&self) -> &[(String, Bytes)] {
        self.parts.headers()
    }

    /// Returns the message, without its times, to be sent elsewhere.
    pub fn into_message(self) -> Message {
        Message {
            parts: self.parts,
            times: None,
        }
    }
}

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was handled: the message is removed.
    Done,
    /// It is to be delivered again.
    Retry {
        /// After so long.
        delay: Duration,
        /// Why; at most 256 bytes are kept.
        reason: String,
    },
    /// It is given up: the message becomes a dead letter.
    Reject {
        /// Why; at most 256 bytes are kept.
        reason: String,
    },
}

impl Outcome {
    /// To be delivered again at once: nothing went wrong.
    #[must_use]
    pub const fn release() -> Self {
        Self::Retry {
            delay: Duration::ZERO,
            reason: String::new(),
        }
    }
}

/// A delivery and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which delivery.
    pub receipt: Receipt,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: MessageId,
    /// The message, without its times.
    pub message: Message,
    /// Why.
    pub reason: Arc<str>,
    /// When it was given up.
    pub at: Wall,
    /// When it was sent.
    pub sent_at: Wall,
    /// How often it was handed out.
    pub count: u32,
}

/// A message that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// Its id.
    pub id: MessageId,
    /// The message, without its times.
    pub message: Message,
    /// When it was sent.
    pub sent_at: Wall,
    /// How often it was handed out.
    pub count: u32,
    /// Whether it is out.
    pub leased: bool,
    /// Why it was last retried.
    pub reason: Option<Arc<str>>,
}

/// What is in a queue, and what has gone through it since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that can be received now.
    pub ready: u64,
    /// Messages that wait for their time, or for the one before them of their key.
    pub waiting: u64,
    /// Messages that are out.
    pub leased: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// What the messages count against the limit of bytes, those that were given up left out.
    pub bytes: u64,
    /// For how long the oldest message has been there; none if there is none.
    pub oldest_ns: Option<u64>,
    /// Whether delivery is stopped.
    pub paused: bool,
    /// Messages taken in.
    pub sent: u64,
    /// Messages that were sent twice.
    pub duplicates: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Deliveries that were not the first of their message.
    pub redelivered: u64,
    /// Deliveries that were done.
    pub done: u64,
    /// Deliveries that are to be retried.
    pub retried: u64,
    /// Deliveries that were rejected.
    pub rejected: u64,
    /// Leases that ended without being settled.
    pub lapsed: u64,
    /// Messages that were not delivered in time.
    pub expired: u64,
    /// Messages that had to make room.
    pub dropped: u64,
    /// Messages that were purged.
    pub purged: u64,
}
