//! Bytes of a stream, counted by whoever sends.
//!
//! Servers before 2.11 let a message in by its payload and headers alone, and then, if what they store is over the limit of
//! bytes, remove the oldest messages: also under `discard: new`, and without a word
//! (<https://github.com/nats-io/nats-server/issues/4775>). Their streams are made without that limit, and it is kept here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use dpat_core::{Classify as _, Effect};
use tokio::sync::Mutex as Turn;
use tokio::time::Instant;

use crate::error::EngineError;
use crate::jetstream::{JetStream, STORE_FAILED, StreamConfig, StreamInfo};
use crate::sync::Mutex;
use crate::version::ServerVersion;

/// From this one on servers count as they store.
const EXACT: ServerVersion = ServerVersion::new(2, 11, 0);

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(5);

/// For how long on one connection a message counts that was let in and never answered: by then it is stored, or never will be.
const DOUBT: Duration = Duration::from_secs(5);

/// Doubts that are kept apart; more are added to the latest.
const DOUBTS_MAX: usize = 64;

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
    /// Let in, and given up without an answer.
    doubts: Mutex<VecDeque<Doubt>>,
}

/// Bytes of which nobody knows whether they are stored, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    bytes: u64,
    /// The latest time at which they may have been sent, on the connection of this number.
    at: Instant,
    connection: u64,
}

impl Doubt {
    /// Whether it still counts. What waits in the client is sent on the next connection.
    fn stays(&mut self, connection: u64, now: Instant) -> bool {
        if self.connection != connection {
            (self.connection, self.at) = (connection, now);
        }
        now.saturating_duration_since(self.at) < DOUBT
    }
}

#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    /// That of the connection; the server behind another one may have been killed, and count otherwise.
    connection: u64,
    left: u64,
    added: u64,
}

impl Seen {
    fn admits(&self, bytes: u64, connection: u64, now: Instant) -> bool {
        let is_fresh =
            self.connection == connection && now.saturating_duration_since(self.at) < FRESH;
        is_fresh && self.added.saturating_add(bytes) <= self.left / PART
    }
}

/// Bytes that were let in. What is not [answered](Self::answered) when it is dropped stays in doubt for a while.
#[must_use]
pub(crate) struct UnderWay<'r> {
    room: &'r Room,
    connection: u64,
    bytes: u64,
    doubtful: u64,
}

impl UnderWay<'_> {
    /// Notes that a message of so many bytes is stored, or surely is not.
    pub(crate) fn answered(&mut self, bytes: u64) {
        self.doubtful = self.doubtful.saturating_sub(bytes);
    }

    /// Notes what became of all of it.
    pub(crate) fn ended<T>(mut self, result: &Result<T, EngineError>) {
        let is_known = match result {
            Ok(_) => true,
            Err(error) => error.effect() == Effect::NotDone,
        };
        if is_known {
            self.answered(self.bytes);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // First the one, then the other: in between it counts twice.
        if self.doubtful > 0 {
            self.room.doubt(Doubt {
                bytes: self.doubtful,
                at: Instant::now(),
                connection: self.connection,
            });
        }
        self.room.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Room {
    /// Of a stream as it was found on the connection of this number: one that has a limit needs no counting.
    pub(crate) fn of(found: &StreamInfo, limit: u64, connection: u64) -> Self {
        Self {
            stream: found.config.name.clone(),
            limit,
            is_counted: found.config.max_bytes < 0,
            seen: Turn::new(Seen {
                at: Instant::now(),
                connection,
                left: limit.saturating_sub(found.state.bytes),
                added: 0,
            }),
            under_way: AtomicU64::new(0),
            doubts: Mutex::new(VecDeque::new()),
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
            return Ok((sizes.len(), self.under_way(0, 0)));
        }
        let mut seen = self.seen.lock().await;
        let (connection, now) = (js.connection().connects(), Instant::now());
        let all = sizes.iter().sum();
        if seen.admits(all, connection, now) {
            seen.added += all;
            return Ok((sizes.len(), self.under_way(all, connection)));
        }
        let before = self.under_way.load(Ordering::Relaxed) + self.doubtful(connection, now);
        // Apart, so that calls are small that do not look.
        let state = Box::pin(js.stream(&self.stream)).await?.state;
        let left = self
            .limit
            .saturating_sub(state.bytes.saturating_add(before));
        let (count, added) = fitting(sizes, left);
        *seen = Seen {
            at: now,
            connection,
            left,
            added,
        };
        Ok((count, self.under_way(added, connection)))
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

    fn under_way(&self, bytes: u64, connection: u64) -> UnderWay<'_> {
        self.under_way.fetch_add(bytes, Ordering::Relaxed);
        UnderWay {
            room: self,
            connection,
            bytes,
            doubtful: bytes,
        }
    }

    fn doubt(&self, doubt: Doubt) {
        self.doubts.with(|doubts| {
            // The latest, that it stays as long as the newer one of both.
            let merged = match doubts.len() >= DOUBTS_MAX {
                true => doubts.pop_back().map_or(0, |latest| latest.bytes),
                false => 0,
            };
            let bytes = doubt.bytes.saturating_add(merged);
            doubts.push_back(Doubt { bytes, ..doubt });
        });
    }

    /// The bytes that are in doubt, seen from a connection.
    fn doubtful(&self, connection: u64, now: Instant) -> u64 {
        self.doubts.with(|doubts| {
            doubts.retain_mut(|doubt| doubt.stays(connection, now));
            doubts.iter().map(|doubt| doubt.bytes).sum()
        })
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

    fn room(limit: u64) -> Room {
        let mut found = StreamInfo::default();
        found.config.max_bytes = -1;
        Room::of(&found, limit, 1)
    }

    #[test]
    fn a_look_is_good_for_a_part_of_its_room_for_a_while_and_for_its_connection() {
        let at = Instant::now();
        let seen = Seen {
            at,
            connection: 1,
            left: 800,
            added: 60,
        };
        assert!(seen.admits(40, 1, at));
        assert!(!seen.admits(41, 1, at));
        assert!(!seen.admits(1, 1, at + FRESH));
        assert!(!seen.admits(1, 2, at));
    }

    #[test]
    fn what_was_not_answered_counts_for_a_while_from_the_last_connection_on() {
        let room = room(1_000);
        let now = Instant::now();
        let mut half = room.under_way(70, 1);
        half.answered(30);
        drop(half);
        room.under_way(5, 1).ended(&Ok(()));
        room.under_way(6, 1).ended::<()>(&Err(full()));
        room.under_way(7, 1).ended::<()>(&Err(EngineError::Lost));
        assert_eq!(room.under_way.load(Ordering::Relaxed), 0);
        assert_eq!(room.doubtful(1, now), 47);
        // What waited in the client may be sent by now.
        let later = now + 2 * DOUBT;
        assert_eq!(room.doubtful(2, later), 47);
        assert_eq!(room.doubtful(2, later + DOUBT / 2), 47);
        assert_eq!(room.doubtful(2, later + DOUBT), 0);
    }

    #[test]
    fn doubts_are_bounded_and_none_is_forgotten() {
        let room = room(1_000);
        let count = 3 * DOUBTS_MAX as u64;
        (0..count).for_each(|_| drop(room.under_way(1, 1)));
        assert!(room.doubts.with(|doubts| doubts.len()) <= DOUBTS_MAX);
        assert_eq!(room.doubtful(1, Instant::now()), count);
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
