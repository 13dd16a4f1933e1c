use crate::at;
use dpat_core::{
    Class, Classify, Effect, Entropy, GenerateError, ParseIdError, RollbackPolicy, SplitMix64,
    Ulid, UlidGenerator,
};
use std::time::Duration;

const EXAMPLE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[test]
fn the_examples_of_the_specification() {
    let id: Ulid = EXAMPLE.parse().unwrap();
    assert_eq!(id.to_string(), EXAMPLE);
    assert_eq!(Ulid::from_bytes(id.to_bytes()), id);
    assert_eq!(Ulid::MAX.to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    let too_large = "80000000000000000000000000".parse::<Ulid>();
    assert_eq!(too_large, Err(ParseIdError::Overflow));
}

#[test]
fn successor_increments_the_last_bit_and_fails_on_overflow() {
    let id: Ulid = "01BX5ZZKBKACTAV9WEVGEMMVRZ".parse().unwrap();
    assert_eq!(
        id.successor().unwrap().to_string(),
        "01BX5ZZKBKACTAV9WEVGEMMVS0"
    );
    let last: Ulid = "01BX5ZZKBKZZZZZZZZZZZZZZZZ".parse().unwrap();
    assert_eq!(last.successor(), Err(GenerateError::CounterExhausted));
}

#[test]
fn strict_parsing_reads_the_canonical_form_alone() {
    for (text, expected) in [
        ("", ParseIdError::Length(0)),
        ("01ARZ3NDEKTSV4RRFFQ69G5FA", ParseIdError::Length(25)),
        ("01arZ3NDEKTSV4RRFFQ69G5FAV", ParseIdError::Byte(2)),
        ("O1ARZ3NDEKTSV4RRFFQ69G5FAV", ParseIdError::Byte(0)),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAU", ParseIdError::Byte(25)),
        ("01ARZ3NDEK-SV4RRFFQ69G5FAV", ParseIdError::Byte(10)),
        ("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", ParseIdError::Overflow),
    ] {
        assert_eq!(text.parse::<Ulid>(), Err(expected), "{text}");
    }
}

#[test]
fn tolerant_parsing_reads_look_alikes_and_hyphens() {
    let id = EXAMPLE.parse();
    for text in [
        EXAMPLE,
        "01arz3ndektsv4rrffq69g5fav",
        "OlARZ3NDEKTSV4RRFFQ69G5FAV",
        "oIARZ-3NDEK-TSV4R-RFFQ6-9G5FA-V",
    ] {
        assert_eq!(Ulid::parse_tolerant(text), id, "{text}");
    }
    let hyphens = "-".repeat(1_000_000);
    for (text, expected) in [
        (hyphens.as_str(), ParseIdError::Length(1_000_000)),
        ("01ARZ3NDEKTSV4RRFFQ69G5FA-", ParseIdError::Length(26)),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAU", ParseIdError::Byte(25)),
        ("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", ParseIdError::Overflow),
    ] {
        assert_eq!(Ulid::parse_tolerant(text), Err(expected), "{text:.40}");
    }
}

/// Draws only ones, so that the counter starts as high as it can.
struct Ones;

impl Entropy for Ones {
    fn next_u64(&self) -> u64 {
        u64::MAX
    }
}

#[test]
fn overflow_within_a_millisecond_is_an_error_until_the_clock_moves_on() {
    let ids = UlidGenerator::new();
    let mut last = ids.next(at(0), &Ones).unwrap();
    let mut given = 1;
    let error = loop {
        match ids.next(at(0), &Ones) {
            Ok(next) => {
                assert!(next > last);
                last = next;
                given += 1;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error, GenerateError::CounterExhausted);
    assert_eq!(given, (1 << 20) + 1, "the whole upper half of the counter");
    assert_eq!(last.wall(), at(0));
    assert!(ids.next(at(1), &Ones).unwrap() > last);
}

#[test]
fn ids_of_one_millisecond_increase_and_cannot_be_guessed_from_each_other() {
    let ids = UlidGenerator::new();
    let entropy = SplitMix64::new(3);
    let made: Vec<Ulid> = (0..100)
        .map(|_| ids.next(at(0), &entropy).unwrap())
        .collect();
    assert!(made.is_sorted_by(|a, b| a < b));
    let mut tails: Vec<u128> = made
        .iter()
        .map(|id| id.random() & ((1 << 59) - 1))
        .collect();
    tails.sort_unstable();
    tails.dedup();
    assert_eq!(tails.len(), 100);
}

#[test]
fn rollback_policies() {
    let entropy = SplitMix64::new(3);
    let back = |policy| {
        let ids = UlidGenerator::with_policy(policy);
        ids.next(at(5_000), &entropy).unwrap();
        ids.next(at(1_000), &entropy).map(Ulid::wall)
    };
    let by = Duration::from_secs(4);
    assert_eq!(back(RollbackPolicy::Hold), Ok(at(5_000)));
    assert_eq!(back(RollbackPolicy::Wait), Err(GenerateError::Wait(by)));
    assert_eq!(
        back(RollbackPolicy::Fail),
        Err(GenerateError::ClockWentBack(by))
    );
    assert_eq!(back(RollbackPolicy::ResetAfter(by)), Ok(at(5_000)));
    let shorter = Duration::from_millis(3_999);
    assert_eq!(back(RollbackPolicy::ResetAfter(shorter)), Ok(at(1_000)));
}

#[test]
fn errors_say_how_to_react() {
    let wait = GenerateError::Wait(Duration::from_millis(3));
    assert_eq!(wait.class(), Class::Overloaded);
    assert_eq!(wait.retry_after(), Some(Duration::from_millis(3)));
    assert_eq!(wait.effect(), Effect::NotDone);
    assert!(wait.is_safe_to_retry());
    assert!(!GenerateError::TimeOutOfRange.is_safe_to_retry());
    assert_eq!(ParseIdError::Overflow.class(), Class::InvalidInput);
}
