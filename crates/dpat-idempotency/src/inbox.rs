//! The idempotent receiver: marker and effect in one transaction.
//!
//! A message that comes twice takes effect once, because what remembers it is written by the transaction of the effect: both
//! are there, or neither. That holds through every crash, and it holds only for effects in that transaction; for others
//! (a call to another service, an e-mail) use [`Responses`](crate::Responses), which can tell doubt.
//!
//! [`accept`] and [`cancel`] work on any synchronous transaction through two methods ([`Markers`]); an asynchronous one
//! calls [`Marker::judge`] between its own reading and writing. [`MemoryDb`] is a small database to try it on.
//!
//! Keep markers longer than anybody goes on sending: longer than the relay's retry horizon, with dead letters that are
//! sent again by hand in mind.
//!
//! # Examples
//! ```
//! use dpat_core::{Clock, SystemClock};
//! use dpat_idempotency::inbox::{Accepted, MemoryDb, accept};
//! use dpat_idempotency::{Fingerprint, Key};
//!
//! let db = MemoryDb::new();
//! let key = Key::new("shipping", "order-7")?;
//! for delivery in 0..2 {
//!     let mut tx = db.begin();
//!     let accepted = accept(&mut tx, &key, Fingerprint::NONE, SystemClock.wall(), |tx| {
//!         tx.put(b"parcel-7", b"sent");
//!         Ok::<_, std::convert::Infallible>("label 1".into())
//!     })?;
//!     tx.commit()?;
//!     let label = bytes::Bytes::from("label 1");
//!     match delivery {
//!         0 => assert_eq!(accepted, Accepted::First(label)),
//!         _ => assert_eq!(accepted, Accepted::Again(label)),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod memory;

pub use memory::{CommitError, MemoryDb, MemoryTx};

use bytes::Bytes;
use dpat_codec::{Codec, DecodeError, Flat, Postcard};
use dpat_core::{Class, Classify, Effect, Wall};
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::trace;

/// The longest outcome that a marker keeps, in bytes: 64 KiB.
pub const OUTCOME_BYTES_MAX: usize = 64 << 10;

const CODEC: Postcard = Postcard::with_bytes_max(OUTCOME_BYTES_MAX + 64);

/// Most markers have no more bytes.
const BYTES: usize = 64;

/// What a receiver remembers of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    state: State,
    at: Wall,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// It took effect.
    Done {
        fingerprint: Fingerprint,
        outcome: Bytes,
    },
    /// It was cancelled, before it came or after.
    Cancelled,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
enum Stored {
    V0 { state: State, at: u64 },
}

impl Flat for Stored {}

/// What a marker says about a message that comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: act, and write a marker.
    First,
    /// It took effect before, with this outcome.
    Again(Bytes),
    /// It was cancelled: do nothing.
    Cancelled,
    /// The key stands for another message.
    Reused,
}

/// What a marker says about a cancellation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The message took effect, with this outcome: undo it.
    Effect(Bytes),
    /// The message never came: there is nothing to undo, and it must not act when it comes.
    Nothing,
    /// It was cancelled before.
    Already,
}

/// An outcome above [`OUTCOME_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outcome: {got} bytes are more than {OUTCOME_BYTES_MAX}")]
pub struct OutcomeTooLong {
    /// Bytes of the outcome.
    pub got: usize,
}

impl Classify for OutcomeTooLong {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

impl Marker {
    /// Remembers that a message took effect at `at`.
    ///
    /// # Errors
    /// [`OutcomeTooLong`].
    pub fn done(
        fingerprint: Fingerprint,
        outcome: Bytes,
        at: Wall,
    ) -> Result<Self, OutcomeTooLong> {
        if outcome.len() > OUTCOME_BYTES_MAX {
            return Err(OutcomeTooLong { got: outcome.len() });
        }
        let state = State::Done {
            fingerprint,
            outcome,
        };
        Ok(Self { state, at })
    }

    /// Remembers that a message was cancelled at `at`.
    #[must_use]
    pub const fn cancelled(at: Wall) -> Self {
        Self {
            state: State::Cancelled,
            at,
        }
    }

    /// Returns when it was written.
    #[must_use]
    pub const fn at(&self) -> Wall {
        self.at
    }

    /// Returns the stored form, version 0.
    #[must_use]
    #[allow(
        clippy::missing_panics_doc,
        reason = "a marker is flat, and its outcome within the limit"
    )]
    pub fn encode(&self) -> Bytes {
        let stored = Stored::V0 {
            state: self.state.clone(),
            at: self.at.as_nanos(),
        };
        let mut bytes = Vec::with_capacity(BYTES);
        CODEC
            .encode_flat(&stored, &mut bytes)
            .expect("a marker is flat, and its outcome within the limit");
        bytes.into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Stored::V0 { state, at } = CODEC.decode_flat(bytes)?;
        Ok(Self {
            state,
            at: Wall::from_nanos(at),
        })
    }

    /// Decides about a message that comes.
    #[must_use]
    pub fn judge(marker: Option<&Self>, fingerprint: Fingerprint) -> Verdict {
        match marker.map(|marker| &marker.state) {
            None => Verdict::First,
            Some(State::Cancelled) => Verdict::Cancelled,
            Some(State::Done {
                fingerprint: earlier,
                outcome,
            }) => match *earlier == fingerprint {
                true => Verdict::Again(outcome.clone()),
                false => Verdict::Reused,
            },
        }
    }

    /// Decides about a cancellation.
    #[must_use]
    pub fn judge_cancel(marker: Option<&Self>) -> Undo {
        match marker.map(|marker| &marker.state) {
            None => Undo::Nothing,
            Some(State::Cancelled) => Undo::Already,
            Some(State::Done { outcome, .. }) => Undo::Effect(outcome.clone()),
        }
    }
}

/// The markers within the caller's transaction.
///
/// The transaction must be serialisable where it reads and writes a marker: two that accept the same key at once may not
/// both commit.
pub trait Markers {
    /// What can go wrong with the transaction.
    type Error;

    /// Reads the marker of a key.
    ///
    /// # Errors
    /// The transaction's.
    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, Self::Error>;

    /// Writes the marker of a key; `at` is when it was written, for the index by which old ones are forgotten.
    ///
    /// # Errors
    /// The transaction's.
    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), Self::Error>;
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It took effect now, with this outcome.
    First(Bytes),
    /// It took effect before, with this outcome.
    Again(Bytes),
    /// It was cancelled, and did nothing.
    Cancelled,
}

/// Why a message was not accepted: roll the transaction back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError<S, E> {
    /// The key was used for another message.
    #[error("key: already used for another message")]
    Reused,
    /// The effect failed.
    #[error("{0}")]
    Effect(#[source] E),
    /// The outcome is too long.
    #[error(transparent)]
    Outcome(#[from] OutcomeTooLong),
    /// The stored marker cannot be read.
    #[error("stored marker: {0}")]
    Corrupt(#[source] DecodeError),
    /// The transaction failed.
    #[error("transaction: {0}")]
    Store(#[source] S),
}

impl<S: Classify, E: Classify> Classify for AcceptError<S, E> {
    fn class(&self) -> Class {
        match self {
            Self::Reused => Class::InvalidInput,
            Self::Effect(error) => error.class(),
            Self::Outcome(error) => error.class(),
            Self::Corrupt(_) => Class::Corrupt,
            Self::Store(error) => error.class(),
        }
    }

    /// Nothing has happened, once the transaction is rolled back.
    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

fn read<T: Markers + ?Sized, E>(
    tx: &mut T,
    key: &Key,
) -> Result<Option<Marker>, AcceptError<T::Error, E>> {
    let bytes = tx.marker(key).map_err(AcceptError::Store)?;
    let marker = bytes.map(|bytes| Marker::decode(&bytes));
    marker.transpose().map_err(AcceptError::Corrupt)
}

/// Lets a message take effect unless it did before or was cancelled.
///
/// `effect` works on the same transaction; its outcome is remembered and returned to whoever sends the message again. Nothing
/// is durable before the caller commits.
///
/// # Errors
/// [`AcceptError`]. The transaction may hold parts of the effect: roll it back.
pub fn accept<T: Markers + ?Sized, E>(
    tx: &mut T,
    key: &Key,
    fingerprint: Fingerprint,
    now: Wall,
    effect: impl FnOnce(&mut T) -> Result<Bytes, E>,
) -> Result<Accepted, AcceptError<T::Error, E>> {
    let marker = read(tx, key)?;
    let accepted = match Marker::judge(marker.as_ref(), fingerprint) {
        Verdict::First => {
            let outcome = effect(tx).map_err(AcceptError::Effect)?;
            let marker = Marker::done(fingerprint, outcome.clone(), now)?;
            tx.set_marker(key, marker.encode(), now)
                .map_err(AcceptError::Store)?;
            Accepted::First(outcome)
        }
        Verdict::Again(outcome) => Accepted::Again(outcome),
        Verdict::Cancelled => Accepted::Cancelled,
        Verdict::Reused => {
            trace::accepted(key, "reused");
            return Err(AcceptError::Reused);
        }
    };
    let outcome = match &accepted {
        Accepted::First(_) => "first",
        Accepted::Again(_) => "again",
        Accepted::Cancelled => "cancelled",
    };
    trace::accepted(key, outcome);
    Ok(accepted)
}

/// Cancels a message: undoes its effect if it had one, and refuses it from now on.
///
/// `undo` is given the outcome, and is called only if the message took effect. (The barrier of the TCC literature: a
/// cancellation that comes first undoes nothing, and a message that comes after it does nothing.)
///
/// # Errors
/// [`AcceptError`]. The transaction may hold parts of the undoing: roll it back.
pub fn cancel<T: Markers + ?Sized, E>(
    tx: &mut T,
    key: &Key,
    now: Wall,
    undo: impl FnOnce(&mut T, &Bytes) -> Result<(), E>,
) -> Result<Undo, AcceptError<T::Error, E>> {
    let marker = read(tx, key)?;
    let verdict = Marker::judge_cancel(marker.as_ref());
    if let Undo::Effect(outcome) = &verdict {
        undo(tx, outcome).map_err(AcceptError::Effect)?;
    }
    if verdict != Undo::Already {
        tx.set_marker(key, Marker::cancelled(now).encode(), now)
            .map_err(AcceptError::Store)?;
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_stay_the_same() {
        let at = Wall::from_nanos(300);
        let done = Marker::done(Fingerprint::from_bytes([1; 16]), "ok".into(), at).unwrap();
        let golden = [
            (
                done,
                [&[0, 0][..], &[1; 16], &[2, b'o', b'k', 172, 2]].concat(),
            ),
            (Marker::cancelled(at), vec![0, 1, 172, 2]),
        ];
        for (marker, bytes) in golden {
            assert_eq!(marker.encode(), bytes);
            assert_eq!(Marker::decode(&bytes), Ok(marker.clone()));
            assert_eq!(marker.at(), at);
            for end in 0..bytes.len() {
                assert!(Marker::decode(&bytes[..end]).is_err());
            }
        }
    }

    #[test]
    fn the_longest_outcome_fits() {
        let outcome = |len| {
            let bytes = Bytes::from(vec![7; len]);
            Marker::done(Fingerprint::NONE, bytes, Wall::MAX)
        };
        let marker = outcome(OUTCOME_BYTES_MAX).unwrap();
        assert_eq!(Marker::decode(&marker.encode()), Ok(marker));
        let error = outcome(OUTCOME_BYTES_MAX + 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "outcome: 65537 bytes are more than 65536"
        );
        assert_eq!(
            (error.class(), error.effect()),
            (Class::InvalidInput, Effect::NotDone)
        );
    }
}
