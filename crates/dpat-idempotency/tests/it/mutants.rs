//! The laws hold without a bug, each bug breaks the law that is about it, and each law is broken by some bug.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dpat_idempotency::conformance::{Law, inbox_laws, response_laws, store_laws};

use crate::bugs::{InboxBug, Inboxes, StoreBug, Stores};

dpat_idempotency::store_laws!(Stores(None));

mod responses {
    use super::Stores;

    dpat_idempotency::response_laws!(Stores(None));
}

mod inbox {
    use super::Inboxes;

    dpat_idempotency::inbox_laws!(Inboxes(None));
}

const STORE_BUGS: &[(StoreBug, &str)] = &[
    (StoreBug::PutOverwrites, "a_row_is_put_where_there_is_none"),
    (StoreBug::VersionUnchecked, "a_version_is_swapped_once"),
    (
        StoreBug::VersionStaysForEqualContent,
        "a_version_is_swapped_once",
    ),
    (StoreBug::RemoveUnchecked, "a_removed_row_is_gone"),
    (StoreBug::RemoveKeepsTheRow, "a_removed_row_is_gone"),
    (StoreBug::VersionsRestart, "versions_never_come_back"),
    (StoreBug::KeysFold, "rows_are_kept_apart"),
    (StoreBug::ScanUnsorted, "scans_go_in_order_and_pages"),
    (StoreBug::ScanIncludesAfter, "scans_go_in_order_and_pages"),
    (StoreBug::PurgesEarly, "purging_takes_what_may_be_forgotten"),
    (
        StoreBug::PurgesByOldTime,
        "purging_takes_what_may_be_forgotten",
    ),
    (
        StoreBug::PurgeIgnoresMax,
        "purging_takes_what_may_be_forgotten",
    ),
    (StoreBug::RowsAreCut, "large_rows_come_back_whole"),
    (StoreBug::ReopenForgets, "rows_survive_reopening"),
    (StoreBug::SwapInTwoSteps, "one_of_many_swaps_wins"),
    (StoreBug::InsertOverwrites, "an_insert_tells_what_is_there"),
    (
        StoreBug::InsertForgetsItsTime,
        "an_insert_tells_what_is_there",
    ),
    (
        StoreBug::InsertTellsTheVersionBefore,
        "an_insert_tells_what_is_there",
    ),
    (
        StoreBug::InsertFindsWhatItBrought,
        "an_insert_tells_what_is_there",
    ),
    (
        StoreBug::InsertInTwoSteps,
        "one_of_many_inserts_wins_and_is_found",
    ),
    // The differential law finds these by itself.
    (StoreBug::PutOverwrites, "random_swaps_match_the_model"),
    (StoreBug::RemoveUnchecked, "random_swaps_match_the_model"),
    (StoreBug::PurgesByOldTime, "random_swaps_match_the_model"),
    (StoreBug::ReopenForgets, "random_swaps_match_the_model"),
];

/// Bugs of a store that the laws of the responses above it find, too.
const RESPONSE_BUGS: &[(StoreBug, &str)] = &[
    (StoreBug::InsertInTwoSteps, "one_of_many_acts"),
    (StoreBug::RemoveKeepsTheRow, "a_released_key_is_free"),
    (StoreBug::ScanIncludesAfter, "doubt_is_listed_and_resolved"),
    (StoreBug::PurgesEarly, "expired_responses_are_forgotten"),
    (StoreBug::ReopenForgets, "claims_survive_reopening"),
];

const INBOX_BUGS: &[(InboxBug, &str)] = &[
    (InboxBug::ActsAgain, "a_message_takes_effect_once"),
    (InboxBug::OutcomeIsForgotten, "a_message_takes_effect_once"),
    (
        InboxBug::MarkerBeforeTheTransaction,
        "a_rollback_leaves_nothing",
    ),
    (
        InboxBug::EffectBeforeTheTransaction,
        "a_rollback_leaves_nothing",
    ),
    (InboxBug::CrashCommits, "a_crash_leaves_nothing"),
    (
        InboxBug::FailureKeepsTheMarker,
        "a_failed_effect_leaves_nothing",
    ),
    (
        InboxBug::FingerprintIsIgnored,
        "another_message_under_the_key_is_refused",
    ),
    (InboxBug::NoTombstone, "a_cancelled_message_does_nothing"),
    (InboxBug::UndoneTwice, "a_cancelled_message_is_undone_once"),
    (
        InboxBug::OwnMarkersUnseen,
        "within_a_transaction_markers_are_seen",
    ),
    (InboxBug::KeysFold, "markers_are_kept_apart"),
    (
        InboxBug::ReopenForgets,
        "markers_survive_what_was_committed",
    ),
    (InboxBug::SweepsTheYoung, "old_markers_are_forgotten"),
    (InboxBug::SweepIgnoresMax, "old_markers_are_forgotten"),
    (
        InboxBug::OwnMarkersUnseen,
        "random_transactions_match_the_model",
    ),
    (
        InboxBug::CrashCommits,
        "random_transactions_match_the_model",
    ),
];

/// Whether the law finds the bug, by an error or by a panic on what cannot be.
fn finds<H>(laws: &[Law<H>], name: &str, harness: &H) -> bool {
    let (_, law) = laws.iter().find(|(law, _)| *law == name).unwrap();
    catch_unwind(AssertUnwindSafe(|| law(harness).is_err())).unwrap_or(true)
}

#[track_caller]
fn each_law_is_broken<H, B>(laws: &[Law<H>], table: &[(B, &str)]) {
    let broken: BTreeSet<&str> = table.iter().map(|(_, law)| *law).collect();
    let all: BTreeSet<&str> = laws.iter().map(|(law, _)| *law).collect();
    assert_eq!(all, broken);
}

#[test]
fn each_bug_of_a_store_breaks_its_law() {
    for (bug, law) in STORE_BUGS {
        assert!(
            finds(&store_laws(), law, &Stores(Some(*bug))),
            "{law} does not find {bug:?}"
        );
    }
    each_law_is_broken::<Stores, _>(&store_laws(), STORE_BUGS);
    for (bug, law) in RESPONSE_BUGS {
        assert!(
            finds(&response_laws(), law, &Stores(Some(*bug))),
            "{law} does not find {bug:?}"
        );
    }
}

#[test]
fn each_bug_of_an_inbox_breaks_its_law() {
    for (bug, law) in INBOX_BUGS {
        assert!(
            finds(&inbox_laws(), law, &Inboxes(Some(*bug))),
            "{law} does not find {bug:?}"
        );
    }
    each_law_is_broken::<Inboxes, _>(&inbox_laws(), INBOX_BUGS);
}
