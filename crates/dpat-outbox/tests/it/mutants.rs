//! The laws hold without a bug, each bug breaks the law that is about it, and each law is broken by some bug.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dpat_outbox::conformance::outbox_laws;

use crate::bugs::{Bug, Outboxes};

dpat_outbox::outbox_laws!(Outboxes(None));

const CAUGHT_BY: &[(Bug, &str)] = &[
    (
        Bug::HeadersAreDropped,
        "an_event_comes_back_as_it_was_appended",
    ),
    (Bug::RollbackCommits, "what_is_not_committed_is_not_claimed"),
    (Bug::LeaseIsIgnored, "a_claim_holds_until_its_lease_ends"),
    (Bug::TokenIsIgnored, "a_claim_holds_until_its_lease_ends"),
    (Bug::RepetitionIsLost, "settled_events_are_settled_once"),
    (Bug::ReleaseWaits, "released_events_are_free_at_once"),
    (Bug::RowsMaxIsIgnored, "claims_are_bounded"),
    (Bug::LaneMaxIsIgnored, "claims_are_bounded"),
    (Bug::BytesMaxIsIgnored, "claims_are_bounded"),
    (Bug::DedupIsIgnored, "a_double_append_is_none"),
    (Bug::LimitsAreIgnored, "a_full_backlog_refuses_appends"),
    (Bug::WaitIsDeaf, "waiting_ends_with_an_append"),
    (Bug::ReopenForgets, "everything_survives_reopening"),
    (Bug::KeysAreIgnored, "order_is_kept_within_a_key"),
    (Bug::RetryFreesTheKey, "a_failed_event_holds_its_key"),
    (Bug::EverythingHasOneKey, "events_without_a_key_do_not_wait"),
    (Bug::AlwaysBlocks, "a_parked_event_blocks_or_is_set_aside"),
    (Bug::NeverBlocks, "a_parked_event_blocks_or_is_set_aside"),
    (
        Bug::CursorOverPositions,
        "a_transaction_that_commits_late_is_not_passed_over",
    ),
    (Bug::RepairSaysDone, "parked_events_are_listed_and_repaired"),
    (Bug::DiscardRetries, "parked_events_are_listed_and_repaired"),
    (
        Bug::ReplayIgnoresTheTopic,
        "replays_send_again_what_was_sent",
    ),
    (Bug::ReplayIsASend, "replays_send_again_what_was_sent"),
    (Bug::PurgesEarly, "purging_removes_what_was_sent_long_ago"),
    (
        Bug::PurgeIgnoresMax,
        "purging_removes_what_was_sent_long_ago",
    ),
    (Bug::LagForgetsTheParked, "lag_counts_what_waits"),
    // The differential law finds these by itself.
    (Bug::RollbackCommits, "random_operations_match_the_model"),
    (Bug::LeaseIsIgnored, "random_operations_match_the_model"),
    (Bug::RetryFreesTheKey, "random_operations_match_the_model"),
    (Bug::NeverBlocks, "random_operations_match_the_model"),
    (Bug::ReopenForgets, "random_operations_match_the_model"),
];

#[test]
fn each_bug_breaks_its_law_and_each_law_is_broken() {
    let laws = outbox_laws::<Outboxes>();
    for (bug, name) in CAUGHT_BY {
        let (_, law) = laws.iter().find(|(law, _)| law == name).unwrap();
        // By an error, or by a panic on what cannot be.
        let found = catch_unwind(AssertUnwindSafe(|| law(&Outboxes(Some(*bug))).is_err()));
        assert!(found.unwrap_or(true), "{name} does not find {bug:?}");
    }
    let broken: BTreeSet<&str> = CAUGHT_BY.iter().map(|(_, law)| *law).collect();
    let all: BTreeSet<&str> = laws.iter().map(|(law, _)| *law).collect();
    assert_eq!(all, broken);
}
