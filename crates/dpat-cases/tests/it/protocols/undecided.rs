//! FLP: the adversary against a deterministic and a randomised consensus.

use dpat_cases::protocols::flp::{Options, flp, verify};

fn options(nodes: u32, rounds: u32, runs: u32) -> Options {
    Options {
        nodes,
        rounds,
        runs,
        ..Options::default()
    }
}

#[test]
fn pitfall_9_1_a_deterministic_consensus_stays_undecided_for_as_long_as_asked() {
    for (nodes, rounds) in [(3, 1), (3, 40), (4, 3), (5, 2)] {
        let report = flp(options(nodes, rounds, 0)).unwrap();
        verify(&report).unwrap();
        let schedule = report.deterministic.unwrap();
        assert_eq!(schedule.rounds.len(), rounds as usize);
        // Fair: no message waits longer the longer the run is.
        let sent_a_round = nodes * (nodes - 1) * 2;
        assert!(schedule.waited_max <= sent_a_round as usize, "{nodes}");
    }
}

#[test]
fn pitfall_9_1_a_randomised_consensus_decides_under_the_same_adversary() {
    let report = flp(options(3, 1, 20)).unwrap();
    assert!(report.holds());
    let randomised = report.randomised;
    assert_eq!((randomised.runs, randomised.decided), (20, 20));
    assert_eq!(randomised.by_round.iter().sum::<u32>(), 20);
    // The adversary does delay it: without one, most runs are over after the first coins.
    assert!(randomised.by_round.len() > 2, "{:?}", randomised.by_round);
}

#[test]
fn a_false_proof_is_refused() {
    let good = flp(options(3, 2, 0)).unwrap();
    let damaged = |damage: &dyn Fn(&mut dpat_cases::protocols::flp::Schedule)| {
        let mut report = good.clone();
        damage(report.deterministic.as_mut().unwrap());
        verify(&report).unwrap_err()
    };
    let error = damaged(&|it| it.rounds[1].then.zero = it.rounds[1].then.one.clone());
    assert_eq!(error, "round 2: a schedule does not decide 0");
    let error = damaged(&|it| it.rounds[0].deliveries.truncate(1));
    assert!(error.starts_with("round 1: "), "{error}");
    let error = damaged(&|it| it.initially.one.crashed = Some(it.initially.one.deliveries[0].to.0));
    assert_eq!(error, "a crashed process takes a step");
    let error = damaged(&|it| it.rounds.truncate(1));
    assert_eq!(error, "1 rounds instead of 2");
    // A process that decides is no process without a decision.
    let error = damaged(&|it| {
        let zero = it.rounds[0].then.zero.deliveries.clone();
        it.rounds[1].deliveries.splice(0..0, zero);
    });
    assert!(error.contains("decides"), "{error}");
}

#[test]
fn options_are_bounded() {
    let error = flp(options(2, 1, 0)).unwrap_err();
    assert_eq!(error.to_string(), "nodes: must be 3 to 5");
    assert!(flp(options(3, 0, 0)).is_err());
    assert!(flp(options(3, 1, 10_001)).is_err());
}

#[test]
fn the_same_options_give_the_same_report() {
    let report = || serde_json::to_string(&flp(options(3, 3, 2)).unwrap()).unwrap();
    assert_eq!(report(), report());
}
