use dpat_core::Deadline;
use dpat_model::{Either, Input, Limits, Link, Lsn, Mux, NodeIx, Output, Peer, Process, ReqId};
use proptest::prelude::*;

use crate::puppet::{Do, Puppet, Stage};
use Do::*;
use Either::{Left, Right};

type Pair = Mux<Puppet, Puppet>;
const CONFIG: ((), ()) = ((), ());

fn pair() -> Stage<Pair> {
    Stage::with(&CONFIG, Limits::default())
}

#[test]
fn children_that_crash_together_recover_together() {
    let mut stage = pair();
    stage.ask(Left(vec![Log(1), Reply(0)])).unwrap();
    stage.ask(Right(vec![Log(10), Reply(0)])).unwrap();
    stage.ask(Left(vec![Log(2), Reply(0)])).unwrap();
    stage.ask(Right(vec![Log(20), Reply(0)])).unwrap();
    stage.sync(2).unwrap();
    assert_eq!(stage.left(), ["reply 0=Left(0)", "reply 1=Right(0)"]);
    let stage = stage.crash(3, &CONFIG);
    let both = stage.node.process();
    assert_eq!((both.left.sum, both.right.sum), (3, 10));
    assert_eq!((both.left.last, both.right.last), (Lsn(3), Lsn(2)));
}

#[test]
fn a_record_of_one_child_holds_the_answer_of_the_other() {
    let mut stage = pair();
    stage.ask(Left(vec![Log(1)])).unwrap();
    stage.ask(Right(vec![Reply(5)])).unwrap();
    assert!(stage.left().is_empty());
    stage.sync(1).unwrap();
    assert_eq!(stage.left(), ["reply 1=Right(5)"]);
}

#[test]
fn a_snapshot_that_one_child_asks_for_keeps_the_other() {
    let mut stage = pair();
    stage.ask(Right(vec![Log(10), Reply(0)])).unwrap();
    stage.ask(Left(vec![Log(1), Snapshot, Reply(0)])).unwrap();
    stage.sync(2).unwrap();
    assert_eq!(stage.log.records().count(), 0);
    let stage = stage.crash(2, &CONFIG);
    let both = stage.node.process();
    assert_eq!((both.left.sum, both.right.sum), (1, 10));
}

#[test]
fn inputs_reach_the_child_that_they_belong_to() {
    let mut stage = pair();
    let from = Peer::default();
    stage.ask(Left(vec![Arm(1, 5), Work(1), Send(9)])).unwrap();
    stage.ask(Right(vec![Arm(1, 7), Work(2)])).unwrap();
    let left = stage.out.clone();
    let sent = left.iter().any(|output| {
        matches!(output, Output::Send { to: NodeIx(1), msg: Left(msg), .. } if *msg == [9])
    });
    assert!(sent);
    for output in left {
        if let Output::Work { token, work, .. } = output {
            let result = match work {
                Left(work) => Left(vec![work]),
                Right(work) => Right(vec![work]),
            };
            stage.step(Input::Done { token, result }).unwrap();
        }
    }
    stage.step(Input::Timer(Right(1))).unwrap();
    let msg = Left(vec![3]);
    stage.step(Input::Msg { from, msg }).unwrap();
    stage.step(Input::PeerUp(from)).unwrap();
    stage.step(Input::PeerDown(from)).unwrap();
    stage.step(Input::Cancel(ReqId(0))).unwrap();
    let deadline = Deadline::NEVER;
    stage.step(Input::Drain { deadline }).unwrap();
    let kinds = |seen: &[String]| -> Vec<String> {
        let kind = |seen: &String| seen.chars().take_while(|c| c.is_alphabetic()).collect();
        seen.iter().map(kind).collect()
    };
    let both = stage.node.process();
    let shared = ["PeerUp", "PeerDown", "Cancel", "Drain"];
    assert_eq!(
        kinds(&both.left.seen),
        [&["Start", "Done", "Msg"][..], &shared].concat()
    );
    assert_eq!(
        kinds(&both.right.seen),
        [&["Start", "Done", "Timer"][..], &shared].concat()
    );
    assert_eq!(stage.node.timers().collect::<Vec<_>>(), [Left(1)]);
}

#[test]
fn admission_and_links_are_those_of_the_child() {
    let mut stage = pair();
    assert_eq!(stage.ask(Right(vec![Reply(404)])), Ok(false));
    assert_eq!(Pair::link(&Left(vec![])), Link::Datagram);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// After any crash each child has what its own surviving records say.
    #[test]
    fn each_child_replays_its_own_records(
        records in proptest::collection::vec((any::<bool>(), 1..9_u64, any::<bool>()), 0..20),
        synced in 0..20_u64,
        kept in 0..20_u64,
    ) {
        let mut stage = pair();
        for (left, number, snapshot) in &records {
            let mut what = vec![Log(*number), Reply(0)];
            if *snapshot {
                what.push(Snapshot);
            }
            stage.ask(if *left { Left(what) } else { Right(what) }).unwrap();
        }
        prop_assert_eq!(stage.log.audit(&CONFIG, &stage.node), Ok(()));
        let synced = synced.min(records.len() as u64);
        stage.sync(synced).unwrap();
        let survived = kept.clamp(synced, records.len() as u64) as usize;
        let stage = stage.crash(kept, &CONFIG);
        let sum = |side| records[..survived].iter().filter(|r| r.0 == side).map(|r| r.1).sum::<u64>();
        let both = stage.node.process();
        prop_assert_eq!((both.left.sum, both.right.sum), (sum(true), sum(false)));
    }
}
