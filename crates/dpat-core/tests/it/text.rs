//! Text, bytes and values sort alike, and text comes back as the value.

use dpat_core::{CorrelationId, Epoch, HlcTimestamp, NodeId, ParseIdError, Snowflake, Ulid, Uuid7};
use proptest::prelude::*;

proptest! {
    #[test]
    fn uuid7_order_is_text_order_is_byte_order(a: [u64; 3], b: [u64; 3]) {
        #[allow(clippy::cast_possible_truncation)] // any bits will do
        let make = |[millis, a, b]: [u64; 3]| Uuid7::from_parts(millis, a as u16, b);
        let (a, b) = (make(a), make(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        prop_assert_eq!(a.to_string().parse(), Ok(a));
        prop_assert_eq!(Uuid7::parse_tolerant(&a.to_string().to_uppercase()), Ok(a));
        prop_assert_eq!(Uuid7::from_bytes(a.to_bytes()), Ok(a));
    }

    #[test]
    fn ulid_order_is_text_order_is_byte_order(a: u128, b: u128) {
        let (a, b) = (Ulid::from_u128(a), Ulid::from_u128(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        prop_assert_eq!(a.to_string().parse(), Ok(a));
        prop_assert_eq!(Ulid::parse_tolerant(&a.to_string().to_lowercase()), Ok(a));
        prop_assert_eq!(Ulid::from_parts(a.wall().as_millis(), a.random()).random(), a.random());
    }

    #[test]
    fn snowflake_order_is_sortable_text_order_is_byte_order(a: u64, b: u64) {
        let (a, b) = (Snowflake::from_u64(a), Snowflake::from_u64(b));
        let order = a.cmp(&b);
        prop_assert_eq!(order, format!("{a:020}").cmp(&format!("{b:020}")));
        prop_assert_eq!(order, a.encode_sortable(&mut [0; 13]).cmp(b.encode_sortable(&mut [0; 13])));
        prop_assert_eq!(order, a.to_bytes().cmp(&b.to_bytes()));
        prop_assert_eq!(a.to_string().parse(), Ok(a));
        prop_assert_eq!(Snowflake::parse_tolerant(&format!("{a:020}")), Ok(a));
        prop_assert_eq!(Snowflake::parse_sortable(a.encode_sortable(&mut [0; 13])), Ok(a));
        prop_assert_eq!(Snowflake::from_bytes(a.to_bytes()), a);
    }

    #[test]
    fn hlc_order_is_text_order(a: u64, b: u64) {
        let (a, b) = (HlcTimestamp::from_u64(a), HlcTimestamp::from_u64(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(a.to_string().parse(), Ok(a));
    }

    #[test]
    fn correlation_ids_come_back(number: u128) {
        let id = CorrelationId::from_u128(number);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(id.as_u128(), number);
    }

    #[test]
    fn parsers_survive_any_text(text in "\\PC{0,48}") {
        // What is accepted is canonical up to case; nothing panics.
        if let Ok(id) = text.parse::<Uuid7>() {
            prop_assert!(id.to_string().eq_ignore_ascii_case(&text));
        }
        if let Ok(id) = text.parse::<Ulid>() {
            prop_assert_eq!(id.to_string(), text.as_str());
        }
        if let Ok(id) = text.parse::<Snowflake>() {
            prop_assert_eq!(id.to_string(), text.as_str());
        }
        if let Ok(id) = text.parse::<HlcTimestamp>() {
            prop_assert_eq!(id.to_string(), text.as_str());
        }
        prop_assert!(Uuid7::parse_tolerant(&text).is_err() || text.len() >= 32);
        prop_assert!(Ulid::parse_tolerant(&text).is_err() || text.len() >= 26);
        prop_assert!(CorrelationId::parse_tolerant(&text).is_err() || text.len() >= 32);
    }
}

#[test]
fn a_correlation_id_reads_uuids_of_any_version() {
    let text = "919108f7-52d1-4320-9bac-f847db4148a8";
    let id = CorrelationId::parse_tolerant(text).unwrap();
    assert_eq!(id.to_string(), "919108f752d143209bacf847db4148a8");
    assert_eq!(text.parse::<CorrelationId>(), Err(ParseIdError::Length(36)));
    let uuid: Uuid7 = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
    assert_eq!(CorrelationId::from(uuid).to_bytes(), uuid.to_bytes());
    assert_eq!(CorrelationId::from(Ulid::MAX).as_u128(), u128::MAX);
}

#[test]
fn sortable_text_is_bounded() {
    let overflow = Err(ParseIdError::Overflow);
    assert_eq!(Snowflake::parse_sortable("ZZZZZZZZZZZZZ"), overflow);
    let max = Snowflake::from_u64(u64::MAX);
    assert_eq!(max.encode_sortable(&mut [0; 13]), "FZZZZZZZZZZZZ");
}

#[test]
fn hlc_text_is_strict() {
    for (text, expected) in [
        ("", ParseIdError::Length(0)),
        ("000000000000000G", ParseIdError::Byte(15)),
        ("000000000000000A", ParseIdError::Byte(15)),
        ("+00000000000000a", ParseIdError::Byte(0)),
    ] {
        assert_eq!(text.parse::<HlcTimestamp>(), Err(expected), "{text}");
    }
}

#[test]
fn numbers_and_widths() {
    assert_eq!("7".parse(), Ok(NodeId::new(7)));
    assert_eq!("33".parse(), Ok(Epoch::new(33)));
    assert_eq!(
        format!("{:>4}|{:<4}", NodeId::new(7), Epoch::new(33)),
        "   7|33  "
    );
    let id = Ulid::MIN;
    assert_eq!(format!("{id:>28}"), format!("  {id}"));
}
