use dpat_model::{Fault, LinkSet, NodeIx};

use crate::puppet::*;

const A: NodeIx = NodeIx(0);
const B: NodeIx = NodeIx(1);

/// Node 0 sends ever higher numbers to node 1 on a session, one each 200 microseconds for 100 milliseconds.
fn numbers() -> Scenario {
    let asks: Vec<Ask> = (1..500)
        .map(|number| ask(200_000, 0, &[SendSession(1, number), Reply]))
        .collect();
    Scenario::new(2).client(&asks)
}

/// Checks what node 1 has seen: between an up and a down of the same peer, a run of numbers without a gap.
#[track_caller]
fn check_prefixes(ran: &Ran) -> Vec<usize> {
    let mut runs = Vec::new();
    let mut session: Option<(String, Option<u64>)> = None;
    for line in &ran.heard.lives[1] {
        if line == "start" {
            session = None; // a new life knows nothing
        } else if let Some(peer) = line.strip_prefix("up ") {
            assert_eq!(session, None, "{line}");
            session = Some((peer.to_owned(), None));
            runs.push(0);
        } else if let Some(peer) = line.strip_prefix("down ") {
            let (known, _) = session.take().expect("a session began");
            assert_eq!(known, peer);
        } else if let Some((number, peer)) = line.split_once(" from ") {
            let number: u64 = number.parse().unwrap();
            let (known, last) = session.as_mut().expect("a session is there");
            assert_eq!(known, peer);
            if let Some(last) = last {
                assert_eq!(number, *last + 1);
            }
            *last = Some(number);
            *runs.last_mut().unwrap() += 1;
        }
    }
    runs
}

#[test]
fn sessions_open_between_all_pairs_and_carry_in_order() {
    let ran = numbers().run_with_sessions();
    assert_eq!(ran.events("up").len(), 2);
    assert_eq!(ran.events("down").len(), 0);
    let runs = check_prefixes(&ran);
    assert!(runs.len() == 1 && runs[0] > 400, "{runs:?}");
    // Without sessions the same messages are datagrams, which overtake each other.
    let ran = numbers().run();
    let seen = &ran.heard.seen[1];
    let mut sorted = seen.clone();
    sorted.sort_by_key(|line| {
        line.split(' ')
            .next()
            .and_then(|number| number.parse::<u64>().ok())
    });
    assert_ne!(*seen, sorted);
}

#[test]
fn loss_duplication_and_reordering_do_not_show_on_a_session() {
    let (link, for_us) = (LinkSet::ALL, None);
    let delay = dpat_model::Delay::Uniform(0, 20_000);
    let ran = numbers()
        .at(
            0,
            Fault::Loss {
                link,
                per_million: 300_000,
                for_us,
            },
        )
        .at(
            0,
            Fault::Duplicate {
                link,
                per_million: 300_000,
                for_us,
            },
        )
        .at(
            0,
            Fault::Reorder {
                link,
                per_million: 300_000,
                delay,
                for_us,
            },
        )
        .run_with_sessions();
    let runs = check_prefixes(&ran);
    assert!(runs.len() == 1 && runs[0] > 400, "{runs:?}");
}

#[test]
fn a_partition_ends_sessions_and_they_come_back() {
    for seed in 0..20 {
        let mut scenario = numbers().at(
            20_000,
            Fault::Isolate {
                node: A,
                for_us: Some(30_000),
            },
        );
        scenario.seed = seed;
        let ran = scenario.run_with_sessions();
        assert_eq!(ran.events("down n0#0").len(), 1, "{seed}");
        assert_eq!(ran.events("down n1#0").len(), 1, "{seed}");
        assert_eq!(ran.events("up").len(), 4, "{seed}");
        let runs = check_prefixes(&ran);
        assert!(
            runs.len() == 2 && runs.iter().all(|run| *run > 20),
            "{seed}: {runs:?}"
        );
        // What was under way when the partition began is lost.
        assert!(!ran.events("lost").is_empty(), "{seed}");
    }
}

#[test]
fn a_one_way_partition_ends_sessions_too() {
    let link = LinkSet::one(B, A);
    let ran = numbers()
        .at(
            20_000,
            Fault::OneWay {
                link,
                for_us: Some(30_000),
            },
        )
        .run_with_sessions();
    assert_eq!(ran.events("down").len(), 2);
    assert_eq!(check_prefixes(&ran).len(), 2);
}

#[test]
fn a_crash_ends_sessions_and_the_next_life_has_new_ones() {
    for (node, for_us) in [
        (A, Some(10)),
        (A, Some(60_000)),
        (B, Some(10)),
        (B, Some(60_000)),
    ] {
        for seed in 0..20 {
            let mut scenario = numbers().at(30_000, Fault::Crash { node, for_us });
            scenario.seed = seed;
            let ran = scenario.run_with_sessions();
            let runs = check_prefixes(&ran);
            assert_eq!(runs.len(), 2, "{node} {for_us:?} {seed}");
            // Only the one that lives on hears of the end.
            assert_eq!(ran.events("down").len(), 1, "{node} {for_us:?} {seed}");
        }
    }
}

#[test]
fn a_paused_node_keeps_its_sessions() {
    let ran = numbers()
        .at(
            20_000,
            Fault::Pause {
                node: B,
                for_us: Some(30_000),
            },
        )
        .run_with_sessions();
    assert_eq!(ran.events("down").len(), 0);
    let runs = check_prefixes(&ran);
    assert!(runs.len() == 1 && runs[0] > 400, "{runs:?}");
}

#[test]
fn held_messages_of_a_session_keep_their_order() {
    let link = LinkSet::one(A, B);
    let ran = numbers()
        .at(
            20_000,
            Fault::Hold {
                link,
                for_us: Some(30_000),
            },
        )
        .run_with_sessions();
    let runs = check_prefixes(&ran);
    assert!(runs.len() == 1 && runs[0] > 400, "{runs:?}");
    // Unless the session ends meanwhile.
    let ran = numbers()
        .at(
            20_000,
            Fault::Hold {
                link,
                for_us: Some(30_000),
            },
        )
        .at(
            30_000,
            Fault::Crash {
                node: A,
                for_us: Some(10),
            },
        )
        .run_with_sessions();
    assert_eq!(check_prefixes(&ran).len(), 2);
}

#[test]
fn a_link_that_loses_everything_ends_the_session() {
    let link = LinkSet::one(A, B);
    let loss = Fault::Loss {
        link,
        per_million: 1_000_000,
        for_us: Some(40_000),
    };
    let ran = numbers().at(20_000, loss).run_with_sessions();
    check_prefixes(&ran);
    assert!(ran.events("down").len() >= 2);
}

#[test]
fn what_is_sent_without_a_session_goes_nowhere() {
    let ran = Scenario::new(2)
        .client(&[ask(10, 0, &[SendSession(1, 5), Reply])])
        .run_with_sessions();
    assert_eq!(ran.outcome.delivered, 0);
    // A node reaches itself without one.
    let ran = Scenario::new(2)
        .client(&[ask(10, 0, &[SendSession(0, 5)])])
        .run_with_sessions();
    assert_eq!(ran.heard.seen[0][2], "5 from n0#0");
}
