use std::collections::BTreeMap;

use super::*;
use crate::shop::record::{BreakerSample, FirstBad, Outcome, Simulation, Span as Call, Violation};
use crate::shop::service::ports::Step;

/// A run of twelve seconds with an outage of payment in the middle.
fn record() -> RunRecord {
    let samples = (1..=12_u64).map(|second| {
        let down = (5..8).contains(&second);
        Sample {
            at_ms: second * 1_000,
            accepted: second * 400,
            completed: second * 400 - if down { 300 * (second - 4) } else { 30 },
            compensated: second * 9,
            unanswered: 2,
            in_flight: if down { 300 * (second - 4) } else { 12 },
            p50_ms: 3.0,
            p99_ms: if down { 240.0 } else { 14.0 },
            breakers: vec![
                BreakerSample {
                    from: Peer::Order,
                    to: Peer::Payment,
                    state: if down { "open" } else { "closed" }.to_owned(),
                },
                BreakerSample {
                    from: Peer::Order,
                    to: Peer::Inventory,
                    state: "closed".to_owned(),
                },
            ],
            outbox: if down { 1 } else { 5 },
        }
    });
    let mut faults = vec![FaultEvent {
        at_ms: 4_200,
        target: Peer::Payment,
        kind: "kill".to_owned(),
        duration_ms: Some(2_600),
        order_id: None,
    }];
    faults.extend((0..600).map(|n| FaultEvent {
        at_ms: n * 20,
        target: if n % 3 == 0 {
            Peer::Inventory
        } else {
            Peer::Payment
        },
        kind: if n % 2 == 0 { "error" } else { "latency" }.to_owned(),
        duration_ms: None,
        order_id: Some(format!("o-{n}")),
    }));
    let call = |to, step, attempt, start_ms, end_ms, outcome: &str| Call {
        from: Peer::Order,
        to,
        step,
        attempt,
        start_ms,
        end_ms,
        outcome: outcome.to_owned(),
    };
    RunRecord {
        dead_letters: Vec::new(),
        comparison: None,
        trace: None,
        config: Config::default(),
        verdict: Verdict {
            schema: 1,
            scenario: "shop".to_owned(),
            engine: "embedded".to_owned(),
            seed: 7,
            without: vec!["idempotency".to_owned()],
            orders: 4_800,
            accepted: 4_800,
            completed: 4_692,
            compensated: 108,
            rejected: 0,
            unresolved: 0,
            duplicate_charges: 3,
            lost_events: 0,
            stock_conserved: true,
            money_conserved: true,
            faults_injected: BTreeMap::from([("error".to_owned(), 300), ("kill".to_owned(), 1)]),
            restarts: 1,
            p50_ms: 3.1,
            p99_ms: 18.4,
            complete_p50_ms: 8.0,
            complete_p99_ms: 2_800.0,
            throughput_per_s: 399.7,
            rss_peak_mb: 61.0,
            expected: vec!["single_charge".to_owned()],
            verdict: Outcome::Violated,
            violations: vec![Violation {
                invariant: "single_charge".to_owned(),
                count: 3,
                limit: 0,
                first: Some(FirstBad {
                    order_id: Some("o-<17>".to_owned()),
                    at_ms: 420,
                    event: "charged twice & more".to_owned(),
                }),
            }],
            report: None,
            simulation: None,
        },
        checks: vec![Check {
            invariant: "single_charge".to_owned(),
            says: "no order is charged more than once".to_owned(),
            looked_at: 4_800,
            count: 3,
            limit: 0,
            unit: None,
        }],
        samples: samples.collect(),
        faults,
        stories: vec![Story {
            fate: State::Completed,
            note: "survived a lost answer of payment".to_owned(),
            order_id: "o-42".to_owned(),
            states: vec![
                (State::Accepted, 1_000.0),
                (State::Reserved, 1_004.0),
                (State::Completed, 1_270.0),
            ],
            spans: vec![
                call(Peer::Inventory, Step::Reserve, 0, 1_001.0, 1_003.5, "done"),
                call(Peer::Payment, Step::Charge, 0, 1_004.5, 1_055.0, "timeout"),
                call(Peer::Payment, Step::Charge, 1, 1_160.0, 1_163.0, "done"),
                call(Peer::Shipping, Step::Ship, 0, 1_271.0, 1_274.0, "done"),
            ],
        }],
    }
}

fn html() -> String {
    render(&record()).expect("the template renders")
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let page = html();
    for outside in ["http://", "https://", "<script", "@import", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_names_the_violation_and_its_first_event() {
    let page = html();
    assert!(page.contains("Violated, as expected"));
    assert!(page.contains("<code>single_charge</code> is broken 3 times"));
    assert!(page.contains("420 ms"));
}

#[test]
fn text_from_orders_is_escaped() {
    let page = html();
    assert!(page.contains("o-&lt;17&gt;") && page.contains("twice &amp; more"));
    assert!(!page.contains("o-<17>"));
}

#[test]
fn a_violation_that_was_expected_and_did_not_come_is_named() {
    let mut record = record();
    record.verdict.violations.clear();
    let page = render(&record).expect("the template renders");
    assert!(page.contains("Not as expected"));
    assert!(page.contains("Expected but not seen: single_charge"));
}

#[test]
fn dense_faults_are_drawn_together() {
    let rows = fault_rows(&record().faults, 12_000.0);
    let spans: usize = rows.iter().map(|row| row.spans.len()).sum();
    assert!(spans <= 1_201, "{spans}");
    assert!(
        rows.iter()
            .any(|row| row.spans.iter().any(|span| span.class == "f-kill"))
    );
}

#[test]
fn a_run_without_samples_still_makes_a_page() {
    let mut record = record();
    record.samples.clear();
    record.faults.clear();
    record.stories.clear();
    let page = render(&record).expect("the template renders");
    assert!(page.contains("No order was recorded") && !page.contains("NaN"));
}

#[test]
fn the_other_side_of_a_scenario_is_drawn_beside_the_run() {
    let mut record = record();
    record.comparison = Some(Box::new(Comparison {
        without: vec!["budget".to_owned()],
        verdict: record.verdict.clone(),
        checks: vec![Check {
            count: 77,
            ..record.checks[0].clone()
        }],
        samples: record.samples.clone(),
    }));
    let page = render(&record).expect("the template renders");
    assert!(page.contains("without budget. Broken there: single_charge"));
    assert!(page.contains("the other side") && page.contains("<td class=\"n\">77</td>"));
}

#[test]
fn the_ending_of_the_path_chooses_the_form() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, start) in [("new/a.html", "<!doctype html>"), ("b.json", "{")] {
        let path = folder.path().join(name);
        write(&record(), &path).expect("the report is written");
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(text.starts_with(start), "{name}");
    }
}

#[test]
fn the_command_repeats_the_run() {
    let config = Config {
        seed: 9,
        faults: Faults::None,
        without: vec![crate::shop::config::Pattern::Retry],
        ..Config::default()
    };
    assert_eq!(
        command(&config),
        "cargo dpat demo shop --orders 2000 --rate 400 --seed 9 --faults none --without retry"
    );
}

#[test]
fn a_simulated_run_says_how_many_times_faster_than_real_time_it_was() {
    assert!(!html().contains("real time"));
    let mut record = record();
    record.verdict.simulation = Some(Simulation {
        simulated: true,
        trace_hash: "00000000000000ab".to_owned(),
        events: 9,
        simulated_ms: 14_250,
        elapsed_ms: 95,
    });
    let html = render(&record).unwrap();
    assert!(html.contains("150×"));
    assert!(html.contains("real time"));
}

#[test]
fn a_simulated_run_is_shown_in_the_lab() {
    assert!(!html().contains("<iframe"));
    let mut record = record();
    let mut trace = dpat_sim::Trace::default();
    trace.states.push("a \"state\" <here>".to_owned());
    record.trace = Some(Box::new(trace));
    let page = render(&record).expect("the template renders");
    let (_, after) = page.split_once("srcdoc=\"").expect("there");
    let (escaped, _) = after.split_once('"').expect("it ends");
    for (escape, plain) in [
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#x2f;", "/"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        assert!(
            escaped.contains(escape) || !escaped.contains(plain),
            "{plain}"
        );
    }
    assert!(escaped.starts_with("&lt;!doctype html&gt;"));
    assert!(page.contains("The first 0 events"));
    assert!(page.contains("sandbox=\"allow-scripts\""));
}
