use crate::at;
use dpat_core::{
    Entropy, GenerateError, ParseIdError, RollbackPolicy, SplitMix64, Uuid7, Uuid7Generator, Wall,
};
use std::time::Duration;

/// RFC 9562 appendix A.6.
const EXAMPLE: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

#[test]
fn the_example_of_the_rfc() {
    let id: Uuid7 = EXAMPLE.parse().unwrap();
    assert_eq!(id.wall().as_millis(), 0x017F_22E2_79B0);
    assert_eq!(
        id,
        Uuid7::from_parts(0x017F_22E2_79B0, 0xCC3, 0x18C4_DC0C_0C07_398F)
    );
    assert_eq!(id.to_string(), EXAMPLE);
    assert_eq!(id.as_u128(), 0x017F_22E2_79B0_7CC3_98C4_DC0C_0C07_398F);
}

#[test]
fn parts_do_not_spill_into_version_and_variant() {
    let id = Uuid7::from_parts(u64::MAX, u16::MAX, u64::MAX);
    assert_eq!(id.to_string(), "ffffffff-ffff-7fff-bfff-ffffffffffff");
    assert_eq!(Uuid7::from_bytes(id.to_bytes()), Ok(id));
}

#[test]
fn strict_parsing_reads_the_hyphenated_form_alone() {
    let upper = EXAMPLE.to_uppercase();
    assert_eq!(upper.parse::<Uuid7>(), EXAMPLE.parse());
    let version = Err(ParseIdError::Version);
    for (text, expected) in [
        ("", Err(ParseIdError::Length(0))),
        (
            "017f22e279b07cc398c4dc0c0c07398f",
            Err(ParseIdError::Length(32)),
        ),
        (
            "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
            Err(ParseIdError::Length(38)),
        ),
        (
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
            Err(ParseIdError::Byte(35)),
        ),
        (
            "017f22e279b0--7cc3-98c4-dc0c0c07398f",
            Err(ParseIdError::Byte(8)),
        ),
        (
            "+17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            Err(ParseIdError::Byte(0)),
        ),
        (
            "017f22e2-79b0-7cc3-98c4-dc0c0c0739é",
            Err(ParseIdError::Byte(34)),
        ),
        ("017f22e2-79b0-4cc3-98c4-dc0c0c07398f", version),
        ("017f22e2-79b0-7cc3-18c4-dc0c0c07398f", version),
        ("00000000-0000-0000-0000-000000000000", version),
    ] {
        assert_eq!(text.parse::<Uuid7>(), expected, "{text}");
    }
}

#[test]
fn tolerant_parsing_reads_every_common_form() {
    let id = EXAMPLE.parse();
    for text in [
        EXAMPLE,
        "017F22E279B07CC398C4DC0C0C07398F",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
        "{017f22e279b07cc398c4dc0c0c07398f}",
        "URN:UUID:017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
    ] {
        assert_eq!(Uuid7::parse_tolerant(text), id, "{text}");
    }
    for (text, expected) in [
        ("", ParseIdError::Length(0)),
        ("{}", ParseIdError::Length(2)),
        ("{", ParseIdError::Length(1)),
        ("urn:uuid:", ParseIdError::Length(9)),
        ("urn:uuié", ParseIdError::Length(9)),
        (
            " 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            ParseIdError::Length(37),
        ),
        (
            "{017f22e2-79b0-7cc3-98c4-dc0c0c07398x}",
            ParseIdError::Byte(36),
        ),
        (
            "urn:uuid:017f22e2-79b0-7cc3-98c4-dc0c0c07398x",
            ParseIdError::Byte(44),
        ),
    ] {
        assert_eq!(Uuid7::parse_tolerant(text), Err(expected), "{text}");
    }
}

/// The 21-bit counter of an id: `rand_a` and the first nine bits of `rand_b`.
fn counter(id: Uuid7) -> u128 {
    (id.as_u128() >> 64 & 0xFFF) << 9 | (id.as_u128() >> 53 & 0x1FF)
}

/// Draws only ones, so that the counter starts as high as it can.
struct Ones;

impl Entropy for Ones {
    fn next_u64(&self) -> u64 {
        u64::MAX
    }
}

#[test]
fn the_counter_begins_with_its_guard_bit_clear_and_grows_by_one() {
    let ids = Uuid7Generator::new();
    let first = ids.next(at(0), &Ones).unwrap();
    assert_eq!(counter(first), (1 << 20) - 1);
    let second = ids.next(at(0), &SplitMix64::new(0)).unwrap();
    assert_eq!(counter(second), 1 << 20);
    let entropy = SplitMix64::new(1);
    let starts: Vec<_> = (1..50)
        .map(|millis| counter(ids.next(at(millis), &entropy).unwrap()))
        .collect();
    assert!(starts.iter().all(|start| *start < 1 << 20));
    assert!(
        starts.windows(2).any(|pair| pair[0] > pair[1]),
        "a new random start each time"
    );
}

#[test]
fn a_counter_that_rolls_over_takes_the_next_millisecond() {
    let ids = Uuid7Generator::new();
    let mut last = ids.next(at(0), &Ones).unwrap();
    while last.wall() == at(0) {
        let next = ids.next(at(0), &Ones).unwrap();
        assert!(next > last);
        last = next;
    }
    assert_eq!(last.wall(), at(1));
    assert_eq!(counter(last), 0);
    assert_eq!(ids.high_water(), at(1));
}

#[test]
fn hold_keeps_the_time_of_a_clock_that_went_back() {
    let ids = Uuid7Generator::new();
    let before = ids.next(at(1_000), &Ones).unwrap();
    let after = ids.next(at(0), &Ones).unwrap();
    assert!(after > before);
    assert_eq!(after.wall(), at(1_000));
}

#[test]
fn wait_tells_how_long_and_fail_tells_how_far() {
    let ids = Uuid7Generator::with_policy(RollbackPolicy::Wait);
    ids.next(at(1_000), &Ones).unwrap();
    let early = at(700) + Duration::from_micros(400);
    let wait = Duration::from_micros(299_600);
    assert_eq!(ids.next(early, &Ones), Err(GenerateError::Wait(wait)));
    assert!(ids.next(early + wait, &Ones).is_ok());

    let ids = Uuid7Generator::with_policy(RollbackPolicy::Fail);
    ids.next(at(1_000), &Ones).unwrap();
    let by = Duration::from_millis(300);
    assert_eq!(
        ids.next(at(700), &Ones),
        Err(GenerateError::ClockWentBack(by))
    );
    assert!(ids.next(at(1_000), &Ones).is_ok());
}

#[test]
fn reset_holds_small_steps_and_accepts_large_ones() {
    let limit = Duration::from_secs(10);
    let ids = Uuid7Generator::with_policy(RollbackPolicy::ResetAfter(limit));
    let entropy = SplitMix64::new(1);
    ids.next(at(20_000), &entropy).unwrap();
    assert_eq!(ids.next(at(10_000), &entropy).unwrap().wall(), at(20_000));
    let reset = ids.next(at(9_999), &entropy).unwrap();
    assert_eq!(reset.wall(), at(9_999));
    assert!(ids.next(at(9_999), &entropy).unwrap() > reset);
}

#[test]
fn times_beyond_the_field_are_an_error() {
    let ids = Uuid7Generator::new();
    assert_eq!(
        ids.next(Wall::MAX, &Ones),
        Err(GenerateError::TimeOutOfRange)
    );
    assert!(ids.next(Wall::MIN, &Ones).is_ok());
}
