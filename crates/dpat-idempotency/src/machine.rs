//! What a key allows: (record, question, now) → decision. No clock, store or randomness.
//!
//! A record is absent, claimed, in doubt or done. A claim whose lease has ended is in doubt without being rewritten. The
//! nonce of a claim says whose it is, also after a write whose outcome nobody knows: reading it back tells.

use std::time::Duration;

use bytes::Bytes;
use dpat_core::{CorrelationId, Entropy, Wall};
use serde::{Deserialize, Serialize};

use crate::config::{Config, OnDoubt};
use crate::fingerprint::Fingerprint;

/// Names one claim; drawn, never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nonce([u8; 16]);

impl Nonce {
    pub(crate) fn draw(entropy: &(impl Entropy + ?Sized)) -> Self {
        Self(CorrelationId::random(entropy).to_bytes())
    }

    #[cfg(test)]
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Who claimed a key for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) nonce: Nonce,
    /// Counts from 1; more than one only where doubt is retaken.
    pub(crate) attempt: u32,
}

/// What a store holds for a key. Times are nanoseconds of the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// Somebody acts, or died doing so.
    Claimed { claimed: Claimed, until: u64 },
    /// Somebody acted, and it is not known what came of it.
    Doubt { claimed: Claimed, since: u64 },
    /// Somebody acted, and this is the answer.
    Done {
        claimed: Claimed,
        until: u64,
        response: Bytes,
    },
}

impl Record {
    pub(crate) const fn claimed(&self) -> &Claimed {
        match self {
            Self::Claimed { claimed, .. }
            | Self::Doubt { claimed, .. }
            | Self::Done { claimed, .. } => claimed,
        }
    }

    /// When the store may forget the record by itself; never, while its outcome is open.
    pub(crate) const fn expires(&self) -> Option<Wall> {
        match self {
            Self::Done { until, .. } => Some(Wall::from_nanos(*until)),
            Self::Claimed { .. } | Self::Doubt { .. } => None,
        }
    }

    /// Since when the record is in doubt, if it is.
    pub(crate) fn doubt(&self, now: Wall) -> Option<Wall> {
        match self {
            Self::Claimed { until, .. } if *until <= now.as_nanos() => {
                Some(Wall::from_nanos(*until))
            }
            Self::Doubt { since, .. } => Some(Wall::from_nanos(*since)),
            Self::Claimed { .. } | Self::Done { .. } => None,
        }
    }
}

/// Whoever wants to act.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) nonce: Nonce,
    pub(crate) now: Wall,
}

/// What to do about a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Write this claim, if the record is still what it was; then act.
    Claim(Claimed, Wall),
    /// The claim is there already: an earlier write of ours.
    Held(Claimed, Wall),
    /// Answer this.
    Replay(Bytes),
    /// Somebody acts until then.
    Busy(Wall),
    /// The key stands for another request.
    Reused,
    /// Nobody knows, since then.
    Doubt(Wall),
}

impl Ask {
    /// The claim of a key of which nothing is known, and until when it holds.
    pub(crate) fn first(&self, config: &Config) -> (Claimed, Wall) {
        self.attempt(1, config)
    }

    fn attempt(&self, attempt: u32, config: &Config) -> (Claimed, Wall) {
        let claimed = Claimed {
            fingerprint: self.fingerprint,
            nonce: self.nonce,
            attempt,
        };
        (claimed, self.now + config.lease)
    }
}

/// Decides whether to act.
pub(crate) fn begin(record: Option<&Record>, ask: &Ask, config: &Config) -> Decision {
    let claim = |attempt| {
        let (claimed, until) = ask.attempt(attempt, config);
        Decision::Claim(claimed, until)
    };
    let Some(record) = record else {
        return claim(1);
    };
    let claimed = record.claimed();
    if record.expires().is_some_and(|until| until <= ask.now) {
        return claim(1);
    }
    if let Record::Claimed { until, .. } = record
        && claimed.nonce == ask.nonce
    {
        return Decision::Held(*claimed, Wall::from_nanos(*until));
    }
    if claimed.fingerprint != ask.fingerprint {
        return Decision::Reused;
    }
    if let Some(since) = record.doubt(ask.now) {
        return match config.on_doubt {
            OnDoubt::Retake => claim(claimed.attempt.saturating_add(1)),
            OnDoubt::Report => Decision::Doubt(since),
        };
    }
    match record {
        Record::Claimed { until, .. } => Decision::Busy(Wall::from_nanos(*until)),
        Record::Doubt { since, .. } => Decision::Doubt(Wall::from_nanos(*since)),
        Record::Done { response, .. } => Decision::Replay(response.clone()),
    }
}

/// What the holder of a claim wants.
#[derive(Clone, Debug)]
pub(crate) enum Finish {
    /// It happened, and this is the answer.
    Complete(Bytes),
    /// It surely did not happen.
    Release,
    /// It may have happened, and nobody will say more.
    Doubt,
    /// It takes longer.
    Extend,
}

/// What to do for the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finishing {
    /// Write this, if the record is still what it was.
    Put(Record),
    /// Remove the record, if it is still what it was.
    Remove,
    /// It is so already: an earlier write of ours.
    Already,
    /// The claim is another's, or gone.
    Superseded,
}

/// Decides what becomes of a claim.
pub(crate) fn finish(
    record: Option<&Record>,
    nonce: Nonce,
    what: &Finish,
    now: Wall,
    config: &Config,
) -> Finishing {
    let Some(record) = record else {
        // Released before, by a write whose outcome was not known.
        return match what {
            Finish::Release => Finishing::Already,
            _ => Finishing::Superseded,
        };
    };
    let claimed = *record.claimed();
    if claimed.nonce != nonce {
        return Finishing::Superseded;
    }
    let doubt = Record::Doubt {
        claimed,
        since: now.as_nanos(),
    };
    match (record, what) {
        (Record::Done { .. }, Finish::Complete(_)) => Finishing::Already,
        (Record::Done { .. }, _) => Finishing::Superseded,
        // Also after the lease: the answer is the end of the doubt.
        (_, Finish::Complete(response)) => Finishing::Put(Record::Done {
            claimed,
            until: (now + config.retention).as_nanos(),
            response: response.clone(),
        }),
        // What an earlier attempt did is still not known.
        (_, Finish::Release) if claimed.attempt > 1 => Finishing::Put(doubt),
        (_, Finish::Release) => Finishing::Remove,
        (Record::Claimed { .. }, Finish::Doubt) => Finishing::Put(doubt),
        (Record::Doubt { .. }, Finish::Doubt) => Finishing::Already,
        (Record::Claimed { until, .. }, Finish::Extend) => Finishing::Put(Record::Claimed {
            claimed,
            until: (now + config.lease).as_nanos().max(*until),
        }),
        (Record::Doubt { .. }, Finish::Extend) => Finishing::Superseded,
    }
}

/// What an operator has found out about a key in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Done(Bytes),
    NotDone,
}

/// Decides what becomes of a key in doubt; none if it is not in doubt.
pub(crate) fn resolve(
    record: Option<&Record>,
    found: &Found,
    now: Wall,
    retention: Duration,
) -> Option<Finishing> {
    let record = record?;
    record.doubt(now)?;
    Some(match found {
        Found::NotDone => Finishing::Remove,
        Found::Done(response) => Finishing::Put(Record::Done {
            claimed: *record.claimed(),
            until: (now + retention).as_nanos(),
            response: response.clone(),
        }),
    })
}

#[cfg(test)]
mod tests;
