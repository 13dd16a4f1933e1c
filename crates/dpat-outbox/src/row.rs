//! Where an event stands: the state of a row, its stored form, and what may become of it.
//!
//! Pure: every backend stores these bytes and asks these functions. The state lives in the row, not in a cursor over
//! positions, so that an event whose transaction commits late is no event that was passed over.

use bytes::Bytes;
use dpat_codec::{Codec, DecodeError, Postcard};
use dpat_core::{CorrelationId, Entropy, Wall};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

use crate::event::Event;

/// The longest reason that is kept, in bytes: 256.
pub const REASON_BYTES_MAX: usize = 256;

const CODEC: Postcard = Postcard::with_bytes_max(REASON_BYTES_MAX + 256);

/// The place of an event in its outbox: grows in the order of appending, with gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one claim: whoever settles shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token([u8; 16]);

impl Token {
    /// Draws a token. What was drawn once must never be drawn again, in this process or another.
    pub fn draw(entropy: &(impl Entropy + ?Sized)) -> Self {
        Self(CorrelationId::random(entropy).to_bytes())
    }

    /// Takes sixteen bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Within which order is kept: a key, or one event alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(Box<[u8]>);

impl Lane {
    /// Returns the lane of an event.
    #[must_use]
    pub fn of(event: &Event, position: Position) -> Self {
        Self(match event.key() {
            None => [&[0], &position.0.to_be_bytes()[..]].concat().into(),
            Some(key) => [&[1], key.as_bytes()].concat().into(),
        })
    }

    /// Takes the bytes that [`as_bytes`](Self::as_bytes) gave.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Returns the form for stores; no lane is the beginning of another of the same length.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where an event is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It may be claimed, from a time on.
    Pending {
        /// Nanoseconds of the wall clock.
        not_before: u64,
    },
    /// A relay has it, or died with it.
    Claimed {
        /// Whose claim it is.
        token: Token,
        /// When the claim ends, in nanoseconds of the wall clock.
        until: u64,
    },
    /// The other side has acknowledged it.
    Sent {
        /// When, in nanoseconds of the wall clock.
        at: u64,
    },
    /// It was given up, until somebody repairs it.
    Parked {
        /// When, in nanoseconds of the wall clock.
        at: u64,
        /// Whether the later events of its key wait for it.
        blocks: bool,
        /// Why, at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
}

/// The state of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowState {
    phase: Phase,
    /// Failed attempts since it was appended, repaired or replayed.
    attempts: u32,
    /// How often it was replayed.
    replays: u32,
    appended_at: u64,
    /// When it was appended, repaired or replayed.
    entered_at: u64,
    /// When it was claimed for the first time since then.
    first_claim: Option<u64>,
}

#[derive(Serialize, Deserialize)]
enum Stored {
    V0(RowState),
}

/// How a row stands to its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It can be claimed from then on; until it is sent, what is behind it waits.
    Due(Wall),
    /// What is behind it waits until somebody repairs it.
    Blocks,
    /// It is not in the way.
    Gone,
}

/// What became of a publishing, as a relay tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Sent,
    /// It failed; try again from a time on.
    Retry {
        /// The earliest time.
        not_before: Wall,
    },
    /// It was not tried.
    Release,
    /// It is given up.
    Park {
        /// Whether the later events of its key wait for it.
        blocks: bool,
        /// Why; what is longer than [`REASON_BYTES_MAX`] bytes is cut.
        reason: String,
    },
}

/// What a relay tells about one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which row.
    pub position: Position,
    /// By which claim.
    pub token: Token,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a settlement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The row is as the settlement says.
    Done,
    /// The claim is another's by now, or over; nothing was changed.
    Lost,
}

impl RowState {
    /// The state of an event that is appended at `now`.
    #[must_use]
    pub const fn appended(now: Wall) -> Self {
        let now = now.as_nanos();
        Self {
            phase: Phase::Pending { not_before: now },
            attempts: 0,
            replays: 0,
            appended_at: now,
            entered_at: now,
            first_claim: None,
        }
    }

    /// Returns where the event is on its way.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Returns the failed attempts since it was appended, repaired or replayed.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns how often it was replayed.
    #[must_use]
    pub const fn replays(&self) -> u32 {
        self.replays
    }

    /// Returns when it was appended.
    #[must_use]
    pub const fn appended_at(&self) -> Wall {
        Wall::from_nanos(self.appended_at)
    }

    /// Returns since when it is under way: when it was appended, repaired or replayed.
    #[must_use]
    pub const fn entered_at(&self) -> Wall {
        Wall::from_nanos(self.entered_at)
    }

    /// Returns when it was first claimed since then, if it was.
    #[must_use]
    pub fn first_claim(&self) -> Option<Wall> {
        self.first_claim.map(Wall::from_nanos)
    }

    /// Says whether it counts to the backlog: neither sent nor parked.
    #[must_use]
    pub const fn is_backlog(&self) -> bool {
        matches!(self.phase, Phase::Pending { .. } | Phase::Claimed { .. })
    }

    /// Returns when it was sent, if it was.
    #[must_use]
    pub const fn sent_at(&self) -> Option<Wall> {
        match self.phase {
            Phase::Sent { at } => Some(Wall::from_nanos(at)),
            _ => None,
        }
    }

    /// Returns from when its lane can be claimed, if it is the first in it: never, if it is parked and blocks; and none, if
    /// it is not in its lane at all.
    #[must_use]
    pub fn due(&self) -> Option<Wall> {
        match self.standing() {
            Standing::Due(at) => Some(at),
            Standing::Blocks => Some(Wall::MAX),
            Standing::Gone => None,
        }
    }

    pub(crate) const fn standing(&self) -> Standing {
        match self.phase {
            Phase::Pending { not_before } => Standing::Due(Wall::from_nanos(not_before)),
            Phase::Claimed { until, .. } => Standing::Due(Wall::from_nanos(until)),
            Phase::Parked { blocks: true, .. } => Standing::Blocks,
            Phase::Parked { blocks: false, .. } | Phase::Sent { .. } => Standing::Gone,
        }
    }

    /// Claims the row, if it can be claimed at `now`; says whether it was.
    pub fn claim(&mut self, token: Token, now: Wall, lease: Duration) -> bool {
        match self.standing() {
            Standing::Due(at) if at <= now => {
                self.phase = Phase::Claimed {
                    token,
                    until: (now + lease).as_nanos(),
                };
                self.first_claim.get_or_insert(now.as_nanos());
                true
            }
            _ => false,
        }
    }

    /// Ends a claim.
    ///
    /// Repeating a settlement whose answer was lost changes nothing.
    pub fn settle(&mut self, token: Token, outcome: &Outcome, now: Wall) -> Settled {
        match (&self.phase, outcome) {
            (Phase::Claimed { token: holder, .. }, _) if *holder == token => {}
            (Phase::Sent { .. }, Outcome::Sent) => return Settled::Done,
            (Phase::Parked { .. }, Outcome::Park { .. }) => return Settled::Done,
            _ => return Settled::Lost,
        }
        match outcome {
            Outcome::Sent => self.phase = Phase::Sent { at: now.as_nanos() },
            Outcome::Retry { not_before } => {
                self.attempts = self.attempts.saturating_add(1);
                self.phase = Phase::Pending {
                    not_before: not_before.as_nanos(),
                };
            }
            Outcome::Release => {
                self.phase = Phase::Pending {
                    not_before: now.as_nanos(),
                };
            }
            Outcome::Park { blocks, reason } => {
                self.attempts = self.attempts.saturating_add(1);
                self.phase = Phase::Parked {
                    at: now.as_nanos(),
                    blocks: *blocks,
                    reason: cut(reason),
                };
            }
        }
        Settled::Done
    }

    /// Puts a parked row back on its way; says whether it was parked.
    pub fn retry(&mut self, now: Wall) -> bool {
        let parked = matches!(self.phase, Phase::Parked { .. });
        if parked {
            self.enter(now);
        }
        parked
    }

    /// Puts a sent row back on its way; says whether it was sent.
    pub fn replay(&mut self, now: Wall) -> bool {
        let sent = matches!(self.phase, Phase::Sent { .. });
        if sent {
            self.enter(now);
            self.replays = self.replays.saturating_add(1);
        }
        sent
    }

    fn enter(&mut self, now: Wall) {
        let now = now.as_nanos();
        self.phase = Phase::Pending { not_before: now };
        self.attempts = 0;
        self.entered_at = now;
        self.first_claim = None;
    }

    /// Returns the stored form, version 0.
    #[must_use]
    #[allow(
        clippy::missing_panics_doc,
        reason = "a state is flat, and its reason within the limit"
    )]
    pub fn encode(&self) -> Bytes {
        CODEC
            .to_vec(&Stored::V0(self.clone()))
            .expect("a state is flat, and its reason within the limit")
            .into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Stored::V0(state) = CODEC.decode(bytes)?;
        Ok(state)
    }
}

/// Cuts a reason to its limit, between two characters.
pub(crate) fn cut(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_nanos(10);
    const A: Token = Token([1; 16]);
    const B: Token = Token([2; 16]);

    fn at(nanos: u64) -> Wall {
        Wall::from_nanos(nanos)
    }

    fn park(blocks: bool) -> Outcome {
        Outcome::Park {
            blocks,
            reason: "bad".to_owned(),
        }
    }

    fn retry(at: u64) -> Outcome {
        Outcome::Retry {
            not_before: Wall::from_nanos(at),
        }
    }

    /// Claimed by A until 110.
    fn claimed() -> RowState {
        let mut row = RowState::appended(at(100));
        assert!(row.claim(A, at(100), LEASE));
        row
    }

    #[test]
    fn a_row_is_claimed_once_within_a_lease() {
        let mut row = RowState::appended(at(100));
        assert!(!row.claim(A, at(99), LEASE), "not before its time");
        assert!(row.claim(A, at(100), LEASE));
        assert!(!row.claim(B, at(109), LEASE), "held by another");
        assert!(row.claim(B, at(110), LEASE), "the lease is over");
        assert_eq!(
            row.first_claim(),
            Some(at(100)),
            "the first claim counts for the horizon"
        );
    }

    #[test]
    fn only_the_holder_settles() {
        for outcome in [Outcome::Sent, retry(200), Outcome::Release, park(true)] {
            let mut row = claimed();
            assert_eq!(row.settle(B, &outcome, at(105)), Settled::Lost);
            assert_eq!(row, claimed());
            // Also late, as long as nobody else has claimed.
            assert_eq!(row.settle(A, &outcome, at(200)), Settled::Done);
        }
    }

    #[test]
    fn a_settlement_can_be_repeated() {
        for (outcome, again) in [
            (Outcome::Sent, Settled::Done),
            (park(true), Settled::Done),
            (retry(200), Settled::Lost),
            (Outcome::Release, Settled::Lost),
        ] {
            let mut row = claimed();
            row.settle(A, &outcome, at(105));
            let before = row.clone();
            assert_eq!(row.settle(A, &outcome, at(106)), again);
            assert_eq!(row, before);
        }
    }

    #[test]
    fn a_late_success_does_not_mark_what_was_repaired() {
        let mut row = claimed();
        row.settle(A, &park(true), at(105));
        assert!(row.retry(at(106)));
        assert_eq!(row.settle(A, &Outcome::Sent, at(107)), Settled::Lost);
    }

    #[test]
    fn standing_in_the_lane() {
        let mut row = RowState::appended(at(100));
        assert_eq!(row.due(), Some(at(100)));
        row.claim(A, at(100), LEASE);
        assert_eq!(row.due(), Some(at(110)));
        for (outcome, due) in [
            (Outcome::Sent, None),
            (retry(200), Some(at(200))),
            (Outcome::Release, Some(at(105))),
            (park(true), Some(Wall::MAX)),
            (park(false), None),
        ] {
            let mut row = claimed();
            row.settle(A, &outcome, at(105));
            assert_eq!(row.due(), due, "{outcome:?}");
            assert!(!row.claim(B, at(104), LEASE));
        }
    }

    #[test]
    fn attempts_count_failures_only() {
        let mut row = claimed();
        row.settle(A, &Outcome::Release, at(101));
        assert_eq!(row.attempts(), 0);
        row.claim(A, at(101), LEASE);
        row.settle(A, &retry(102), at(101));
        row.claim(A, at(102), LEASE);
        row.settle(A, &park(false), at(103));
        assert_eq!(row.attempts(), 2);
        assert!(row.retry(at(104)));
        assert_eq!((row.attempts(), row.first_claim()), (0, None));
        assert_eq!((row.appended_at(), row.entered_at()), (at(100), at(104)));
    }

    #[test]
    fn only_parked_rows_are_retried_and_only_sent_ones_replayed() {
        let mut row = claimed();
        assert!(!row.retry(at(101)) && !row.replay(at(101)));
        row.settle(A, &Outcome::Sent, at(102));
        assert!(!row.retry(at(103)));
        assert!(row.replay(at(103)) && !row.replay(at(104)));
        assert_eq!(
            (row.replays(), row.due(), row.is_backlog()),
            (1, Some(at(103)), true)
        );
    }

    #[test]
    fn stored_bytes_stay_the_same() {
        let golden = |row: &RowState, bytes: &[u8]| {
            assert_eq!(row.encode(), bytes);
            assert_eq!(RowState::decode(bytes).as_ref(), Ok(row));
            for end in 0..bytes.len() {
                assert!(RowState::decode(&bytes[..end]).is_err());
            }
        };
        golden(
            &RowState::appended(at(100)),
            &[0, 0, 100, 0, 0, 100, 100, 0],
        );
        let mut row = claimed();
        golden(
            &row,
            &[&[0, 1][..], &[1; 16], &[110, 0, 0, 100, 100, 1, 100]].concat(),
        );
        row.settle(A, &Outcome::Sent, at(105));
        golden(&row, &[0, 2, 105, 0, 0, 100, 100, 1, 100]);
        let mut row = claimed();
        row.settle(A, &park(true), at(105));
        golden(
            &row,
            &[0, 3, 105, 1, 3, b'b', b'a', b'd', 1, 0, 100, 100, 1, 100],
        );
    }

    #[test]
    fn long_reasons_are_cut_and_fit() {
        let mut row = claimed();
        let reason = "ä".repeat(REASON_BYTES_MAX);
        row.settle(
            A,
            &Outcome::Park {
                blocks: true,
                reason,
            },
            Wall::MAX,
        );
        assert_eq!(RowState::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn lanes_keep_keys_and_single_events_apart() {
        let id = "018cc251-f400-7abc-8def-0123456789ab".parse().unwrap();
        let lane = |key: Option<&str>, position| {
            let event = Event::builder(id, "t");
            let event = match key {
                Some(key) => event.key(key),
                None => event,
            };
            Lane::of(&event.build().unwrap(), Position(position))
        };
        assert_eq!(lane(Some("a"), 1), lane(Some("a"), 2));
        assert_ne!(lane(None, 1), lane(None, 2));
        let eight = String::from_utf8(1_u64.to_be_bytes().to_vec()).unwrap();
        assert_ne!(lane(None, 1), lane(Some(&eight), 1));
        assert_eq!(Lane::from_bytes(lane(None, 1).as_bytes()), lane(None, 1));
    }
}
