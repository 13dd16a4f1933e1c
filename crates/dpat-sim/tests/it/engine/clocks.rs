use dpat_model::{Fault, NodeIx};

use crate::puppet::*;

const NODE: NodeIx = NodeIx(0);

/// Arms timer 1 for 1 millisecond from 10 nanoseconds on; returns when it fires, and what the wall clock then shows.
fn fires(faults: &[(u64, Fault)]) -> (u64, u64) {
    let mut scenario = Scenario::new(1).client(&[ask(10, 0, &[Arm(1, 1_000_000)])]);
    for (us, fault) in faults {
        scenario = scenario.at(*us, fault.clone());
    }
    let ran = scenario.run();
    let [(at, ..)] = ran.events("timer")[..] else {
        panic!("{:?}", ran.heard.events)
    };
    let line = ran.heard.seen[0].last().unwrap();
    (*at, line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn timers_follow_the_clock_of_their_node() {
    let node = NODE;
    assert_eq!(fires(&[]), (1_000_010, 1_000_010));
    let offset = Fault::ClockOffset { node, offset_us: 7 };
    assert_eq!(fires(&[(1, offset)]), (1_000_010, 1_007_010));
    let jump = Fault::ClockJump {
        node,
        jump_us: -500,
    };
    assert_eq!(fires(&[(1, jump)]), (1_000_010, 500_010));
    // Half of the time passes at double speed.
    let fast = Fault::ClockDrift {
        node,
        drift_per_million: 1_000_000,
    };
    assert_eq!(fires(&[(500, fast.clone())]).0, 750_005);
    let slow = Fault::ClockDrift {
        node,
        drift_per_million: -500_000,
    };
    assert_eq!(fires(&[(500, slow.clone())]).0, 1_500_020);
    assert_eq!(fires(&[(500, slow), (900, fast)]).0, 900_000 + 150_005);
    let freeze = |for_us| Fault::ClockFreeze { node, for_us };
    assert_eq!(fires(&[(500, freeze(Some(300)))]).0, 1_300_010);
    // Until everything heals.
    assert_eq!(fires(&[(500, freeze(None))]).0, 1_000_500_010);
    // Other nodes have clocks of their own.
    let other = Scenario::new(2)
        .client(&[ask(10, 1, &[Arm(1, 1000)])])
        .at(0, freeze(None))
        .run();
    assert_eq!(other.events("timer")[0].0, 1010);
}

#[test]
fn timers_equal_in_time_fire_in_the_order_in_which_they_were_armed() {
    let asks = [ask(
        10,
        0,
        &[
            Arm(3, 500),
            Arm(1, 500),
            Arm(2, 500),
            Arm(1, 400),
            Arm(3, 500),
        ],
    )];
    let order = |scenario: &Scenario| -> Vec<(u64, String)> {
        let ran = scenario.run();
        ran.events("timer")
            .iter()
            .map(|event| (event.0, event.2.clone()))
            .collect()
    };
    let timer = |at, key: u8| (at, format!("timer {key}"));
    let scenario = Scenario::new(1).client(&asks);
    assert_eq!(
        order(&scenario),
        [timer(410, 1), timer(510, 2), timer(510, 3)]
    );
    // Armed again to a later time: the arming counts, not the first one.
    let again = [ask(
        10,
        0,
        &[
            Arm(3, 100),
            Arm(3, 500),
            Arm(2, 500),
            Arm(1, 500),
            Arm(2, 500),
            Reply,
        ],
    )];
    assert_eq!(
        order(&Scenario::new(1).client(&again)),
        [timer(510, 3), timer(510, 1), timer(510, 2)]
    );
    // From different steps, and with a drifting clock.
    let steps = Scenario::new(1)
        .client(&[ask(10, 0, &[Arm(9, 4000)])])
        .client(&[ask(1010, 0, &[Arm(5, 3000)])])
        .client(&[ask(2010, 0, &[Arm(7, 2000)])])
        .at(
            3,
            Fault::ClockDrift {
                node: NODE,
                drift_per_million: 333_333,
            },
        );
    let order = order(&steps);
    assert_eq!(
        order
            .iter()
            .map(|(_, what)| what.as_str())
            .collect::<Vec<_>>(),
        ["timer 9", "timer 5", "timer 7"]
    );
    assert!(order.iter().all(|(at, _)| *at == order[0].0));
}

#[test]
fn disarmed_timers_and_those_of_an_earlier_life_do_not_fire() {
    let ran = Scenario::new(1)
        .client(&[ask(
            10,
            0,
            &[Arm(1, 500), Arm(2, 600), Disarm(1), Disarm(3)],
        )])
        .run();
    assert_eq!(ran.events("timer").len(), 1);
    let ran = Scenario::new(1)
        .client(&[ask(10, 0, &[Arm(1, 50_000)])])
        .at(
            5,
            Fault::Crash {
                node: NODE,
                for_us: Some(10),
            },
        )
        .run();
    assert_eq!(ran.events("timer").len(), 0);
}

#[test]
fn deadlines_are_told_in_the_time_of_the_node() {
    let mut asked = ask(10, 0, &[]);
    asked.patience = std::time::Duration::from_nanos(700);
    let freeze = Fault::ClockFreeze {
        node: NODE,
        for_us: None,
    };
    let ran = Scenario::new(1).client(&[asked]).at(0, freeze).run();
    assert_eq!(ran.heard.seen[0], ["start", "req Some(700ns)", "cancel 0"]);
}

#[test]
fn choices_are_drawn_from_the_stream_of_the_node() {
    let asks = [ask(10, 0, &[Choose(1000), Choose(1000)])];
    let alone = Scenario::new(2).client(&asks).run();
    let other = [ask(5, 1, &[Choose(1000)])];
    let together = Scenario::new(2).client(&asks).client(&other).run();
    assert_eq!(alone.heard.seen[0], together.heard.seen[0]);
    assert_ne!(alone.heard.seen[0][2], alone.heard.seen[0][3]);
}
