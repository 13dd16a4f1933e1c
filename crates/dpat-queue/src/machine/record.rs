//! What happens to a queue, one record each. Times are nanoseconds since 1970.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::message::Parts;

/// A change. In memory it is applied and forgotten; on a log it is also written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A message was taken in.
    Sent {
        id: u64,
        at: u64,
        not_before: u64,
        expires: u64,
        parts: Parts,
    },
    /// A message is handed out for the `count`-th time.
    Claimed { id: u64, count: u32, until: u64 },
    /// A message was handled.
    Done { id: u64 },
    /// A message comes again, from a time on.
    Retried {
        id: u64,
        not_before: u64,
        reason: Option<Arc<str>>,
    },
    /// A message was given up.
    Rejected { id: u64, at: u64, reason: Arc<str> },
    /// A message went without being handled.
    Removed { id: u64, why: Why },
    /// A dead letter is a message again, at this place in the order.
    Replayed { id: u64, place: u64 },
    /// A dead letter was removed.
    Discarded { id: u64 },
    /// Delivery was stopped or resumed.
    Paused { paused: bool },
    /// Nothing: an answer waits for what was before it.
    Noted,
    /// Of a snapshot: the next number.
    Next { next: u64 },
    /// Of a snapshot: a message.
    Kept(Box<Kept>),
    /// Of a snapshot: a dead letter.
    Buried(Box<Buried>),
    /// Of a snapshot: a deduplication key.
    Remembered { key: Arc<str>, id: u64, until: u64 },
}

/// Why a message went without being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Why {
    Expired,
    Dropped,
    Purged,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) id: u64,
    pub(crate) place: u64,
    pub(crate) at: u64,
    pub(crate) not_before: u64,
    pub(crate) expires: u64,
    pub(crate) count: u32,
    /// The count when it was last replayed.
    pub(crate) base: u32,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Buried {
    pub(crate) id: u64,
    pub(crate) at: u64,
    pub(crate) sent_at: u64,
    pub(crate) count: u32,
    pub(crate) reason: Arc<str>,
    pub(crate) parts: Parts,
}
