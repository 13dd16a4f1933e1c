//! Results that the machine has not seen yet, because they cannot change any answer.

use crate::sync::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// How many results wait at most.
pub(crate) const CAPACITY: u32 = 32;

/// How many failures a backlog takes at most.
pub(crate) const MAX_SLACK: u32 = 63;

/// A short queue of plain results in one word.
///
/// The holder of the machine's lock opens it with a *slack*: so many more failures cannot trip any rule, whatever
/// successes come between. Until those are used up, a result is one compare-and-swap. Whoever takes the lock next
/// closes the backlog and lets the machine count what is in it, in order, before anything else.
///
/// The word holds the low bits of the epoch too, so that a result never lands in the backlog of a later period. (They
/// would repeat after 2²⁰ changes of state, all within the few instructions between two loads of one thread.)
#[derive(Debug)]
pub(crate) struct Backlog(AtomicU64);

#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    const LEN_SHIFT: u32 = 32;
    const SLACK_SHIFT: u32 = 38;
    const EPOCH_SHIFT: u32 = 44;
    /// Longer than any backlog that was open: neither does anything enter, nor is it taken for one that is full.
    const CLOSED: u64 = 0x3F << Self::LEN_SHIFT;

    const fn len(self) -> u32 {
        (self.0 >> Self::LEN_SHIFT & 0x3F) as u32
    }

    const fn takes(self, failed: bool) -> bool {
        self.len() < CAPACITY && (!failed || self.0 >> Self::SLACK_SHIFT & 0x3F > 0)
    }

    const fn is_of(self, epoch: u64) -> bool {
        self.0 >> Self::EPOCH_SHIFT == epoch << Self::EPOCH_SHIFT >> Self::EPOCH_SHIFT
    }

    const fn with(self, failed: bool) -> Self {
        let longer = self.0 + (1 << Self::LEN_SHIFT);
        if failed {
            Self((longer - (1 << Self::SLACK_SHIFT)) | 1 << self.len())
        } else {
            Self(longer)
        }
    }
}

impl Backlog {
    pub(crate) fn closed() -> Self {
        Self(AtomicU64::new(Word::CLOSED))
    }

    /// Adds a result. Returns false if it has to go to the machine.
    #[inline]
    pub(crate) fn push(&self, epoch: u64, failed: bool) -> bool {
        let mut seen = self.0.load(Relaxed);
        loop {
            let word = Word(seen);
            if !word.takes(failed) || !word.is_of(epoch) {
                return false;
            }
            // Acquire: sees the gate that was published before the backlog was opened.
            match self
                .0
                .compare_exchange_weak(seen, word.with(failed).0, AcqRel, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Says whether results wait.
    pub(crate) fn is_waiting(&self) -> bool {
        let word = self.0.load(Relaxed);
        word != Word::CLOSED && Word(word).len() > 0
    }

    /// Takes what waits and lets nothing in. The caller holds the machine's lock.
    #[inline]
    pub(crate) fn close(&self) -> Pending {
        // Only the holder of the lock opens it: closed now is closed until we open it.
        if self.0.load(Relaxed) == Word::CLOSED {
            return Pending { len: 0, failed: 0 };
        }
        let word = Word(self.0.swap(Word::CLOSED, Acquire));
        Pending {
            len: word.len(),
            failed: word.0,
        }
    }

    /// Lets results in again, of which at most `slack` failures. The caller holds the machine's lock.
    #[inline]
    pub(crate) fn open(&self, epoch: u64, slack: u32) {
        let slack = u64::from(slack.min(MAX_SLACK));
        let word = epoch << Word::EPOCH_SHIFT | slack << Word::SLACK_SHIFT;
        self.0.store(word, Release);
    }
}

/// The results taken from a [`Backlog`], oldest first: whether each failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    len: u32,
    failed: u64,
}

impl Iterator for Pending {
    type Item = bool;

    #[inline]
    fn next(&mut self) -> Option<bool> {
        self.len = self.len.checked_sub(1)?;
        let failed = self.failed & 1 == 1;
        self.failed >>= 1;
        Some(failed)
    }
}

#[cfg(all(test, not(dpat_loom)))]
mod tests {
    use super::*;

    #[test]
    fn results_come_out_in_order() {
        let backlog = Backlog::closed();
        assert!(!backlog.push(5, false));
        backlog.open(5, 2);
        for failed in [true, false, false, true] {
            assert!(backlog.push(5, failed));
        }
        assert!(!backlog.push(5, true), "the slack is used up");
        assert!(backlog.push(5, false));
        assert!(backlog.is_waiting());
        let expected = [true, false, false, true, false];
        assert!(backlog.close().eq(expected));
        assert!(!backlog.is_waiting());
        assert_eq!(backlog.close().count(), 0);
    }

    #[test]
    fn a_full_backlog_is_not_a_closed_one() {
        let backlog = Backlog::closed();
        backlog.open(0, 0);
        for _ in 0..CAPACITY {
            assert!(backlog.push(0, false));
        }
        assert!(!backlog.push(0, false));
        assert!(backlog.is_waiting());
        assert_eq!(backlog.close().count(), 32);
    }

    #[test]
    fn it_takes_32_results_and_63_failures() {
        let backlog = Backlog::closed();
        backlog.open(1, u32::MAX);
        for _ in 0..CAPACITY {
            assert!(backlog.push(1, true));
        }
        assert!(!backlog.push(1, false));
        assert_eq!(backlog.close().filter(|failed| *failed).count(), 32);
    }

    #[test]
    fn it_takes_results_of_its_epoch_only() {
        let backlog = Backlog::closed();
        let late = (1 << 30) + 7;
        backlog.open(late, 10);
        assert!(!backlog.push(late - 1, false));
        assert!(!backlog.push(late + 1, false));
        assert!(backlog.push(late, false));
    }
}
