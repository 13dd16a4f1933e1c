//! What is told to others.

use bytes::Bytes;
use dpat_codec::{Codec, DecodeError, Flat, Postcard};
use dpat_core::{Class, Classify, Effect, Uuid7};
use serde::{Deserialize, Serialize};

/// The longest topic, key, deduplication key or name of a header, in bytes: 255.
pub const TEXT_BYTES_MAX: usize = 255;

/// The largest number of headers: 32.
pub const HEADERS_MAX: usize = 32;

/// The largest size of all headers together, names and values, in bytes: 16 KiB.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;

/// The largest payload, in bytes: 1 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Room for the largest event and what stands around it.
const CODEC: Postcard =
    Postcard::with_bytes_max(PAYLOAD_BYTES_MAX + HEADERS_BYTES_MAX + 4 * TEXT_BYTES_MAX + 1024);

/// Something that happened, to be told to others.
///
/// The id is given once, at append, and stays through every redelivery: receivers tell repetitions by it. Events with the
/// same key are delivered in the order of their appending, the others in any.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, SystemClock, SystemEntropy, Uuid7Generator};
/// use dpat_outbox::Event;
///
/// static IDS: Uuid7Generator = Uuid7Generator::new();
///
/// let id = IDS.next(SystemClock.wall(), &SystemEntropy)?;
/// let event = Event::builder(id, "orders.completed")
///     .key("order-7")
///     .dedup("order-7/completed")
///     .header("content-type", "application/json")
///     .payload(r#"{"order_id":"order-7"}"#)
///     .build()?;
/// assert_eq!(Event::decode(&event.encode())?, event);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Parts {
    id: Uuid7,
    topic: String,
    key: Option<String>,
    dedup: Option<String>,
    headers: Vec<(String, Bytes)>,
    payload: Bytes,
}

#[derive(Serialize, Deserialize)]
enum Stored<P> {
    V0(P),
}

impl<P> Flat for Stored<P> {}

/// An [`Event`] that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// A field is empty that must not be.
    #[error("{field}: empty")]
    Empty {
        /// The field at fault.
        field: &'static str,
    },
    /// A field is too large.
    #[error("{field}: {got} is more than {limit}")]
    TooLarge {
        /// The field at fault.
        field: &'static str,
        /// The largest value.
        limit: usize,
        /// The value given.
        got: usize,
    },
}

impl Classify for EventError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

impl Event {
    /// Starts an event without key, headers and payload.
    pub fn builder(id: Uuid7, topic: impl Into<String>) -> EventBuilder {
        EventBuilder {
            parts: Parts {
                id,
                topic: topic.into(),
                key: None,
                dedup: None,
                headers: Vec::new(),
                payload: Bytes::new(),
            },
        }
    }

    /// Returns the id.
    #[must_use]
    pub const fn id(&self) -> Uuid7 {
        self.parts.id
    }

    /// Returns where it is to go: a topic, a queue, a kind of event.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.parts.topic
    }

    /// Returns the key within which order is kept.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.parts.key.as_deref()
    }

    /// Returns what makes a second append of the same event none.
    #[must_use]
    pub fn dedup(&self) -> Option<&str> {
        self.parts.dedup.as_deref()
    }

    /// Returns the headers, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        let headers = self.parts.headers.iter();
        headers.map(|(name, value)| (name.as_str(), value))
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.parts.payload
    }

    /// Returns about how many bytes it takes: headers and payload, and the texts.
    #[must_use]
    pub fn size(&self) -> usize {
        let Parts {
            topic,
            key,
            dedup,
            headers,
            payload,
            ..
        } = &self.parts;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let headers = headers.iter().map(|(name, value)| name.len() + value.len());
        size_of::<Self>()
            + topic.len()
            + text(key)
            + text(dedup)
            + headers.sum::<usize>()
            + payload.len()
    }

    /// Returns the stored form, version 0.
    #[must_use]
    #[allow(
        clippy::missing_panics_doc,
        reason = "an event is flat, and its fields within their limits"
    )]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.size());
        CODEC
            .encode_flat(&Stored::V0(&self.parts), &mut bytes)
            .expect("an event is flat, and its fields within their limits");
        bytes.into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Stored::V0(parts) = CODEC.decode_flat::<Stored<Parts>>(bytes)?;
        Ok(Self { parts })
    }
}

/// Builds an [`Event`].
#[derive(Clone, Debug)]
#[must_use]
pub struct EventBuilder {
    parts: Parts,
}

impl EventBuilder {
    /// Keeps the order among events of this key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.parts.key = Some(key.into());
        self
    }

    /// Makes a second append with the same text none, as long as the first is kept.
    pub fn dedup(mut self, dedup: impl Into<String>) -> Self {
        self.parts.dedup = Some(dedup.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.parts.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the payload.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.parts.payload = payload.into();
        self
    }

    /// Validates.
    ///
    /// # Errors
    /// [`EventError`] for a field outside its limits.
    pub fn build(self) -> Result<Event, EventError> {
        let Parts {
            topic,
            key,
            dedup,
            headers,
            payload,
            ..
        } = &self.parts;
        text("topic", topic)?;
        key.iter().try_for_each(|key| text("key", key))?;
        dedup.iter().try_for_each(|dedup| text("dedup", dedup))?;
        headers
            .iter()
            .try_for_each(|(name, _)| text("header name", name))?;
        at_most("headers", headers.len(), HEADERS_MAX)?;
        let sizes = headers.iter().map(|(name, value)| name.len() + value.len());
        at_most("bytes of headers", sizes.sum(), HEADERS_BYTES_MAX)?;
        at_most("bytes of payload", payload.len(), PAYLOAD_BYTES_MAX)?;
        Ok(Event { parts: self.parts })
    }
}

fn text(field: &'static str, text: &str) -> Result<(), EventError> {
    if text.is_empty() {
        return Err(EventError::Empty { field });
    }
    at_most(field, text.len(), TEXT_BYTES_MAX)
}

fn at_most(field: &'static str, got: usize, limit: usize) -> Result<(), EventError> {
    if got > limit {
        return Err(EventError::TooLarge { field, limit, got });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> Uuid7 {
        "018cc251-f400-7abc-8def-0123456789ab".parse().unwrap()
    }

    #[test]
    fn stored_bytes_stay_the_same() {
        let event = Event::builder(id(), "t")
            .key("k")
            .dedup("d")
            .header("h", "v")
            .payload("p")
            .build()
            .unwrap();
        let mut golden = vec![0];
        golden.extend(id().to_bytes());
        golden.extend([
            1, b't', 1, 1, b'k', 1, 1, b'd', 1, 1, b'h', 1, b'v', 1, b'p',
        ]);
        assert_eq!(event.encode(), golden);
        assert_eq!(Event::decode(&golden), Ok(event));
        for end in 0..golden.len() {
            assert!(Event::decode(&golden[..end]).is_err());
        }
        let plain = Event::builder(id(), "t").build().unwrap();
        assert_eq!(plain.encode()[17..], [1, b't', 0, 0, 0, 0]);
    }

    #[test]
    fn limits_are_checked_and_named() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let fails = |builder: EventBuilder, text: &str| {
            let error = builder.build().unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(
                (error.class(), error.effect()),
                (Class::InvalidInput, Effect::NotDone)
            );
        };
        let event = || Event::builder(id(), "t");
        fails(Event::builder(id(), ""), "topic: empty");
        fails(
            Event::builder(id(), long.as_str()),
            "topic: 256 is more than 255",
        );
        fails(event().key(""), "key: empty");
        fails(event().key(long.as_str()), "key: 256 is more than 255");
        fails(event().dedup(""), "dedup: empty");
        fails(event().dedup(long.as_str()), "dedup: 256 is more than 255");
        fails(event().header("", ""), "header name: empty");
        let many = (0..33).fold(event(), |event, _| event.header("a", ""));
        fails(many, "headers: 33 is more than 32");
        let large = event().header("a", vec![0; HEADERS_BYTES_MAX]);
        fails(large, "bytes of headers: 16385 is more than 16384");
        let large = event().payload(vec![0; PAYLOAD_BYTES_MAX + 1]);
        fails(large, "bytes of payload: 1048577 is more than 1048576");
    }

    #[test]
    fn the_largest_event_fits() {
        let text = "x".repeat(TEXT_BYTES_MAX);
        let mut event = Event::builder(id(), text.as_str())
            .key(text.as_str())
            .dedup(text.as_str())
            .payload(vec![1; PAYLOAD_BYTES_MAX]);
        for _ in 0..HEADERS_MAX {
            event = event.header("12", vec![2; HEADERS_BYTES_MAX / HEADERS_MAX - 2]);
        }
        let event = event.build().unwrap();
        assert_eq!(Event::decode(&event.encode()), Ok(event.clone()));
        assert_eq!(event.headers().count(), HEADERS_MAX);
    }
}
