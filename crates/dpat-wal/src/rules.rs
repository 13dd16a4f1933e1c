//! The rules that tests can leave out. Without the feature `test-util` there is nothing to ask, and nothing is left out.

#[cfg(feature = "test-util")]
use crate::testing::Mutant;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(feature = "test-util")]
    pub(crate) left_out: Option<Mutant>,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $mutant:ident;)+) => {
        #[cfg(feature = "test-util")]
        impl Rules {
            $($(#[$doc])* pub(crate) fn $rule(self) -> bool {
                self.left_out != Some(Mutant::$mutant)
            })+
        }

        #[cfg(not(feature = "test-util"))]
        #[allow(clippy::unused_self)] // the same calls as with the feature
        impl Rules {
            $($(#[$doc])* pub(crate) const fn $rule(self) -> bool {
                true
            })+
        }
    };
}

rules! {
    /// A record is acknowledged once it is synced.
    sync_first = AckBeforeSync;
    /// A segment is written to once its name is durable.
    sync_directory = SkipDirectorySync;
    /// The log's directory is durable before anything in it counts.
    sync_parent = SkipParentSync;
    /// A payload is read if its checksum holds.
    checksum = NoChecksum;
    /// Only what nothing proves to have been durable is cut off.
    report_damage = CutInTheMiddle;
    /// A torn tail is gone for good before the next record is written.
    cut_torn_tail = KeepTornTail;
    /// What is found and not proved is written and synced once more.
    rewrite_found = TrustFoundTail;
    /// A write that failed is taken back.
    undo_failed_write = KeepFailedWrite;
    /// Segments go once the low-water mark is durable.
    mark_before_removal = RemoveBeforeMark;
    /// A snapshot has its name once its content is durable.
    sync_before_name = NameBeforeSync;
    /// A batch is one frame.
    batch_is_one_frame = SplitBatches;
    /// A failed sync is final.
    failed_sync_is_final = SyncAgain;
}
