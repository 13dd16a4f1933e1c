//! Each pattern left out breaks the invariant it protects, and nothing else; the same seed with it is ok.

use dpat_cases::shop::config::{Config, Pattern, Scenario};
use dpat_cases::shop::domain::State;
use dpat_cases::shop::record::{Outcome, RunRecord};
use dpat_cases::shop::run::block_on;
use dpat_cases::shop::service::shipping::ATTEMPTS_MAX;
use dpat_cases::shop::view::Silent;

/// A run of this many orders a second.
const RATE: u32 = 150;
/// A queue grows only if far more orders come than are packed, also on a machine that is busy with other tests.
const FLOOD: u32 = 600;

fn small(scenario: Scenario, without: &[Pattern]) -> RunRecord {
    run(scenario, without, RATE)
}

/// Runs for two seconds.
fn run(scenario: Scenario, without: &[Pattern], rate: u32) -> RunRecord {
    let config = Config {
        scenario,
        seed: 7,
        orders: u64::from(2 * rate),
        rate: f64::from(rate),
        without: without.to_vec(),
        ..Config::default()
    };
    block_on(config, &mut Silent).unwrap()
}

/// Runs a scenario on both sides at once.
#[test]
fn a_scenario_shows_both_sides() {
    let record = small(Scenario::RetryStorm, &[]);
    let other = record.comparison.expect("the other side");
    assert_eq!(other.without, ["budget"]);
    assert_eq!(other.verdict.verdict, Outcome::Violated);
    assert_eq!(record.verdict.verdict, Outcome::Ok);
    assert!(small(Scenario::Shop, &[]).comparison.is_none());
}

/// Runs with and without a pattern; returns how often its invariant broke, and the limit.
#[track_caller]
fn check(scenario: Scenario, pattern: Pattern) -> (u64, u64) {
    let rate = match pattern {
        Pattern::Backpressure => FLOOD,
        _ => RATE,
    };
    let with = run(scenario, &[], rate).verdict;
    assert_eq!(with.violations, [], "with {pattern}");
    assert_eq!(with.verdict, Outcome::Ok);
    assert!(with.is_as_expected());
    assert_eq!(with.orders, u64::from(2 * rate));
    assert_eq!(with.orders, with.accepted + with.rejected);
    assert_eq!(
        with.accepted,
        with.completed + with.compensated + with.unresolved
    );
    assert_eq!(with.unresolved, 0);

    let without = run(scenario, &[pattern], rate).verdict;
    let broken: Vec<&str> = without
        .violations
        .iter()
        .map(|violation| violation.invariant.as_str())
        .collect();
    assert_eq!(broken, [pattern.invariant()]);
    assert_eq!(without.expected, [pattern.invariant()]);
    assert_eq!(without.verdict, Outcome::Violated);
    assert!(without.is_as_expected());
    let violation = &without.violations[0];
    let first = violation
        .first
        .as_ref()
        .expect("the first bad event is named");
    assert!(first.order_id.is_some());
    assert!(!first.event.is_empty());
    (violation.count, violation.limit)
}

#[test]
fn without_retry_a_transient_error_stops_an_order() {
    let (count, limit) = check(Scenario::Shop, Pattern::Retry);
    assert!(count > 0 && limit == 0);
}

#[test]
fn without_breaker_a_service_that_is_away_is_called_on_and_on() {
    let (count, limit) = check(Scenario::Shop, Pattern::Breaker);
    assert!(count > 5 * limit, "{count} calls, {limit} allowed");
}

#[test]
fn without_idempotency_a_lost_answer_charges_twice() {
    let (count, limit) = check(Scenario::Shop, Pattern::Idempotency);
    assert!(count > 0 && limit == 0);
}

#[test]
fn pitfall_19_1_without_outbox_a_crash_after_the_commit_loses_the_event() {
    let (count, limit) = check(Scenario::Shop, Pattern::Outbox);
    assert!(count > 0 && limit == 0);
}

#[test]
fn pitfall_1_3_without_ack_a_crash_after_the_receipt_loses_the_event() {
    let (count, limit) = check(Scenario::Shop, Pattern::Ack);
    assert!(count > 0 && limit == 0);
}

#[test]
fn without_backpressure_a_queue_grows_beyond_its_limit() {
    let (count, limit) = check(Scenario::Shop, Pattern::Backpressure);
    assert!(count > limit, "{count} bytes, {limit} allowed");
}

#[test]
fn without_backpressure_a_slow_consumer_is_buried() {
    let (count, limit) = check(Scenario::SlowConsumer, Pattern::Backpressure);
    assert!(count > limit, "{count} bytes, {limit} allowed");
}

#[test]
fn poisonous_messages_become_dead_letters_and_stop_nobody() {
    let record = small(Scenario::PoisonMessage, &[]);
    assert_eq!(record.verdict.violations, []);
    assert_eq!(record.dead_letters.len(), 3);
    for letter in &record.dead_letters {
        assert_eq!(letter.attempts, ATTEMPTS_MAX);
        assert!(letter.reason.contains("injected error"), "{letter:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    dpat_cases::shop::report::write(&record, &path).unwrap();
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page.contains(&record.dead_letters[0].order_id));
}

#[test]
fn without_budget_retries_multiply_in_a_storm() {
    let (count, limit) = check(Scenario::RetryStorm, Pattern::Budget);
    assert!(count > limit, "{count} retries, {limit} allowed");
}

#[test]
fn without_breaker_a_failure_cascades() {
    let (count, limit) = check(Scenario::CascadingFailure, Pattern::Breaker);
    assert!(count > 5 * limit, "{count} calls, {limit} allowed");
}

#[test]
fn a_run_leaves_a_record_to_draw() {
    let record = small(Scenario::Shop, &[]);
    let faults = &record.verdict.faults_injected;
    for kind in ["error", "drop", "latency", "hang", "kill"] {
        assert!(faults[kind] > 0, "no {kind} in {faults:?}");
    }
    assert_eq!(faults["kill"], record.verdict.restarts);
    // By the timetable, after a completion, and after the receipt of an event: each once.
    assert_eq!(record.verdict.restarts, 6);
    assert_eq!(record.dead_letters.len(), 0);
    assert!(record.samples.len() >= 2);
    assert!(record.faults.is_sorted_by_key(|fault| fault.at_ms));
    let looked_at = |name: &str| {
        let check = record.checks.iter().find(|check| check.invariant == name);
        check.unwrap().looked_at
    };
    for name in [
        "terminal_once",
        "single_charge",
        "event_once",
        "transient_survived",
        "spared_calls",
    ] {
        assert!(looked_at(name) > 0, "{name} looked at nothing");
    }
    let died = record
        .stories
        .iter()
        .find(|story| story.note.contains("died"))
        .expect("the order whose service died is told");
    assert_eq!(died.fate, State::Completed);
    assert!(
        record
            .stories
            .iter()
            .any(|story| story.fate == State::Compensated)
    );
    assert!(record.stories.iter().all(|story| story.spans.len() >= 2));
    let json = serde_json::to_string(&record).unwrap();
    let again: RunRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(again.verdict, record.verdict);
}

#[test]
fn the_verdict_has_exactly_the_fields_of_the_contract() {
    let config = Config {
        orders: 20,
        rate: 200.0,
        faults: dpat_cases::shop::config::Faults::None,
        ..Config::default()
    };
    let verdict = block_on(config, &mut Silent).unwrap().verdict;
    let value = serde_json::to_value(&verdict).unwrap();
    let found: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = vec![
        "schema",
        "scenario",
        "engine",
        "seed",
        "without",
        "orders",
        "accepted",
        "completed",
        "compensated",
        "rejected",
        "unresolved",
        "duplicate_charges",
        "lost_events",
        "stock_conserved",
        "money_conserved",
        "faults_injected",
        "restarts",
        "p50_ms",
        "p99_ms",
        "complete_p50_ms",
        "complete_p99_ms",
        "throughput_per_s",
        "rss_peak_mb",
        "expected",
        "verdict",
        "violations",
        "report",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(value["verdict"], "ok");
    assert_eq!(value["report"], serde_json::Value::Null);
}
