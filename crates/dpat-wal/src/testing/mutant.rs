//! Known-bad variants of single rules.

/// A rule of this crate that is left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// Acknowledges what is written and not synced.
    AckBeforeSync,
    /// Does not sync the directory of a new segment.
    SkipDirectorySync,
    /// Does not sync the directory above a new log.
    SkipParentSync,
    /// Does not check the checksum of payloads.
    NoChecksum,
    /// Cuts off what is damaged, durable or not.
    CutInTheMiddle,
    /// Leaves a torn tail where it is, and writes over it.
    KeepTornTail,
    /// Takes what it finds at opening for durable.
    TrustFoundTail,
    /// Leaves what a failed write has written.
    KeepFailedWrite,
    /// Removes segments before the low-water mark is durable.
    RemoveBeforeMark,
    /// Names a snapshot before its content is synced.
    NameBeforeSync,
    /// Writes the records of a batch as frames of their own.
    SplitBatches,
    /// Goes on after a failed sync.
    SyncAgain,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AckBeforeSync,
        Self::SkipDirectorySync,
        Self::SkipParentSync,
        Self::NoChecksum,
        Self::CutInTheMiddle,
        Self::KeepTornTail,
        Self::TrustFoundTail,
        Self::KeepFailedWrite,
        Self::RemoveBeforeMark,
        Self::NameBeforeSync,
        Self::SplitBatches,
        Self::SyncAgain,
    ];

    /// Returns its name, in the form of the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::SkipDirectorySync => "skip-directory-sync",
            Self::SkipParentSync => "skip-parent-sync",
            Self::NoChecksum => "no-checksum",
            Self::CutInTheMiddle => "cut-in-the-middle",
            Self::KeepTornTail => "keep-torn-tail",
            Self::TrustFoundTail => "trust-found-tail",
            Self::KeepFailedWrite => "keep-failed-write",
            Self::RemoveBeforeMark => "remove-before-mark",
            Self::NameBeforeSync => "name-before-sync",
            Self::SplitBatches => "split-batches",
            Self::SyncAgain => "sync-again",
        }
    }

    /// Returns the rule that it breaks.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "a record is acknowledged once it is synced",
            Self::SkipDirectorySync => "a segment is written to once its name is durable",
            Self::SkipParentSync => "the log's directory is durable before anything in it counts",
            Self::NoChecksum => "a payload is read if its checksum holds",
            Self::CutInTheMiddle => "only what nothing proves to have been durable is cut off",
            Self::KeepTornTail => "a torn tail is gone for good before the next record is written",
            Self::TrustFoundTail => "what is found and not proved is written and synced once more",
            Self::KeepFailedWrite => "a write that failed is taken back",
            Self::RemoveBeforeMark => "segments go once the low-water mark is durable",
            Self::NameBeforeSync => "a snapshot has its name once its content is durable",
            Self::SplitBatches => "a batch is one frame",
            Self::SyncAgain => "a failed sync is final",
        }
    }

    /// Finds a mutant by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
