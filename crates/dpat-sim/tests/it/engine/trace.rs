use dpat_model::{Fault, LinkSet, NodeIx};
use dpat_sim::{FateWord, RunSpec, SentFate, Trace, TraceMode, run, slice};

use crate::gossip::Gossips;
use crate::puppet::*;

const A: NodeIx = NodeIx(0);

fn traced(mut scenario: Scenario) -> Trace {
    scenario.trace = TraceMode::Full { events_max: 10_000 };
    scenario.run().outcome.trace.unwrap()
}

#[test]
fn a_trace_says_what_happened_and_why() {
    let mut scenario =
        Scenario::new(2).client(&[ask(1000, 0, &[Log(4), Send(1, 5), Arm(1, 50), Reply])]);
    scenario.on_message = vec![Work(10)];
    let trace = traced(scenario);
    let short: Vec<(&str, Option<u32>, &[u64])> = trace
        .events
        .iter()
        .map(|event| (event.what.as_str(), event.node, event.causes.as_slice()))
        .collect();
    assert_eq!(
        short,
        [
            ("start", Some(0), &[][..]),
            ("start", Some(1), &[]),
            ("request", Some(0), &[0]),
            ("timer", Some(0), &[2]),
            ("synced", Some(0), &[2, 3]),
            ("durable", Some(0), &[4]),
            ("answer", Some(0), &[5]),
            ("deliver", Some(1), &[1, 5]),
            ("done", Some(1), &[7]),
            ("heal", None, &[8]),
        ]
    );
    let durable = &trace.events[5];
    let [sent] = &durable.sends[..] else {
        panic!("{durable:?}")
    };
    let deliver = &trace.events[7];
    assert_eq!(
        (sent.to, sent.kind.as_str(), sent.fate),
        (1, "Note", SentFate::At(deliver.at_ns))
    );
    assert_eq!(deliver.from, Some((0, 5)));
    assert_eq!(
        (deliver.kind.as_deref(), deliver.key.as_deref()),
        (Some("Note"), Some("k5"))
    );
    assert_eq!(deliver.detail, "Note { number: 5, session: false }");
    assert!(trace.states[deliver.state.unwrap()].contains("5 from n0#0"));
    assert_eq!(trace.nodes, ["n0", "n1"]);
    // What led to the answer is not what happened at the other node.
    assert_eq!(slice(&trace, 6), [0, 2, 3, 4, 5, 6]);
}

#[test]
fn equal_states_are_stored_once_and_events_beyond_the_limit_left_out() {
    let asks = vec![ask(1000, 0, &[Reply]); 20];
    let mut scenario = Scenario::new(1).client(&asks);
    scenario.trace = TraceMode::Full { events_max: 7 };
    let ran = scenario.run();
    let trace = ran.outcome.trace.unwrap();
    assert!(trace.truncated);
    assert_eq!(trace.events.len(), 7);
    assert!(trace.states.len() < 7);
    assert!(ran.outcome.events > 30);
    scenario.trace = TraceMode::Full { events_max: 10_000 };
    assert!(!scenario.run().outcome.trace.unwrap().truncated);
}

#[test]
fn fates_of_messages_are_told() {
    let link = LinkSet::one(A, NodeIx(1));
    let fate = |fault: Fault| {
        let trace = traced(
            Scenario::new(2)
                .client(&[ask(1000, 0, &[Send(1, 5)])])
                .at(0, fault),
        );
        trace
            .events
            .iter()
            .flat_map(|event| &event.sends)
            .next()
            .unwrap()
            .fate
    };
    let for_us = None;
    let loss = Fault::Loss {
        link,
        per_million: 1_000_000,
        for_us,
    };
    assert_eq!(fate(loss), SentFate::Word(FateWord::Lost));
    assert_eq!(
        fate(Fault::Cut { link, for_us }),
        SentFate::Word(FateWord::Partition)
    );
    assert_eq!(
        fate(Fault::Hold { link, for_us }),
        SentFate::Word(FateWord::Held)
    );
    let mut scenario = Scenario::new(2).client(&[ask(1000, 0, &[SendSession(1, 5)])]);
    scenario.trace = TraceMode::Full { events_max: 100 };
    let trace = scenario.run_with_sessions().outcome.trace.unwrap();
    let fate = trace
        .events
        .iter()
        .flat_map(|event| &event.sends)
        .next()
        .unwrap()
        .fate;
    assert_eq!(fate, SentFate::Word(FateWord::NoSession));
}

#[test]
fn faults_that_last_are_shades() {
    let link = LinkSet::one(A, NodeIx(1));
    let trace = traced(
        Scenario::new(3)
            .at(
                10,
                Fault::Isolate {
                    node: A,
                    for_us: Some(20),
                },
            )
            .at(
                20,
                Fault::Crash {
                    node: A,
                    for_us: Some(30),
                },
            )
            .at(
                30,
                Fault::Pause {
                    node: NodeIx(1),
                    for_us: None,
                },
            )
            .at(
                40,
                Fault::Loss {
                    link: LinkSet::ALL,
                    per_million: 5,
                    for_us: None,
                },
            )
            .at(50, Fault::Hold { link, for_us: None })
            .at(60, Fault::Release { link })
            .at(70, Fault::Resume { node: NodeIx(1) }),
    );
    let short: Vec<(&str, u64, u64)> = trace
        .shades
        .iter()
        .map(|shade| {
            (
                shade.what.as_str(),
                shade.from_ns / 1000,
                shade.until_ns / 1000,
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            ("partition", 10, 30),
            ("down", 20, 50),
            ("pause", 30, 70),
            ("loss", 40, 1_000_000),
            ("hold", 50, 60),
        ]
    );
    assert_eq!(
        trace.shades[0].links,
        Some(vec![(0, 1), (0, 2), (1, 0), (2, 0)])
    );
    assert_eq!(
        (&trace.shades[1].nodes, &trace.shades[3].links),
        (&Some(vec![0]), &None)
    );
}

#[test]
fn every_event_points_back_and_the_form_reads_back_equal() {
    for seed in 0..5 {
        let trace = TraceMode::Full { events_max: 3000 };
        let outcome = run::<Gossips>(&RunSpec {
            trace,
            ..RunSpec::new(seed)
        })
        .unwrap();
        let trace = outcome.trace.unwrap();
        let mut delivered = 0;
        for (index, event) in (0..).zip(&trace.events) {
            assert_eq!(event.i, index);
            assert!(event.causes.iter().all(|cause| *cause < index), "{event:?}");
            if let Some((from, sent)) = event.from {
                let sent = &trace.events[usize::try_from(sent).unwrap()];
                let to = |sent: &&dpat_sim::Sent| Some(sent.to) == event.node;
                assert!(
                    sent.node == Some(from) && sent.sends.iter().any(|s| to(&s)),
                    "{event:?}"
                );
                delivered += 1;
            }
            assert!(
                event.at_ns
                    >= trace.events[usize::try_from(index).unwrap().saturating_sub(1)].at_ns
            );
        }
        assert!(delivered > 10);
        let text = serde_json::to_string(&trace).unwrap();
        let read: Trace = serde_json::from_str(&text).unwrap();
        assert_eq!(read, trace);
    }
}
