//! What sketches of network faults get wrong.

use dpat_model::{Delay, Fault, LinkSet, NodeIx};
use dpat_sim::{Cause, Family, Fate, Links};

const NODES: u32 = 4;

fn arrives(links: &mut Links, now_ns: u64, from: u32, to: u32) -> bool {
    match links.route(now_ns, NodeIx(from), NodeIx(to), 1).first {
        Fate::At(_) => true,
        Fate::Lost(cause) => {
            assert_eq!(cause, Cause::Partition);
            false
        }
        Fate::Held => panic!("nothing is held"),
    }
}

#[test]
fn pitfall_14_1_a_node_in_no_group_reaches_itself_and_the_other_rest() {
    let mut links = Links::new(7, NODES);
    let group = vec![NodeIx(0)];
    links.apply(
        0,
        &Fault::Halves {
            group,
            for_us: None,
        },
    );
    for from in 0..NODES {
        for to in 0..NODES {
            let one_side = (from == 0) == (to == 0);
            assert_eq!(arrives(&mut links, 0, from, to), one_side, "{from} to {to}");
        }
    }
}

#[test]
fn pitfall_14_1_a_partition_may_be_one_way_and_heals_at_its_time() {
    let mut links = Links::new(7, NODES);
    let link = LinkSet {
        from: Some(NodeIx(1)),
        to: None,
    };
    let for_us = Some(500);
    links.apply(1_000, &Fault::OneWay { link, for_us });
    for (now_ns, healed) in [(1_000, false), (500_999, false), (501_000, true)] {
        assert_eq!(arrives(&mut links, now_ns, 1, 2), healed, "at {now_ns}");
        assert!(arrives(&mut links, now_ns, 2, 1), "the other direction");
        assert!(arrives(&mut links, now_ns, 1, 1), "itself");
    }
    links.apply(600_000, &Fault::Ring { for_us: None });
    assert!(!arrives(&mut links, 600_000, 0, 2));
    links.apply(700_000, &Fault::Heal { link: LinkSet::ALL });
    assert!(arrives(&mut links, 700_000, 0, 2));
}

#[test]
fn pitfall_14_1_links_also_lose_delay_double_and_reorder() {
    let mut links = Links::new(7, NODES);
    let (link, for_us, per_million) = (LinkSet::ALL, None, 300_000);
    let delay = Delay::Exponential(1_000);
    for fault in [
        Fault::Loss {
            link,
            per_million,
            for_us,
        },
        Fault::Delay {
            link,
            delay,
            for_us,
        },
        Fault::Duplicate {
            link,
            per_million,
            for_us,
        },
        Fault::Reorder {
            link,
            per_million,
            delay: Delay::Constant(50_000),
            for_us,
        },
    ] {
        assert!(links.apply(0, &fault));
    }
    for family in [
        Family::Loss,
        Family::Delay,
        Family::Duplicate,
        Family::Reorder,
    ] {
        assert!(links.families().has(family), "{family:?}");
    }
    let (mut lost, mut doubled, mut late, mut overtaken) = (0, 0, 0, 0);
    let mut last = 0;
    for now_ns in (0..2_000_u64).map(|send| send * 1_000) {
        let route = links.route(now_ns, NodeIx(0), NodeIx(1), 1);
        doubled += u64::from(route.copy.is_some());
        match route.first {
            Fate::At(at) => {
                late += u64::from(at > now_ns + 50_000_000);
                overtaken += u64::from(at < last);
                last = at;
            }
            _ => lost += 1,
        }
    }
    for (what, seen) in [("lost", lost), ("doubled", doubled), ("late", late)] {
        assert!((300..800).contains(&seen), "{what}: {seen}");
    }
    assert!(overtaken > 300, "{overtaken}");
}
