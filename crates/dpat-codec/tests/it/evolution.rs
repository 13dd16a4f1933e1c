//! How stored types may change: compact forms are not self-describing.

use dpat_codec::{Codec, DecodeError};
use serde::{Deserialize, Serialize};

use crate::{BINCODE, JSON, POSTCARD, each_codec};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record1 {
    id: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record2 {
    id: u64,
    #[serde(default)]
    note: Option<String>,
}

#[test]
fn an_added_field_breaks_compact_forms() {
    fn fails<C: Codec>(codec: C) {
        let old = codec.to_vec(&Record1 { id: 7 }).unwrap();
        let error = codec.decode::<Record2>(&old).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { .. }), "{error}");
        let new = codec.to_vec(&Record2 { id: 7, note: None }).unwrap();
        let error = codec.decode::<Record1>(&new).unwrap_err();
        assert_eq!(error, DecodeError::Trailing { bytes: 1 });
    }
    fails(POSTCARD);
    fails(BINCODE);
    // JSON names its fields.
    let old = JSON.to_vec(&Record1 { id: 7 }).unwrap();
    assert_eq!(JSON.decode(&old), Ok(Record2 { id: 7, note: None }));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Stored1 {
    V0(Record1),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Stored2 {
    V0(Record1),
    V1(Record2),
}

#[test]
fn a_versioned_enum_can_grow() {
    fn check<C: Codec>(codec: C) {
        let old = codec.to_vec(&Stored1::V0(Record1 { id: 7 })).unwrap();
        assert_eq!(codec.decode(&old), Ok(Stored2::V0(Record1 { id: 7 })));
        // The old program says that it does not know the version, and does not read something else into it.
        let new = Stored2::V1(Record2 {
            id: 7,
            note: Some("x".to_owned()),
        });
        let new = codec.to_vec(&new).unwrap();
        let error = codec.decode::<Stored1>(&new).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { .. }), "{error}");
    }
    each_codec!(check);
}
