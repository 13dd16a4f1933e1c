//! Output commit: nothing leaves before the records logged before it are durable.

use proptest::prelude::*;

use crate::puppet::{Do, puppet};
use Do::*;

#[test]
fn nothing_leaves_before_earlier_records_are_durable() {
    let mut stage = puppet();
    stage
        .ask(vec![
            Send(1),
            Log(1),
            Send(2),
            Log(1),
            Reply(3),
            Work(4),
            SendEarly(5),
        ])
        .unwrap();
    assert_eq!(stage.left(), ["send [1]", "send [5]"]);
    // a later step without a record waits too: it may show what the first one wrote
    stage.ask(vec![Send(6)]).unwrap();
    assert!(stage.left().is_empty());
    assert_eq!(stage.node.held().count(), 4);
    stage.sync(1).unwrap();
    assert_eq!(stage.left(), ["send [2]"]);
    stage.sync(2).unwrap();
    assert_eq!(stage.left(), ["reply 0=3", "work 4", "send [6]"]);
}

#[test]
fn a_read_waits_for_the_write_that_it_shows() {
    let mut stage = puppet();
    stage.ask(vec![Log(5), Reply(0)]).unwrap();
    stage.ask(vec![Sum(dpat_model::ReqId(1))]).unwrap();
    assert!(stage.left().is_empty());
    stage.sync(1).unwrap();
    assert_eq!(stage.left(), ["reply 0=0", "reply 1=5"]);
}

#[test]
fn timers_do_not_wait_for_the_log() {
    let mut stage = puppet();
    stage.ask(vec![Log(1), Arm(1, 5), WorkEarly(2)]).unwrap();
    assert_eq!(stage.left(), ["arm 1@1005", "work 2", "work 2"]);
}

/// The property that a wrong executor breaks: what a caller has read survives every crash.
#[cfg(feature = "test-util")]
fn a_read_survives_a_crash(rule: dpat_model::CommitRule) -> Result<(), String> {
    use dpat_model::{Answer, Output, ReqId};

    let mut stage = puppet();
    stage.node = stage.node.with_rule(rule);
    stage.ask(vec![Log(5), Reply(0)]).unwrap();
    stage.ask(vec![Sum(ReqId(1))]).unwrap();
    let read = stage.out.iter().find_map(|output| match output {
        Output::Reply {
            id: ReqId(1),
            answer: Answer::Reply(sum),
        } => Some(*sum),
        _ => None,
    });
    let after = stage.crash(0, &()).node.process().sum;
    match read {
        Some(read) if read > after => Err(format!("read {read}, after the crash {after}")),
        _ => Ok(()),
    }
}

#[test]
#[cfg(feature = "test-util")]
fn an_executor_that_commits_by_step_is_found() {
    use dpat_model::CommitRule;
    assert_eq!(a_read_survives_a_crash(CommitRule::ByPosition), Ok(()));
    for mutant in [CommitRule::ByStep, CommitRule::Never] {
        let found = a_read_survives_a_crash(mutant);
        assert_eq!(found, Err("read 5, after the crash 0".to_owned()));
    }
}

fn any_do() -> impl Strategy<Value = Do> {
    prop_oneof![
        Just(Log(1)),
        (0..9_u64).prop_map(Send),
        (0..9_u64).prop_map(Work),
        Just(Snapshot),
        (0..3_u8, 0..9_u64).prop_map(|(key, after)| Arm(key, after)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked and synced: outputs leave in order, each as soon as its position is durable.
    #[test]
    fn held_outputs_leave_in_order_at_their_position(
        steps in proptest::collection::vec((proptest::collection::vec(any_do(), 0..6), 0..3_u64), 1..20),
    ) {
        let mut stage = puppet();
        let mut expected: Vec<(u64, String)> = Vec::new();
        let mut position = 0;
        for (req, sync) in steps {
            for what in &req {
                match what {
                    Log(_) => position += 1,
                    Send(number) => expected.push((position, format!("send [{number}]"))),
                    Work(number) => expected.push((position, format!("work {number}"))),
                    _ => {}
                }
            }
            stage.ask(req).unwrap();
            let durable = (stage.node.durable().0 + sync).min(position);
            stage.sync(durable).unwrap();
            let left = stage.left();
            let left = left.iter().filter(|output| !output.starts_with("arm"));
            let due: Vec<_> = expected.iter().filter(|(at, _)| *at <= durable).map(|(_, o)| o).collect();
            prop_assert_eq!(left.collect::<Vec<_>>(), due);
            expected.retain(|(at, _)| *at > durable);
            prop_assert!(stage.log.audit(&(), &stage.node).is_ok());
        }
    }
}
