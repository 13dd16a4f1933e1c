//! Bytes of a stream, counted by whoever sends.
//!
//! Servers before 2.11 let a message in by its payload and headers alone, and then, if what they store is over the limit of
//! bytes, remove the oldest messages: also under `discard: new`, and without a word
//! (<https://github.com/nats-io/nats-server/issues/4775>). Their streams are made without that limit, and it is kept here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use tokio::sync::Mutex as Turn;
use tokio::time::Instant;

use crate::error::EngineError;
use crate::jetstream::{JetStream, STORE_FAILED, StreamConfig, StreamInfo};
use crate::version::ServerVersion;

/// From this one on servers count as they store.
const EXACT: ServerVersion = ServerVersion::new(2, 11, 0);

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(5);

/// What part of the room that a look has found may be filled before the next one: as many senders as this do not go over the
/// limit together, but for what they send at the very end.
const PART: u64 = 8;

/// What a server stores beside subject, headers and payload.
const RECORD: u64 = 22 + 4 + 8;

/// Returns what a server stores of a message, or a little more.
pub(crate) fn stored(subject: &str, headers: &HeaderMap, payload: usize) -> u64 {
    let line = |name: &str, value: &str| name.len() + value.len() + 4;
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| line(name, value.as_str()))
    });
    let bytes = subject.len() + lines.sum::<usize>() + "NATS/1.0\r\n\r\n".len() + payload;
    RECORD + bytes as u64
}

/// Takes the limit of bytes from a stream if the server keeps it in such a way that messages are lost.
pub(crate) fn limited(js: &JetStream, config: StreamConfig) -> StreamConfig {
    match js.connection().server_version() < EXACT {
        true => StreamConfig {
            max_bytes: -1,
            ..config
        },
        false => config,
    }
}

/// The room of one stream.
pub(crate) struct Room {
    stream: String,
    limit: u64,
    is_counted: bool,
    /// Held while looking, so that nobody is let in meanwhile.
    seen: Turn<Seen>,
    /// Let in, and not answered yet: a look may or may not find it.
    under_way: AtomicU64,
}

#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    left: u64,
    added: u64,
}

impl Seen {
    fn admits(&self, bytes: u64, now: Instant) -> bool {
        let is_fresh = now.saturating_duration_since(self.at) < FRESH;
        is_fresh && self.added.saturating_add(bytes) <= self.left / PART
    }
}

/// Bytes that were let in; to be dropped when the server has answered.
#[must_use]
pub(crate) struct UnderWay<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.room.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Room {
    /// Of a stream as it was found: one that has a limit needs no counting.
    pub(crate) fn of(found: &StreamInfo, limit: u64) -> Self {
        Self {
            stream: found.config.name.clone(),
            limit,
            is_counted: found.config.max_bytes < 0,
            seen: Turn::new(Seen {
                at: Instant::now(),
                left: limit.saturating_sub(found.state.bytes),
                added: 0,
            }),
            under_way: AtomicU64::new(0),
        }
    }

    /// Lets in as many of these messages as there is room for, the first ones; looks at the stream if the last look says too
    /// little.
    pub(crate) async fn admit(
        &self,
        js: &JetStream,
        sizes: &[u64],
    ) -> Result<(usize, UnderWay<'_>), EngineError> {
        if !self.is_counted {
            return Ok((sizes.len(), self.under_way(0)));
        }
        let mut seen = self.seen.lock().await;
        let now = Instant::now();
        let all = sizes.iter().sum();
        if seen.admits(all, now) {
            seen.added += all;
            return Ok((sizes.len(), self.under_way(all)));
        }
        let before = self.under_way.load(Ordering::Relaxed);
        let state = js.stream(&self.stream).await?.state;
        let left = self
            .limit
            .saturating_sub(state.bytes.saturating_add(before));
        let (count, added) = fitting(sizes, left);
        *seen = Seen {
            at: now,
            left,
            added,
        };
        Ok((count, self.under_way(added)))
    }

    /// [`admit`](Self::admit) for one message.
    pub(crate) async fn admit_one(
        &self,
        js: &JetStream,
        bytes: u64,
    ) -> Result<UnderWay<'_>, EngineError> {
        match self.admit(js, &[bytes]).await? {
            (0, _) => Err(full()),
            (_, under_way) => Ok(under_way),
        }
    }

    fn under_way(&self, bytes: u64) -> UnderWay<'_> {
        self.under_way.fetch_add(bytes, Ordering::Relaxed);
        UnderWay { room: self, bytes }
    }
}

/// How many messages fit, the first ones, and their bytes.
fn fitting(sizes: &[u64], left: u64) -> (usize, u64) {
    let mut sum: u64 = 0;
    for (count, size) in sizes.iter().enumerate() {
        match sum.checked_add(*size).filter(|sum| *sum <= left) {
            Some(more) => sum = more,
            None => return (count, sum),
        }
    }
    (sizes.len(), sum)
}

/// What a server says.
pub(crate) fn full() -> EngineError {
    EngineError::Refused {
        code: STORE_FAILED,
        description: "maximum bytes exceeded".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_good_for_a_part_of_its_room_and_for_a_while() {
        let at = Instant::now();
        let seen = Seen {
            at,
            left: 800,
            added: 60,
        };
        assert!(seen.admits(40, at));
        assert!(!seen.admits(41, at));
        assert!(!seen.admits(1, at + FRESH));
    }

    #[test]
    fn the_first_messages_that_fit_are_let_in() {
        assert_eq!(fitting(&[3, 4, 5], 12), (3, 12));
        assert_eq!(fitting(&[3, 4, 5], 11), (2, 7));
        assert_eq!(fitting(&[3, 1], 2), (0, 0));
        assert_eq!(fitting(&[u64::MAX, u64::MAX], u64::MAX), (1, u64::MAX));
    }

    #[test]
    fn what_is_stored_is_more_than_what_is_sent() {
        let mut headers = HeaderMap::new();
        assert_eq!(stored("a.b", &headers, 10), 34 + 3 + 12 + 10);
        headers.insert("Name", "value");
        assert_eq!(stored("a.b", &headers, 10), 34 + 3 + 12 + 10 + 13);
    }
}
