use dpat_model::{Diverged, Limits, Lsn};

use crate::puppet::{Do, Puppet, Stage, puppet};
use Do::*;

#[test]
fn recovery_is_snapshot_and_records_through_apply() {
    let mut stage = puppet();
    stage.ask(vec![Log(1), Log(2), Snapshot, Log(4)]).unwrap();
    // the snapshot is of the end of the step
    stage.ask(vec![Log(8)]).unwrap();
    stage.sync(3).unwrap();
    assert_eq!(stage.log.records().collect::<Vec<_>>(), [&8]);
    stage.sync(4).unwrap();
    let stage = stage.crash(0, &());
    assert_eq!(
        (stage.node.process().sum, stage.node.process().last),
        (15, Lsn(4))
    );
    assert_eq!((stage.node.last(), stage.node.durable()), (Lsn(4), Lsn(4)));
    assert_eq!(stage.node.me().incarnation, 1);
}

#[test]
fn a_crash_loses_a_suffix_of_unsynced_records() {
    for (kept, sum) in [(0, 1), (1, 1), (2, 3), (3, 7), (9, 7)] {
        let mut stage = puppet();
        stage.ask(vec![Log(1), Log(2), Log(4), Reply(0)]).unwrap();
        stage.sync(1).unwrap();
        let stage = stage.crash(kept, &());
        assert_eq!(stage.node.process().sum, sum, "kept {kept}");
        assert_eq!(stage.log.durable(), stage.log.last());
    }
}

#[test]
fn an_unsynced_snapshot_is_lost_and_its_records_are_not() {
    let mut stage = puppet();
    stage.ask(vec![Log(1), Log(2), Reply(0)]).unwrap();
    stage.sync(2).unwrap();
    stage.ask(vec![Log(4), Snapshot, Reply(0)]).unwrap();
    let stage = stage.crash(2, &());
    assert_eq!(stage.node.process().sum, 3);
    assert_eq!(stage.log.records().count(), 2);
}

#[test]
fn a_change_without_a_record_is_found() {
    let mut stage = puppet();
    stage.ask(vec![Log(1), Reply(0)]).unwrap();
    assert_eq!(stage.log.audit(&(), &stage.node), Ok(()));
    stage.ask(vec![Cheat, Reply(0)]).unwrap();
    let diverged = Diverged { at: Lsn(1) };
    assert_eq!(stage.log.audit(&(), &stage.node), Err(diverged));
    assert_eq!(
        diverged.to_string(),
        "durable state differs from a replay up to 1"
    );
}

#[test]
fn a_log_that_was_never_written_boots_an_empty_node() {
    let stage = Stage::<Puppet>::with(&(), Limits::default());
    assert_eq!(stage.node.process().sum, 0);
    assert_eq!(stage.node.last(), Lsn::ZERO);
}
