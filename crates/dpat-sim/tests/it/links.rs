use dpat_model::{Delay, Fault, LinkSet, NodeIx};
use dpat_sim::{Cause, DEFAULT_DELAY_MAX_NS, DEFAULT_DELAY_MIN_NS, Fate, Links, SELF_DELAY_NS};

const A: NodeIx = NodeIx(0);
const B: NodeIx = NodeIx(1);

fn nodes(list: &[u32]) -> Vec<NodeIx> {
    list.iter().copied().map(NodeIx).collect()
}

/// Returns which directed links a fault cuts, in a system of so many nodes.
fn cut_by(count: u32, fault: &Fault) -> Vec<(u32, u32)> {
    let mut links = Links::new(1, count);
    assert!(links.apply(0, fault));
    let mut cut = Vec::new();
    for from in 0..count {
        for to in 0..count {
            let lost =
                links.route(0, NodeIx(from), NodeIx(to), 1).first == Fate::Lost(Cause::Partition);
            assert_eq!(lost, links.is_cut(0, NodeIx(from), NodeIx(to)));
            if lost {
                cut.push((from, to));
            }
        }
    }
    cut
}

#[test]
fn every_kind_of_partition_cuts_what_it_names() {
    let for_us = None;
    let link = LinkSet::one(A, B);
    assert_eq!(
        cut_by(3, &Fault::Isolate { node: B, for_us }),
        [(0, 1), (1, 0), (1, 2), (2, 1)]
    );
    let group = nodes(&[0, 1]);
    assert_eq!(
        cut_by(3, &Fault::Halves { group, for_us }),
        [(0, 2), (1, 2), (2, 0), (2, 1)]
    );
    let (node, group) = (NodeIx(2), nodes(&[0]));
    assert_eq!(
        cut_by(
            3,
            &Fault::Bridge {
                node,
                group,
                for_us
            }
        ),
        [(0, 1), (1, 0)]
    );
    assert_eq!(cut_by(3, &Fault::OneWay { link, for_us }), [(0, 1)]);
    assert_eq!(cut_by(3, &Fault::Cut { link, for_us }), [(0, 1), (1, 0)]);
    let flap = Fault::Flap {
        link,
        down_us: 1,
        up_us: 1,
        for_us,
    };
    assert_eq!(cut_by(3, &flap), [(0, 1), (1, 0)]);
    let from_a = LinkSet {
        from: Some(A),
        to: None,
    };
    assert_eq!(
        cut_by(
            3,
            &Fault::OneWay {
                link: from_a,
                for_us
            }
        ),
        [(0, 1), (0, 2)]
    );
    assert_eq!(
        cut_by(
            2,
            &Fault::Cut {
                link: LinkSet::ALL,
                for_us
            }
        ),
        [(0, 1), (1, 0)]
    );
}

#[test]
fn in_a_ring_every_node_hears_a_majority_and_no_two_the_same() {
    for count in 3..12 {
        let cut = cut_by(count, &Fault::Ring { for_us: None });
        let heard = |to| -> Vec<u32> {
            (0..count)
                .filter(|from| !cut.contains(&(*from, to)))
                .collect()
        };
        let mut all: Vec<Vec<u32>> = (0..count).map(heard).collect();
        for (to, heard) in all.iter().enumerate() {
            assert_eq!(heard.len(), count as usize / 2 + 1, "{count} {to}");
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count as usize, "{count}");
    }
}

#[test]
fn without_faults_messages_take_the_default_delay() {
    let mut links = Links::new(1, 2);
    for now in 0..1000 {
        let route = links.route(now, A, B, 1);
        let Fate::At(at) = route.first else {
            panic!("{route:?}")
        };
        assert!((DEFAULT_DELAY_MIN_NS..=DEFAULT_DELAY_MAX_NS).contains(&(at - now)));
        assert_eq!(route.copy, None);
    }
}

#[test]
fn what_a_node_sends_to_itself_is_never_lost() {
    let mut links = Links::new(1, 2);
    links.apply(
        0,
        &Fault::Loss {
            link: LinkSet::ALL,
            per_million: 1_000_000,
            for_us: None,
        },
    );
    links.apply(
        0,
        &Fault::Cut {
            link: LinkSet::ALL,
            for_us: None,
        },
    );
    links.apply(
        0,
        &Fault::Hold {
            link: LinkSet::ALL,
            for_us: None,
        },
    );
    assert_eq!(links.route(5, A, A, 1).first, Fate::At(5 + SELF_DELAY_NS));
    assert!(!links.is_cut(5, A, A) && !links.is_held(5, A, A));
}

#[test]
fn the_later_fault_counts_and_an_ended_one_leaves_the_earlier() {
    let mut links = Links::new(1, 2);
    let delay = |us, for_us| Fault::Delay {
        link: LinkSet::ALL,
        delay: Delay::Constant(us),
        for_us,
    };
    links.apply(0, &delay(10, None));
    links.apply(0, &delay(20, Some(100)));
    assert_eq!(links.route(0, A, B, 1).first, Fate::At(20_000));
    assert_eq!(links.next_change(), 100_000);
    assert_eq!(links.route(100_000, A, B, 1).first, Fate::At(110_000));
    assert_eq!(links.next_change(), u64::MAX);
}

#[test]
fn healing_some_links_leaves_the_others() {
    let mut links = Links::new(1, 3);
    links.apply(
        0,
        &Fault::Isolate {
            node: A,
            for_us: None,
        },
    );
    links.apply(
        0,
        &Fault::Heal {
            link: LinkSet::one(A, B),
        },
    );
    assert!(!links.is_cut(0, A, B));
    assert!(links.is_cut(0, B, A) && links.is_cut(0, A, NodeIx(2)));
    links.apply(
        0,
        &Fault::Cut {
            link: LinkSet::one(A, B),
            for_us: None,
        },
    );
    assert!(links.is_cut(0, A, B));
    links.apply(0, &Fault::Heal { link: LinkSet::ALL });
    assert!(!links.is_cut(0, A, B) && !links.is_cut(0, B, A));
    assert!(links.families().is_empty());
}

#[test]
fn a_flapping_link_goes_down_and_up_until_it_ends() {
    let mut links = Links::new(1, 2);
    let link = LinkSet::one(A, B);
    links.apply(
        1000,
        &Fault::Flap {
            link,
            down_us: 2,
            up_us: 3,
            for_us: Some(12),
        },
    );
    let down: Vec<u64> = (1..16).filter(|us| links.is_cut(us * 1000, A, B)).collect();
    assert_eq!(down, [1, 2, 6, 7, 11, 12]);
    // Whole periods may be skipped.
    links.apply(
        20_000,
        &Fault::Flap {
            link,
            down_us: 2,
            up_us: 3,
            for_us: None,
        },
    );
    assert!(links.is_cut(20_000 + 5_000 * 1_000_000 + 1_999, A, B));
    assert!(!links.is_cut(20_000 + 5_000 * 1_000_000 + 2_000, A, B));
}

#[test]
fn held_messages_wait_for_their_release() {
    let mut links = Links::new(1, 2);
    links.apply(
        0,
        &Fault::Hold {
            link: LinkSet::one(A, B),
            for_us: None,
        },
    );
    assert_eq!(links.route(0, A, B, 1).first, Fate::Held);
    assert!(matches!(links.route(0, B, A, 1).first, Fate::At(_)));
    links.apply(
        5,
        &Fault::Release {
            link: LinkSet::one(A, B),
        },
    );
    assert!(!links.is_held(5, A, B));
    assert!(matches!(links.route(5, A, B, 1).first, Fate::At(_)));
}

#[test]
fn a_link_of_limited_capacity_sends_one_byte_after_the_other() {
    let mut links = Links::new(1, 2);
    let delay = Delay::Constant(1);
    links.apply(
        0,
        &Fault::Delay {
            link: LinkSet::ALL,
            delay,
            for_us: None,
        },
    );
    let capacity = Fault::Capacity {
        link: LinkSet::ALL,
        bytes_per_s: 1_000_000,
        for_us: None,
    };
    links.apply(0, &capacity);
    assert!(links.needs_sizes());
    assert_eq!(links.route(0, A, B, 10).first, Fate::At(11_000));
    assert_eq!(links.route(0, A, B, 5).first, Fate::At(16_000));
    assert_eq!(links.route(0, B, A, 5).first, Fate::At(6_000)); // the other direction is free
    assert_eq!(links.route(50_000, A, B, 1).first, Fate::At(52_000));
}

#[test]
fn other_faults_are_left_to_others() {
    let mut links = Links::new(1, 2);
    assert!(!links.apply(
        0,
        &Fault::Crash {
            node: A,
            for_us: None
        }
    ));
    assert!(links.families().is_empty());
}
