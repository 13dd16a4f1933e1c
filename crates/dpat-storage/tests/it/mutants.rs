//! The laws hold on the lossy disk, each bug breaks the law that is about it, and each law is broken by some bug.

use std::collections::BTreeSet;

use dpat_storage::conformance::{Law, fault_laws, laws};

use crate::lossy::{Bug, Lossy};

dpat_storage::storage_laws!(Lossy(None));

mod faults {
    use super::Lossy;

    dpat_storage::storage_fault_laws!(Lossy(None));
}

const CAUGHT_BY: &[(Bug, &str)] = &[
    (Bug::CreateTruncates, "create_refuses_a_taken_name"),
    (Bug::FileAboveIsNotFound, "files_need_their_directory"),
    (
        Bug::RemoveTakesDirectories,
        "files_and_directories_are_told_apart",
    ),
    (Bug::PathsUnchecked, "paths_outside_the_rules_are_refused"),
    (Bug::EndIsAnError, "reads_stop_at_the_end"),
    (Bug::TruncateKeepsBytes, "truncate_cuts_and_extends"),
    (Bug::HoleIsNotZero, "holes_read_as_zeros"),
    (Bug::EmptyWriteExtends, "empty_writes_change_nothing"),
    (Bug::EndsUnchecked, "ends_beyond_the_limit_are_refused"),
    (Bug::AppendForgetsOthers, "append_goes_to_the_end"),
    (Bug::LenIsCached, "handles_share_the_file"),
    (
        Bug::RenameRefusesToReplace,
        "rename_replaces_and_handles_follow",
    ),
    (
        Bug::RemoveEmptiesTheFile,
        "removed_files_live_in_their_handles",
    ),
    (Bug::RemoveDirWithEntries, "directories_go_only_when_empty"),
    (Bug::ListUnsorted, "lists_are_sorted_and_flat"),
    (Bug::DirectoriesHaveLength, "metadata_tells_kind_and_length"),
    (Bug::LockIsShared, "the_lock_has_one_owner"),
    (Bug::ReopenCutsPower, "everything_is_there_after_reopening"),
    (
        Bug::AppendForgetsOthers,
        "random_operations_match_the_model",
    ),
    (Bug::SyncDataLies, "synced_content_survives"),
    (Bug::SyncDirLies, "synced_names_survive"),
    (Bug::SyncDirForgetsRemovals, "synced_removals_survive"),
    (Bug::SyncDirLies, "new_directories_survive_by_the_one_above"),
    (Bug::RenameTearsApart, "a_rename_never_loses_the_file"),
    (
        Bug::TornWriteHurtsNeighbours,
        "an_unsynced_write_spares_its_neighbours",
    ),
    (
        Bug::HandlesOutliveTheCut,
        "a_power_cut_ends_handles_and_lock",
    ),
    (Bug::LockOutlivesTheCut, "a_power_cut_ends_handles_and_lock"),
    (
        Bug::SyncAgainAfterFailure,
        "a_failed_sync_finishes_the_handle",
    ),
    (
        Bug::NamesAgainAfterFailure,
        "a_failed_directory_sync_stops_changes_of_names",
    ),
    (Bug::FailureClaimsNotDone, "a_failed_change_is_unknown"),
    // The differential law finds each durability bug by itself.
    (Bug::SyncDataLies, "random_power_cuts_match_the_model"),
    (Bug::SyncDirLies, "random_power_cuts_match_the_model"),
    (
        Bug::SyncDirForgetsRemovals,
        "random_power_cuts_match_the_model",
    ),
    (
        Bug::SyncDirIgnoresRenamesOut,
        "random_power_cuts_match_the_model",
    ),
    (Bug::RenameTearsApart, "random_power_cuts_match_the_model"),
    (
        Bug::TornWriteHurtsNeighbours,
        "random_power_cuts_match_the_model",
    ),
];

fn all() -> Vec<Law<Lossy>> {
    let mut all = laws();
    all.extend(fault_laws());
    all
}

#[test]
fn each_bug_breaks_its_law() {
    for (bug, name) in CAUGHT_BY {
        let (_, law) = all().into_iter().find(|(law, _)| law == name).unwrap();
        assert!(law(&Lossy(Some(*bug))).is_err(), "{bug:?} passes {name}");
    }
}

#[test]
fn each_law_is_broken_by_a_bug() {
    let caught: BTreeSet<_> = CAUGHT_BY.iter().map(|(_, name)| *name).collect();
    let all: BTreeSet<_> = all().into_iter().map(|(name, _)| name).collect();
    assert_eq!(caught, all);
}

#[test]
fn a_violation_is_shrunk_to_the_few_operations_that_matter() {
    let (_, law) = fault_laws::<Lossy>()
        .into_iter()
        .find(|(name, _)| *name == "random_power_cuts_match_the_model")
        .unwrap();
    let violation = law(&Lossy(Some(Bug::SyncDataLies)))
        .unwrap_err()
        .to_string();
    // Create, change, sync, sync the directory, cut.
    let operations = violation
        .split("these ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|count| count.parse::<u32>().ok())
        .unwrap();
    assert!((3..=6).contains(&operations), "{violation}");
}
