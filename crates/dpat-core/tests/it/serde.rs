//! The stored and sent forms, byte by byte.

use dpat_core::{
    CausalOrder, Class, CorrelationId, Effect, Epoch, Fence, HlcTimestamp, LamportTime, NodeId,
    Snowflake, Ulid, Uuid7, VersionVector,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str, bytes: &[u8]) {
    assert_eq!(serde_json::to_string(value).unwrap(), json);
    assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
    // Owned text, as from a `Value`, takes another path than borrowed text.
    let tree: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(&serde_json::from_value::<T>(tree).unwrap(), value);
    assert_eq!(postcard::to_stdvec(value).unwrap(), bytes);
    assert_eq!(&postcard::from_bytes::<T>(bytes).unwrap(), value);
}

#[track_caller]
fn refuse<T: DeserializeOwned + Debug>(json: &str, reason: &str) {
    let error = serde_json::from_str::<T>(json).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn ids_are_text_or_sixteen_bytes() {
    let uuid: Uuid7 = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
    check(
        &uuid,
        "\"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\"",
        &uuid.to_bytes(),
    );
    let ulid: Ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    check(&ulid, "\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"", &ulid.to_bytes());
    let id = CorrelationId::from_u128(0xAB);
    check(&id, "\"000000000000000000000000000000ab\"", &id.to_bytes());
    refuse::<Uuid7>("\"017f22e2-79b0-4cc3-98c4-dc0c0c07398f\"", "version");
    refuse::<Ulid>("7", "a ULID as text");
    let version_4 = [0x44; 16];
    assert!(postcard::from_bytes::<Uuid7>(&version_4).is_err());
}

#[test]
fn snowflakes_are_decimal_text_or_a_number() {
    let id = Snowflake::from_u64(u64::MAX);
    let varint = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    check(&id, "\"18446744073709551615\"", &varint);
    refuse::<Snowflake>("\"007\"", "unexpected byte at 0");
}

#[test]
fn clocks() {
    let stamp = HlcTimestamp::from_u64(300);
    check(&stamp, "\"000000000000012c\"", &[0xAC, 0x02]);
    let time = LamportTime {
        time: 5,
        node: NodeId::new(2),
    };
    check(&time, r#"{"time":5,"node":2}"#, &[5, 2]);
    let vector = VersionVector::from_sorted([(NodeId::new(1), 3), (NodeId::new(9), 1)]).unwrap();
    check(&vector, "[[1,3],[9,1]]", &[2, 1, 3, 9, 1]);
    check(&CausalOrder::Concurrent, "\"concurrent\"", &[3]);
}

#[test]
fn malformed_vectors_are_refused() {
    refuse::<VersionVector>("[[9,1],[1,3]]", "out of order");
    refuse::<VersionVector>("[[1,0]]", "zero");
    refuse::<VersionVector>("[[1]]", "invalid length");
    let many: Vec<(u64, u64)> = (1..=4097).map(|node| (node, 1)).collect();
    refuse::<VersionVector>(&serde_json::to_string(&many).unwrap(), "more than 4096");
    // A length that lies is not believed before its entries are there.
    assert!(postcard::from_bytes::<VersionVector>(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1, 1]).is_err());
}

#[test]
fn numbers_and_words() {
    check(&NodeId::new(7), "7", &[7]);
    check(&Epoch::new(300), "300", &[0xAC, 0x02]);
    check(&Fence::new(Epoch::new(2)), "2", &[2]);
    check(&Class::InvalidInput, "\"invalid_input\"", &[6]);
    check(&Effect::NotDone, "\"not_done\"", &[0]);
}
