use std::collections::BTreeSet;

use dpat_model::{CommitRule, Fault, NodeIx, Trigger};
use dpat_sim::{SYNC_MAX_NS, SYNC_MIN_NS};

use crate::puppet::*;

const NODE: NodeIx = NodeIx(0);

fn crash(for_us: u64) -> Fault {
    let (node, for_us) = (NODE, Some(for_us));
    Fault::Crash { node, for_us }
}

/// Logs three records at 10 ns; a fault strikes so many microseconds later.
fn three_records(us: u64, fault: Fault) -> Scenario {
    let asks = [ask(10, 0, &[Log(1), Log(10), Log(100)])];
    Scenario::new(2).client(&asks).at(us, fault)
}

/// The sums of node 0 at the end of many runs.
fn sums(scenario: &Scenario) -> BTreeSet<u64> {
    let ran = scenario.seeds(100);
    ran.iter()
        .map(|ran| ran.heard.sums[0].expect("it is up again"))
        .collect()
}

#[test]
fn a_crash_loses_any_suffix_of_what_is_not_synced() {
    let early = SYNC_MIN_NS / 2000;
    assert_eq!(
        sums(&three_records(early, crash(50))),
        BTreeSet::from([0, 1, 11, 111])
    );
}

#[test]
fn what_is_synced_survives_every_crash() {
    let late = SYNC_MAX_NS / 1000 + 1;
    assert_eq!(sums(&three_records(late, crash(50))), BTreeSet::from([111]));
    // Whatever was answered is kept, wherever the crash falls.
    for seed in 0..300 {
        let asks = [ask(10, 0, &[Log(1), Reply]), ask(10, 0, &[Log(10), Reply])];
        let mut scenario = Scenario::new(1).client(&asks).at(seed * 7, crash(50));
        scenario.seed = seed;
        let ran = scenario.run();
        let sum = ran.heard.sums[0].unwrap();
        let known: Vec<&str> = ran
            .answers()
            .into_iter()
            .filter(|answer| *answer != "unknown")
            .collect();
        assert!(
            known
                .iter()
                .all(|answer| answer.contains("down") || answer.parse::<u64>().unwrap() <= sum),
            "{seed}: {known:?} {sum}"
        );
    }
}

#[test]
fn a_killed_process_keeps_what_it_wrote() {
    let early = SYNC_MIN_NS / 2000;
    let kill = Fault::Kill {
        node: NODE,
        order_id: None,
        for_us: Some(50),
    };
    assert_eq!(sums(&three_records(early, kill)), BTreeSet::from([111]));
}

#[test]
fn a_wiped_node_starts_empty() {
    let late = SYNC_MAX_NS / 1000 + 1;
    let wipe = Fault::Wipe {
        node: NODE,
        for_us: Some(50),
    };
    assert_eq!(
        sums(&three_records(late, wipe.clone())),
        BTreeSet::from([0])
    );
    // Also one that is down already.
    let scenario = three_records(late, crash(500)).at(late + 100, wipe);
    assert_eq!(sums(&scenario), BTreeSet::from([0]));
}

#[test]
fn torn_lost_and_reordered_records_end_the_log() {
    let early = SYNC_MIN_NS / 2000;
    let (node, half) = (NODE, 500_000);
    let faults = [
        |node, per_million| Fault::DiskTorn { node, per_million },
        |node, per_million| Fault::DiskLost { node, per_million },
        |node, per_million| Fault::DiskReorder { node, per_million },
    ];
    for fault in faults {
        let all = three_records(early, crash(50)).at(0, fault(node, 1_000_000));
        assert_eq!(sums(&all), BTreeSet::from([0]));
        let some = three_records(early, crash(50)).at(0, fault(node, half));
        assert_eq!(sums(&some), BTreeSet::from([0, 1, 11, 111]));
        let none = three_records(early, crash(50)).at(0, fault(node, 1));
        assert_eq!(sums(&none), BTreeSet::from([111]));
        let synced = SYNC_MAX_NS / 1000 + 1;
        let synced = three_records(synced, crash(50)).at(0, fault(node, 1_000_000));
        assert_eq!(sums(&synced), BTreeSet::from([111]));
    }
}

#[test]
fn a_crash_can_fall_between_persisting_and_sending() {
    let asks = [ask(10, 0, &[Log(1), Send(1, 5)])];
    let ran = Scenario::new(2)
        .client(&asks)
        .at_point("durable", 1, crash(50))
        .run();
    assert_eq!(ran.heard.sums[0], Some(1));
    assert_eq!(ran.heard.lives[1], ["start"]);
    // And it does so by chance.
    let at = (SYNC_MIN_NS + SYNC_MAX_NS) / 2000;
    let between = |ran: &Ran| !ran.events("synced").is_empty() && ran.events("deliver").is_empty();
    let runs = Scenario::new(2).client(&asks).at(at, crash(50)).seeds(200);
    let between = runs.iter().filter(|ran| between(ran)).count();
    assert!(between > 0);
    for ran in runs {
        assert!(ran.events("deliver").is_empty() || ran.heard.sums[0] == Some(1));
    }
}

#[test]
fn open_requests_and_held_answers_become_unknown() {
    let ran = Scenario::new(1)
        .client(&[ask(10, 0, &[Log(1), Reply]), ask(1_000_000, 0, &[Reply])])
        .client(&[ask(10, 0, &[])])
        .at(1, crash(50))
        .run();
    assert_eq!(ran.answers()[..2], ["unknown", "unknown"]);
    assert_eq!(ran.events("restart").len(), 1);
}

#[test]
fn answers_that_a_crash_forestalls_within_a_step_become_unknown() {
    for what in [&[Send(1, 5), Reply][..], &[Log(1), Send(1, 5), Reply]] {
        let ran = Scenario::new(2)
            .client(&[ask(10, 0, what)])
            .at_point("send.Note", 1, crash(50))
            .run();
        assert_eq!(ran.answers(), ["unknown"]);
    }
}

#[test]
fn points_let_faults_strike_just_before() {
    let asks = [ask(
        10,
        0,
        &[Log(1), SendEarly(1, 5), Log(10), SendEarly(1, 6)],
    )];
    let at = |point: &str, nth| {
        let ran = Scenario::new(2)
            .client(&asks)
            .at_point(point, nth, crash(50))
            .run();
        assert_eq!(ran.outcome.violation, None);
        (ran.heard.sums[0].unwrap(), ran.events("deliver").len())
    };
    assert_eq!(at("log", 1), (0, 0));
    let (sum, delivered) = at("log", 2);
    assert!(sum <= 1);
    assert_eq!(delivered, 1);
    assert_eq!(at("send.Note", 1).1, 0);
    assert_eq!(at("send.Note", 2).1, 1);
    assert_eq!(at("send.Note", 3), (11, 2)); // never passed
    let receiver = Fault::Crash {
        node: NodeIx(1),
        for_us: Some(5000),
    };
    let ran = Scenario::new(2)
        .client(&asks)
        .at_point("deliver.Note", 2, receiver)
        .run();
    assert_eq!(
        (ran.events("deliver").len(), ran.events("lost").len()),
        (1, 1)
    );
}

#[test]
fn faults_strike_at_their_event() {
    let asks = [ask(10, 0, &[Reply]), ask(10, 0, &[Reply])];
    let pause = Fault::Pause {
        node: NODE,
        for_us: Some(5),
    };
    let ran = Scenario::new(1)
        .client(&asks)
        .when(Trigger::Event(2), pause)
        .run();
    let order: Vec<&str> = ran
        .heard
        .events
        .iter()
        .map(|event| event.2.as_str())
        .collect();
    let expected = [
        "start",
        "request 0.0",
        "pause",
        "answer 0.0",
        "resume",
        "request 0.1",
        "answer 0.1",
        "heal",
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_paused_node_takes_up_in_order_what_came_meanwhile() {
    let pause = Fault::Pause {
        node: NODE,
        for_us: Some(3000),
    };
    let ran = Scenario::new(2)
        .client(&[ask(10, 0, &[Log(1), Arm(1, 2_000_000), Reply])])
        .client(&[
            ask(50_000, 1, &[Send(0, 7), Reply]),
            ask(100_000, 0, &[Reply]),
        ])
        .at(20, pause)
        .run();
    let paused: Vec<_> = ran
        .heard
        .events
        .iter()
        .filter(|event| event.0 > 20_000 && event.1 == Some(0))
        .collect();
    let short: Vec<(u64, &str)> = paused
        .iter()
        .map(|event| (event.0 / 1000, event.2.as_str()))
        .collect();
    // The disk goes on while the process does not.
    assert_eq!(short[0].1, "synced 1");
    assert_eq!(short[1], (3020, "resume"));
    assert!(
        short[2..].iter().take(4).all(|(us, _)| *us == 3020),
        "{short:?}"
    );
    let mut order: Vec<&str> = short[2..6].iter().map(|(_, what)| *what).collect();
    order.sort_unstable();
    assert_eq!(
        order,
        ["deliver n1#0", "durable 1", "request 1.1", "timer 1"]
    );
    // In the order in which they came.
    let request = short.iter().position(|(_, what)| *what == "request 1.1");
    let timer = short.iter().position(|(_, what)| *what == "timer 1");
    assert!(request < timer);
}

#[test]
fn a_crash_ends_a_pause_and_what_waited_is_lost() {
    let (node, for_us) = (NODE, None);
    let ran = Scenario::new(2)
        .client(&[ask(10, 1, &[Send(0, 7), Reply])])
        .client(&[ask(50_000, 0, &[Reply])])
        .at(20, Fault::Pause { node, for_us })
        .at(3000, crash(100))
        .run();
    assert_eq!(ran.heard.seen[0], ["start"]);
    assert_eq!(ran.heard.lives[0], ["start", "start"]);
    assert_eq!(ran.answers(), ["0", "unknown"]);
}

#[test]
fn a_resume_ends_only_its_own_pause() {
    let (node, for_us) = (NODE, Some(100));
    let ran = Scenario::new(1)
        .client(&[ask(60_000, 0, &[Reply]), ask(100_000, 0, &[Reply])])
        .at(10, Fault::Pause { node, for_us })
        .at(20, Fault::Resume { node })
        .at(
            50,
            Fault::Pause {
                node,
                for_us: Some(1000),
            },
        )
        .run();
    assert_eq!(ran.events("resume").len(), 2);
    assert_eq!(ran.events("resume")[1].0, 1_050_000);
    assert_eq!(ran.events("request")[0].0, 1_050_000);
}

#[test]
fn an_error_of_the_disk_halts_the_node() {
    let (node, for_us) = (NODE, Some(50));
    for fault in [
        Fault::DiskFull { node, for_us },
        Fault::DiskError {
            node,
            per_million: 1_000_000,
            for_us,
        },
    ] {
        let ran = Scenario::new(1)
            .client(&[ask(10_000, 0, &[Log(1), Reply]), ask(10_000, 0, &[Reply])])
            .at(0, fault)
            .at(200, Fault::Restart { node })
            .run();
        assert_eq!(ran.answers(), ["unknown", "the node is down"]);
        assert_eq!(ran.events("crash").len(), 1);
        assert_eq!(ran.heard.sums[0], Some(0));
    }
    // A sync fails too, but needs no space.
    let sync = Fault::DiskError {
        node,
        per_million: 1_000_000,
        for_us: Some(5000),
    };
    let asks = [ask(10_000, 0, &[Log(1), Reply])];
    let ran = Scenario::new(1).client(&asks).at(50, sync).run();
    assert_eq!(ran.answers(), ["unknown"]);
    let full = Fault::DiskFull {
        node,
        for_us: Some(5000),
    };
    let ran = Scenario::new(1).client(&asks).at(50, full).run();
    assert_eq!(ran.answers(), ["1"]);
}

#[test]
fn everything_heals_after_the_safety_phase() {
    let (node, for_us) = (NODE, None);
    let scenario = Scenario::new(2)
        .client(&[ask(1_500_000_000, 0, &[Send(1, 5), Reply])])
        .at(10, Fault::Crash { node, for_us })
        .at(10, Fault::Isolate { node, for_us })
        .at(
            20,
            Fault::Pause {
                node: NodeIx(1),
                for_us,
            },
        )
        .at(1_200_000, Fault::Crash { node, for_us }); // comes too late
    let ran = scenario.run();
    assert_eq!(ran.events("crash").len(), 1);
    assert_eq!(ran.events("restart").len(), 1);
    assert_eq!(ran.heard.seen[1], ["start", "5 from n0#1"]);
    // Unless crashed nodes stay down.
    let mut stay = scenario;
    stay.plan.restart = false;
    let ran = stay.run();
    assert_eq!(ran.heard.sums[0], None);
    assert_eq!(ran.answers(), ["the node is down"]);
}

#[test]
fn a_snapshot_replaces_the_log_and_survives() {
    let asks = [
        ask(10, 0, &[Log(1), Log(10), Snapshot, Log(100), Reply]),
        ask(10, 0, &[Reply]),
    ];
    let ran = Scenario::new(1).client(&asks).at(3000, crash(50)).run();
    assert_eq!(ran.heard.sums[0], Some(111));
    assert_eq!(ran.outcome.violation, None);
}

/// A read shows a write that a crash then takes back.
fn a_read_is_taken_back(rule: CommitRule) -> usize {
    let taken_back = |seed| {
        let mut scenario = Scenario::new(1)
            .client(&[ask(10, 0, &[Log(1)])])
            .client(&[ask(5_000, 0, &[Reply])])
            .at(80, crash(50));
        (scenario.seed, scenario.rule) = (seed, rule);
        let ran = scenario.run();
        ran.answers().contains(&"1") && ran.heard.sums[0] == Some(0)
    };
    (0..50).filter(|seed| taken_back(*seed)).count()
}

#[test]
fn wrong_commit_rules_are_found_and_the_right_one_is_not() {
    assert_eq!(a_read_is_taken_back(CommitRule::ByPosition), 0);
    assert!(a_read_is_taken_back(CommitRule::ByStep) > 1);
    assert!(a_read_is_taken_back(CommitRule::Never) > 1);
}
