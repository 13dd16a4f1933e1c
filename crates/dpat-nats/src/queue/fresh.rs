//! What was sent, and not handed out yet as far as this handle knows.
//!
//! A server answers a send once the message is stored, and its consumer hears of the message a moment later. A pull that does
//! not wait may find nothing in between.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::jetstream::Which;
use crate::queue::Inner;
use crate::queue::streams::CONSUMER;

/// Sequence numbers.
pub(crate) struct Fresh {
    /// The last message that is known to be stored.
    stored: AtomicU64,
    /// The last one that is known to be handed out.
    handed: AtomicU64,
}

impl Fresh {
    /// Of a stream as it was found.
    pub(crate) const fn new(stored: u64) -> Self {
        Self {
            stored: AtomicU64::new(stored),
            handed: AtomicU64::new(0),
        }
    }

    pub(crate) fn stored(&self, seq: u64) {
        self.stored.fetch_max(seq, Ordering::Relaxed);
    }

    pub(crate) fn handed(&self, seq: u64) {
        self.handed.fetch_max(seq, Ordering::Relaxed);
    }

    /// The last message that may not have been handed out.
    fn last(&self) -> Option<u64> {
        let stored = self.stored.load(Ordering::Relaxed);
        (stored > self.handed.load(Ordering::Relaxed)).then_some(stored)
    }
}

impl Inner {
    /// Says whether a message that is stored was held back from a pull that found nothing.
    pub(crate) async fn is_held_back(&self) -> bool {
        let Some(last) = self.fresh.last() else {
            return false;
        };
        let name = &self.settings.name;
        // Whoever cannot look takes the pull's word for it.
        let Ok(consumer) = self.js.consumer(name, CONSUMER).await else {
            return false;
        };
        if consumer.delivered.stream_seq >= last {
            self.fresh.handed(last);
            return false;
        }
        // Then nothing is handed out, and rightly so.
        if consumer.paused || consumer.num_ack_pending >= self.settings.out_max {
            return false;
        }
        match self.js.get(name, Which::Seq(last)).await {
            Ok(Some(_)) => true,
            // It was removed before it was handed out.
            Ok(None) => {
                self.fresh.handed(last);
                false
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_fresh_until_it_is_handed_out() {
        let fresh = Fresh::new(7);
        assert_eq!(fresh.last(), Some(7));
        fresh.handed(7);
        assert_eq!(fresh.last(), None);
        fresh.stored(9);
        fresh.handed(8);
        fresh.stored(8);
        assert_eq!(fresh.last(), Some(9));
        fresh.handed(9);
        assert_eq!(fresh.last(), None);
    }
}
