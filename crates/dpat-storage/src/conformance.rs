//! The laws of [`Storage`] and [`File`](crate::File), as tests for any implementation.
//!
//! Give a [`Harness`] that makes fresh storages to [`storage_laws!`](crate::storage_laws), and it expands to one `#[test]`
//! a law. A storage that can lose power on purpose, such as a simulated disk, implements [`Faults`] too and runs
//! [`storage_fault_laws!`](crate::storage_fault_laws). Each law is also a function, and [`laws`] and [`fault_laws`] list
//! them.
//!
//! The last law of each list is differential: [`Op`]s drawn from a seed run against the storage and against one pure model,
//! and a difference is shrunk to the fewest operations that still show it.
//!
//! # Examples
//! ```
//! use dpat_storage::{MemStorage, conformance::Harness};
//!
//! #[derive(Default)]
//! struct InMemory;
//!
//! impl Harness for InMemory {
//!     type Storage = MemStorage;
//!     fn fresh(&self) -> MemStorage {
//!         MemStorage::new()
//!     }
//!     fn reopen(&self, storage: MemStorage) -> MemStorage {
//!         storage
//!     }
//! }
//!
//! dpat_storage::storage_laws!(InMemory::default());
//! # fn main() {}
//! ```

mod fault_laws;
mod laws;
mod model;
mod random;

use std::fmt;

use crate::error::{ErrorKind, Operation, StorageError};
use crate::storage::Storage;

pub use fault_laws::{
    a_failed_change_is_unknown, a_failed_directory_sync_stops_changes_of_names,
    a_failed_sync_finishes_the_handle, a_power_cut_ends_handles_and_lock,
    a_rename_never_loses_the_file, an_unsynced_write_spares_its_neighbours,
    new_directories_survive_by_the_one_above, random_power_cuts_match_the_model,
    synced_content_survives, synced_names_survive, synced_removals_survive,
};
pub use laws::{
    append_goes_to_the_end, create_refuses_a_taken_name, directories_go_only_when_empty,
    empty_writes_change_nothing, ends_beyond_the_limit_are_refused,
    everything_is_there_after_reopening, files_and_directories_are_told_apart,
    files_need_their_directory, handles_share_the_file, holes_read_as_zeros,
    lists_are_sorted_and_flat, metadata_tells_kind_and_length, paths_outside_the_rules_are_refused,
    random_operations_match_the_model, reads_stop_at_the_end, removed_files_live_in_their_handles,
    rename_replaces_and_handles_follow, the_lock_has_one_owner, truncate_cuts_and_extends,
};
pub use random::{Op, run, run_with_faults};

/// What the laws need of the storage under test.
pub trait Harness {
    /// The storage under test.
    type Storage: Storage;

    /// Makes an empty storage that shares nothing with earlier ones.
    fn fresh(&self) -> Self::Storage;

    /// Closes a storage and opens it again, as a restarted process would.
    fn reopen(&self, storage: Self::Storage) -> Self::Storage;
}

/// What the laws about power cuts and failures need besides.
pub trait Faults: Harness {
    /// Cuts the power and returns the storage as it is after the restart.
    ///
    /// `seed` chooses what of the unsynced changes survives. Handles and locks from before end with
    /// [`ErrorKind::Closed`].
    fn power_cut(&self, storage: Self::Storage, seed: u64) -> Self::Storage;

    /// Makes the next call of `operation` with good arguments fail: a sync with [`ErrorKind::SyncFailed`], anything else with
    /// [`ErrorKind::Io`]. What it was to change may or may not happen.
    fn fail_next(&self, storage: &Self::Storage, operation: Operation);
}

/// How a storage breaks a law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// Describes a violation.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

impl From<StorageError> for Violation {
    fn from(error: StorageError) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// A law and its name.
pub type Law<H> = (&'static str, fn(&H) -> Result<(), Violation>);

/// Fails the law unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($format:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Violation::new(format!($($format)+)));
        }
    };
}
use ensure;

/// Fails unless the operation was refused with `kind`, and says that it did nothing.
fn refused<T>(
    result: Result<T, StorageError>,
    kind: ErrorKind,
    what: &str,
) -> Result<(), Violation> {
    use dpat_core::{Classify, Effect};
    match result {
        Ok(_) => Err(Violation::new(format!("{what}: succeeded, not {kind:?}"))),
        Err(error) if error.kind() != kind => Err(Violation::new(format!(
            "{what}: {:?} instead of {kind:?}",
            error.kind()
        ))),
        Err(error) if error.effect() != Effect::NotDone => Err(Violation::new(format!(
            "{what}: refused with {kind:?}, and yet the effect is unknown"
        ))),
        Err(_) => Ok(()),
    }
}

/// Reads a whole file through as many short reads as the storage likes.
fn content<F: crate::File + ?Sized>(file: &F) -> Result<Vec<u8>, StorageError> {
    let len = file.len()?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Reads a whole file by its path.
fn content_of<S: Storage>(storage: &S, path: &str) -> Result<Vec<u8>, StorageError> {
    content(&storage.open(path)?)
}

/// Declares the list of laws and the macro that makes a test of each.
macro_rules! law_list {
    ($d:tt $(#[$list_doc:meta])* $list:ident, $(#[$macro_doc:meta])* $macro:ident, $bound:ident, $($law:ident),+ $(,)?) => {
        $(#[$list_doc])*
        #[must_use]
        pub fn $list<H: $bound>() -> Vec<Law<H>> {
            vec![$((stringify!($law), $law::<H>)),+]
        }

        $(#[$macro_doc])*
        #[macro_export]
        macro_rules! $macro {
            ($d harness:expr) => {
                $(
                    #[test]
                    fn $law() {
                        if let Err(violation) = $crate::conformance::$law(&$d harness) {
                            panic!("{violation}");
                        }
                    }
                )+
            };
        }
    };
}

law_list!(
    $
    /// Returns all laws that need no faults.
    laws,
    /// Expands to one `#[test]` for each law that needs no faults, run on the given
    /// [`Harness`](crate::conformance::Harness).
    storage_laws,
    Harness,
    create_refuses_a_taken_name,
    files_need_their_directory,
    files_and_directories_are_told_apart,
    paths_outside_the_rules_are_refused,
    reads_stop_at_the_end,
    holes_read_as_zeros,
    empty_writes_change_nothing,
    ends_beyond_the_limit_are_refused,
    append_goes_to_the_end,
    truncate_cuts_and_extends,
    handles_share_the_file,
    rename_replaces_and_handles_follow,
    removed_files_live_in_their_handles,
    directories_go_only_when_empty,
    lists_are_sorted_and_flat,
    metadata_tells_kind_and_length,
    the_lock_has_one_owner,
    everything_is_there_after_reopening,
    random_operations_match_the_model,
);

law_list!(
    $
    /// Returns all laws about power cuts and failures.
    fault_laws,
    /// Expands to one `#[test]` for each law about power cuts and failures, run on the given
    /// [`Faults`](crate::conformance::Faults).
    storage_fault_laws,
    Faults,
    synced_content_survives,
    synced_names_survive,
    synced_removals_survive,
    new_directories_survive_by_the_one_above,
    a_rename_never_loses_the_file,
    an_unsynced_write_spares_its_neighbours,
    a_power_cut_ends_handles_and_lock,
    a_failed_sync_finishes_the_handle,
    a_failed_directory_sync_stops_changes_of_names,
    a_failed_change_is_unknown,
    random_power_cuts_match_the_model,
);
