use crate::at;
use dpat_core::{
    GenerateError, NodeId, ParseIdError, RollbackPolicy, Snowflake, SnowflakeConfigError,
    SnowflakeGenerator, SnowflakeLayout, SnowflakeParts, Wall,
};
use std::time::Duration;

fn parts(layout: SnowflakeLayout, id: u64) -> (u64, u64, u64) {
    let SnowflakeParts {
        wall,
        node,
        sequence,
    } = layout.parts(Snowflake::from_u64(id));
    (wall.as_millis(), node.get(), sequence)
}

#[test]
fn presets_take_published_ids_apart() {
    // A tweet of 2022-06-28T16:07:40.105Z (Wikipedia, "Snowflake ID").
    let tweet = parts(SnowflakeLayout::TWITTER, 1_541_815_603_606_036_480);
    assert_eq!(tweet, (1_656_432_460_105, 378, 0));
    // Discord's developer documentation, "Snowflakes": worker 1, process 0, increment 7.
    let message = parts(SnowflakeLayout::DISCORD, 175_928_847_299_117_063);
    assert_eq!(message, (1_462_015_105_796, 1 << 5, 7));
    // Instagram's article "Sharding & IDs": shard 1341, sequence 5001 % 1024.
    let picture = parts(
        SnowflakeLayout::INSTAGRAM,
        1_387_263_000 << 23 | 1341 << 10 | 905,
    );
    assert_eq!(picture, (1_314_220_021_721 + 1_387_263_000, 1341, 905));
    let toot = parts(SnowflakeLayout::MASTODON, 1_600_000_000_000 << 16 | 54_321);
    assert_eq!(toot, (1_600_000_000_000, 0, 54_321));
}

#[test]
fn presets_generate_what_they_take_apart() {
    for layout in [
        SnowflakeLayout::TWITTER,
        SnowflakeLayout::DISCORD,
        SnowflakeLayout::INSTAGRAM,
        SnowflakeLayout::MASTODON,
    ] {
        let node = NodeId::new(layout.node_max());
        let ids = SnowflakeGenerator::builder(node)
            .layout(layout)
            .build()
            .unwrap();
        ids.next(at(3)).unwrap();
        let expected = SnowflakeParts {
            wall: at(3),
            node,
            sequence: 1,
        };
        assert_eq!(layout.parts(ids.next(at(3)).unwrap()), expected);
    }
}

#[test]
fn layouts_and_nodes_are_validated() {
    let bits = |timestamp, node, sequence| SnowflakeLayout::new(at(0), timestamp, node, sequence);
    for (timestamp, node, sequence) in [(0, 10, 12), (41, 10, 0), (41, 12, 12), (u32::MAX, 1, 1)] {
        let refused = SnowflakeConfigError::Bits {
            timestamp,
            node,
            sequence,
        };
        assert_eq!(bits(timestamp, node, sequence), Err(refused));
    }
    let layout = bits(40, 3, 1).unwrap();
    let build = |node| {
        SnowflakeGenerator::builder(NodeId::new(node))
            .layout(layout)
            .build()
    };
    assert!(build(7).is_ok());
    let refused = SnowflakeConfigError::NodeTooLarge { node: 8, max: 7 };
    assert_eq!(build(8).unwrap_err(), refused);
    // The widest of each field.
    assert!(bits(63, 0, 1).is_ok() && bits(1, 62, 1).is_ok() && bits(1, 0, 63).is_ok());
}

#[test]
fn a_policy_that_would_repeat_ids_is_refused() {
    let builder = SnowflakeGenerator::builder(NodeId::new(1));
    let reset = builder.policy(RollbackPolicy::ResetAfter(Duration::from_secs(60)));
    assert_eq!(
        reset.build().unwrap_err(),
        SnowflakeConfigError::ResetRepeatsIds
    );
}

/// Four ids a millisecond.
fn small(policy: RollbackPolicy) -> SnowflakeGenerator {
    let layout = SnowflakeLayout::new(at(0), 40, 4, 2).unwrap();
    SnowflakeGenerator::builder(NodeId::new(9))
        .layout(layout)
        .policy(policy)
        .build()
        .unwrap()
}

#[test]
fn a_used_up_sequence_returns_the_time_to_wait() {
    for policy in [
        RollbackPolicy::Hold,
        RollbackPolicy::Wait,
        RollbackPolicy::Fail,
    ] {
        let ids = small(policy);
        let now = at(5) + Duration::from_micros(250);
        let made: Vec<_> = (0..4).map(|_| ids.next(now).unwrap()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
        let wait = Duration::from_micros(750);
        assert_eq!(ids.next(now), Err(GenerateError::Wait(wait)));
        assert!(ids.next(now + wait).unwrap() > made[3]);
    }
}

#[test]
fn hold_goes_on_while_the_clock_is_behind() {
    let ids = small(RollbackPolicy::Hold);
    let mut last = ids.next(at(5)).unwrap();
    for _ in 0..20 {
        let next = ids.next(at(2)).unwrap();
        assert!(next > last);
        last = next;
    }
    // Twenty-one ids at four a millisecond: 5 to 10.
    assert_eq!(ids.layout().parts(last).wall, at(10));
    assert_eq!(ids.high_water(), at(10));
}

#[test]
fn wait_and_fail_give_nothing_while_the_clock_is_behind() {
    let ids = small(RollbackPolicy::Wait);
    ids.next(at(5)).unwrap();
    let wait = Duration::from_millis(3);
    assert_eq!(ids.next(at(2)), Err(GenerateError::Wait(wait)));
    let ids = small(RollbackPolicy::Fail);
    ids.next(at(5)).unwrap();
    assert_eq!(ids.next(at(2)), Err(GenerateError::ClockWentBack(wait)));
}

#[test]
fn times_outside_the_layout_are_an_error() {
    let layout = SnowflakeLayout::new(at(100), 4, 0, 1).unwrap();
    assert_eq!(layout.last_time(), at(115));
    let ids = SnowflakeGenerator::builder(NodeId::new(0))
        .layout(layout)
        .build()
        .unwrap();
    let refused = Err(GenerateError::TimeOutOfRange);
    assert_eq!(ids.next(at(99)), refused);
    assert_eq!(ids.next(at(116)), refused);
    assert_eq!(ids.next(Wall::MAX), refused);
    assert_eq!(layout.parts(ids.next(at(115)).unwrap()).wall, at(115));
    ids.next(at(115)).unwrap();
    assert_eq!(ids.next(at(114)), refused, "nothing is left to hold on to");
}

#[test]
fn decimal_text_is_strict_or_tolerant() {
    let id = Snowflake::from_u64(175_928_847_299_117_063);
    assert_eq!("175928847299117063".parse(), Ok(id));
    assert_eq!("0".parse(), Ok(Snowflake::from_u64(0)));
    assert_eq!(
        "18446744073709551615".parse(),
        Ok(Snowflake::from_u64(u64::MAX))
    );
    assert_eq!(Snowflake::parse_tolerant("00175928847299117063"), Ok(id));
    for (text, expected) in [
        ("", ParseIdError::Length(0)),
        ("00", ParseIdError::Byte(0)),
        ("+1", ParseIdError::Byte(0)),
        ("1 ", ParseIdError::Byte(1)),
        ("18446744073709551616", ParseIdError::Overflow),
        ("000000000000000000001", ParseIdError::Byte(0)),
    ] {
        assert_eq!(text.parse::<Snowflake>(), Err(expected), "{text}");
    }
    let long = Err(ParseIdError::Length(21));
    assert_eq!(Snowflake::parse_tolerant("000000000000000000001"), long);
}
