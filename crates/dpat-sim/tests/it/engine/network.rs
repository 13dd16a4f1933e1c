use dpat_model::{Delay, Fault, LinkSet, NodeIx};
use dpat_sim::{Coverage, Family};

use crate::puppet::*;

const A: NodeIx = NodeIx(0);
const B: NodeIx = NodeIx(1);
const N: u32 = 4;

/// Every node sends to every other one, every 100 microseconds for 20 milliseconds.
fn chatter() -> Scenario {
    let mut scenario = Scenario::new(N);
    for node in 0..N {
        let sends: Vec<Do> = (0..N)
            .filter(|to| *to != node)
            .map(|to| Send(to, 1))
            .chain([Reply])
            .collect();
        let asks = vec![ask(100_000, node, &sends); 200];
        scenario = scenario.client(&asks);
    }
    scenario
}

fn nodes(list: &[u32]) -> Vec<NodeIx> {
    list.iter().copied().map(NodeIx).collect()
}

/// Checks that from 5 ms to 10 ms nothing crosses the links that a fault cuts, and all others carry.
#[track_caller]
fn check_cut(fault: Fault, cut: impl Fn(u32, u32) -> bool) {
    let ran = chatter().at(5000, fault).run();
    let during = |event: &&(u64, Option<u32>, String)| (5_000_000..10_000_000).contains(&event.0);
    let mut crossed = vec![0; (N * N) as usize];
    for (_, to, what) in ran.heard.events.iter().filter(during) {
        if let Some(from) = what.strip_prefix("deliver n") {
            let from: u32 = from[..1].parse().unwrap();
            assert!(!cut(from, to.unwrap()), "{from} reached {to:?}");
            crossed[(from * N + to.unwrap()) as usize] += 1;
        }
    }
    for (link, count) in (0..).zip(&crossed) {
        let (from, to) = (link / N, link % N);
        assert!(
            from == to || cut(from, to) || *count > 10,
            "{from} to {to}: {count}"
        );
    }
    // What was under way when the partition began is lost on arrival.
    assert!(!ran.events("lost").is_empty());
    // And later everything passes again.
    let after = ran
        .events("deliver")
        .iter()
        .filter(|event| event.0 > 12_000_000)
        .count();
    assert!(after > 100);
}

#[test]
fn nothing_crosses_a_partition_of_any_kind() {
    let for_us = Some(5000);
    check_cut(Fault::Isolate { node: B, for_us }, |a, b| a == 1 || b == 1);
    let side = |node| node < 2;
    let group = nodes(&[0, 1]);
    check_cut(Fault::Halves { group, for_us }, |a, b| side(a) != side(b));
    let (node, group) = (NodeIx(3), nodes(&[0]));
    check_cut(
        Fault::Bridge {
            node,
            group,
            for_us,
        },
        |a, b| (a == 0) != (b == 0) && a != 3 && b != 3,
    );
    let link = LinkSet::one(A, B);
    check_cut(Fault::OneWay { link, for_us }, |a, b| (a, b) == (0, 1));
    check_cut(Fault::Cut { link, for_us }, |a, b| a + b == 1);
    check_cut(Fault::Ring { for_us }, |a, b| (a + N - b) % N == 2);
    let link = LinkSet {
        from: Some(A),
        to: None,
    };
    check_cut(Fault::Cut { link, for_us }, |a, b| a == 0 || b == 0);
}

#[test]
fn a_flapping_link_carries_only_while_it_is_up() {
    let link = LinkSet::one(A, B);
    let flap = Fault::Flap {
        link,
        down_us: 1000,
        up_us: 3000,
        for_us: None,
    };
    let ran = chatter().at(0, flap).run();
    let (mut up, mut lost) = (0, 0);
    for (at, to, what) in &ran.heard.events {
        if *to == Some(1) && what == "deliver n0#0" {
            assert!(at / 1000 % 4000 >= 1000, "{at}");
            up += 1;
        }
        lost += u32::from(*to == Some(1) && what == "lost n0#0");
    }
    assert!(up > 50 && lost > 10, "{up} {lost}");
}

#[test]
fn held_messages_come_in_order_after_their_release() {
    let link = LinkSet::one(A, B);
    let asks: Vec<Ask> = (0..5)
        .map(|number| ask(100_000, 0, &[Send(1, number), Reply]))
        .collect();
    let constant = Fault::Delay {
        link: LinkSet::ALL,
        delay: Delay::Constant(10),
        for_us: None,
    };
    let scenario = Scenario::new(2).client(&asks).at(0, constant);
    let numbers = |ran: &Ran| -> Vec<(u64, String)> {
        let times = ran
            .events("deliver")
            .iter()
            .map(|event| event.0 / 1000)
            .collect::<Vec<_>>();
        times
            .into_iter()
            .zip(ran.heard.seen[1][1..].to_vec())
            .collect()
    };
    let hold = Fault::Hold { link, for_us: None };
    let ran = scenario
        .clone()
        .at(0, hold.clone())
        .at(5000, Fault::Release { link })
        .run();
    let expected: Vec<(u64, String)> = (0..5)
        .map(|number| (5010, format!("{number} from n0#0")))
        .collect();
    assert_eq!(numbers(&ran), expected);
    // Also when the hold ends by itself, and when everything heals.
    let ran = scenario
        .clone()
        .at(
            0,
            Fault::Hold {
                link,
                for_us: Some(5000),
            },
        )
        .run();
    assert_eq!(numbers(&ran), expected);
    let ran = scenario.at(0, hold).run();
    assert_eq!(ran.events("deliver").len(), 5);
    assert!(ran.events("deliver")[0].0 >= 1_000_000_000);
}

#[test]
fn duplicated_messages_arrive_twice() {
    let link = LinkSet::ALL;
    let duplicate = Fault::Duplicate {
        link,
        per_million: 1_000_000,
        for_us: None,
    };
    let ran = Scenario::new(2)
        .client(&[ask(1000, 0, &[Send(1, 5)])])
        .at(0, duplicate)
        .run();
    assert_eq!(ran.heard.seen[1], ["start", "5 from n0#0", "5 from n0#0"]);
    assert_eq!(ran.events("deliver n0#0 again").len(), 1);
}

#[test]
fn messages_of_an_earlier_life_arrive_under_its_name() {
    let ran = Scenario::new(2)
        .client(&[ask(1000, 0, &[Send(1, 5)])])
        .at(
            100,
            Fault::Crash {
                node: A,
                for_us: Some(100),
            },
        )
        .run();
    assert_eq!(ran.heard.seen[1], ["start", "5 from n0#0"]);
    let ran = Scenario::new(2)
        .client(&[ask(1000, 0, &[Send(1, 5)])])
        .at(
            100,
            Fault::Crash {
                node: B,
                for_us: Some(10_000),
            },
        )
        .run();
    assert_eq!(ran.events("lost").len(), 1);
    assert_eq!(ran.outcome.delivered, 0);
}

#[test]
fn a_node_sends_to_itself_through_every_fault() {
    let link = LinkSet::ALL;
    let ran = Scenario::new(1)
        .client(&[ask(1000, 0, &[Send(0, 5)])])
        .at(
            0,
            Fault::Loss {
                link,
                per_million: 1_000_000,
                for_us: None,
            },
        )
        .at(0, Fault::Cut { link, for_us: None })
        .run();
    assert_eq!(ran.heard.seen[0], ["start", "req None", "5 from n0#0"]);
}

#[test]
fn coverage_knows_kinds_phases_and_faults() {
    let link = LinkSet::ALL;
    let loss = Fault::Loss {
        link,
        per_million: 1,
        for_us: Some(10_000),
    };
    let ran = Scenario::new(2)
        .client(&[
            ask(10, 0, &[Send(1, 5), Reply]),
            ask(20_000_000, 0, &[Send(1, 5), Reply]),
        ])
        .client(&[ask(10_000_000, 1, &[Log(1), Reply])])
        .at(0, loss)
        .at(0, Fault::Restart { node: A }) // changes nothing
        .run();
    let coverage: &Coverage = &ran.outcome.coverage;
    assert_eq!(coverage.count("Note", "empty", Some(Family::Loss)), 1);
    assert_eq!(coverage.count("Note", "empty", None), 0);
    assert_eq!(coverage.count("Note", "summed", None), 1);
    assert_eq!(coverage.undelivered(), ["Session"]);
    let struck: Vec<_> = coverage
        .faults()
        .iter()
        .map(|(name, n)| (*name, *n))
        .collect();
    assert_eq!(struck, [("loss", 1)]);
}
