//! Limits, on both sides.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dpat_codec::{
    BYTES_MAX_DEFAULT, Bincode, Codec, DEPTH_MAX, DecodeError, EncodeError, Json, Postcard,
    SPARE_ELEMENTS,
};
use dpat_core::{Class, Classify, Effect};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::types::{Chain, Lists, Maps, Nested, Order, Structs, Tuples, Variants};
use crate::{BINCODE, JSON, POSTCARD, each_codec};

#[test]
fn the_length_is_looked_at_first() {
    // Valid bytes and senseless ones alike.
    for bytes in [[0; 9], [255; 9]] {
        let refused = Err(DecodeError::Limit {
            field: "bytes",
            limit: 8,
        });
        assert_eq!(
            Postcard::with_bytes_max(8).decode::<[u8; 9]>(&bytes),
            refused
        );
        assert_eq!(Json::with_bytes_max(8).decode::<[u8; 9]>(&bytes), refused);
        let bincode: Bincode = Bincode::with_bytes_max(8);
        assert_eq!(bincode.decode::<[u8; 9]>(&bytes), refused);
    }
    assert_eq!(
        Postcard::with_bytes_max(9).decode([0; 9].as_slice()),
        Ok([0_u8; 9])
    );
}

#[test]
fn a_value_that_is_too_long_leaves_the_output_as_it_was() {
    fn check<C: Codec>(fits: C, short: C) {
        let value = Order::sample();
        let mut out = b"before".to_vec();
        assert_eq!(
            short.encode(&value, &mut out),
            Err(EncodeError::Limit {
                field: "bytes",
                limit: short.bytes_max() as u64,
            })
        );
        assert_eq!(out, b"before");
        fits.encode(&value, &mut out).unwrap();
        assert_eq!(fits.decode::<Order>(&out[6..]).unwrap(), value);
    }
    let len = |bytes: Vec<u8>| bytes.len();
    let order = Order::sample();
    let max = len(POSTCARD.to_vec(&order).unwrap());
    check(
        Postcard::with_bytes_max(max),
        Postcard::with_bytes_max(max - 1),
    );
    let max = len(JSON.to_vec(&order).unwrap());
    check(Json::with_bytes_max(max), Json::with_bytes_max(max - 1));
    let max = len(BINCODE.to_vec(&order).unwrap());
    check::<Bincode>(
        Bincode::with_bytes_max(max),
        Bincode::with_bytes_max(max - 1),
    );
}

#[test]
fn a_panic_leaves_the_output_as_it_was() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("a type's own bug");
        }
    }
    let mut out = b"before".to_vec();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        POSTCARD.encode(&(1_u64, Panics), &mut out)
    }));
    assert!(caught.is_err());
    assert_eq!(out, b"before");
}

/// Finds the largest number of steps that encodes, and asserts that decoding draws the same line.
#[track_caller]
fn line<C: Codec, T: Nested + Serialize + DeserializeOwned + PartialEq + Debug>(codec: C) -> u32 {
    let too_deep = |error: &EncodeError| matches!(error, EncodeError::Limit { field: "depth", .. });
    let mut steps = 0;
    loop {
        let value = T::with_steps(steps);
        match codec.to_vec(&value) {
            Ok(bytes) => assert_eq!(codec.decode::<T>(&bytes).as_ref(), Ok(&value)),
            Err(error) => {
                assert!(too_deep(&error), "{error}");
                return steps - 1;
            }
        }
        steps += 1;
    }
}

#[test]
fn what_is_too_deep_to_read_is_not_written() {
    // The leaf is a level, or two: the enum; the newtype struct and what is in it.
    assert_eq!(line::<_, Variants>(POSTCARD), DEPTH_MAX - 1);
    assert_eq!(line::<_, Variants>(BINCODE), DEPTH_MAX - 1);
    assert_eq!(line::<_, Variants>(JSON), DEPTH_MAX - 3);
    fn check<C: Codec>(codec: C) {
        let leaf_and_json = if C::NAME == "json" { 2 } else { 1 };
        let steps = DEPTH_MAX / 2 - leaf_and_json;
        assert_eq!(line::<_, Tuples>(&codec), steps);
        assert_eq!(line::<_, Structs>(&codec), steps);
        assert_eq!(line::<_, Lists>(&codec), steps);
        assert_eq!(line::<_, Maps>(&codec), steps);
    }
    each_codec!(check);
    assert_eq!(line::<_, Chain>(POSTCARD), (DEPTH_MAX - 1) / 2);
    assert_eq!(line::<_, Chain>(BINCODE), (DEPTH_MAX - 1) / 2);
}

#[test]
fn the_same_line_holds_for_bytes_of_the_bare_codec() {
    let deepest = line::<_, Variants>(POSTCARD);
    let bytes = postcard::to_stdvec(&Variants::with_steps(deepest)).unwrap();
    assert_eq!(POSTCARD.decode(&bytes), Ok(Variants::with_steps(deepest)));
    let bytes = postcard::to_stdvec(&Variants::with_steps(deepest + 1)).unwrap();
    assert_eq!(
        POSTCARD.decode::<Variants>(&bytes),
        Err(DecodeError::Limit {
            field: "depth",
            limit: u64::from(DEPTH_MAX)
        })
    );
}

#[test]
fn too_many_elements_without_bytes_are_not_written() {
    // The length is two bytes long.
    let most = SPARE_ELEMENTS + 2;
    for codec in [POSTCARD, Postcard::with_bytes_max(2)] {
        let bytes = codec.to_vec(&vec![(); most]).unwrap();
        assert_eq!(
            codec.decode::<Vec<()>>(&bytes).map(|units| units.len()),
            Ok(most)
        );
        assert_eq!(
            codec.to_vec(&vec![(); most + 1]),
            Err(EncodeError::Limit {
                field: "elements",
                limit: most as u64
            })
        );
    }
    // Longer than could ever be right: given up before the end.
    assert_eq!(
        Postcard::with_bytes_max(16).to_vec(&vec![(); 1 << 40]),
        Err(EncodeError::Limit {
            field: "elements",
            limit: 16 + SPARE_ELEMENTS as u64
        })
    );
}

#[test]
fn elements_with_bytes_never_reach_the_limit() {
    fn check<C: Codec>(codec: C) {
        for len in [0, 1, 1000, 300_000] {
            let value = vec![0_u8; len];
            let bytes = codec.to_vec(&value).unwrap();
            assert_eq!(codec.decode::<Vec<u8>>(&bytes), Ok(value));
        }
    }
    each_codec!(check);
}

#[test]
fn bincodes_own_limit_never_bites_first() {
    // Each takes a byte, and bincode counts sixteen.
    const MAX: usize = 4096;
    let codec: Bincode<{ 16 * MAX }> = Bincode::DEFAULT;
    assert_eq!(codec.bytes_max(), MAX);
    let value = vec![1_u128; MAX - 3];
    let bytes = codec.to_vec(&value).unwrap();
    assert_eq!(bytes.len(), MAX);
    assert_eq!(codec.decode::<Vec<u128>>(&bytes), Ok(value));
    assert_eq!(
        Bincode::<{ 16 * MAX }>::with_bytes_max(MAX + 1).bytes_max(),
        MAX
    );
    assert_eq!(BINCODE.bytes_max(), BYTES_MAX_DEFAULT);
}

#[test]
fn what_a_form_cannot_say_is_unsupported() {
    let by_list = std::collections::BTreeMap::from([(vec![1_u8], 1_u8)]);
    let error = JSON.to_vec(&by_list).unwrap_err();
    assert!(
        matches!(error, EncodeError::Unsupported { codec: "json", .. }),
        "{error}"
    );
    /// A list whose length is not known beforehand.
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq((0_u8..3).filter(|number| *number != 1))
        }
    }
    for error in [
        POSTCARD.to_vec(&Endless).unwrap_err(),
        BINCODE.to_vec(&Endless).unwrap_err(),
    ] {
        assert!(matches!(error, EncodeError::Unsupported { .. }), "{error}");
    }
    assert_eq!(JSON.to_vec(&Endless).unwrap(), b"[0,2]");
}

#[test]
fn errors_name_field_and_limit() {
    let long = Postcard::with_bytes_max(2).to_vec("long").unwrap_err();
    assert_eq!(long.to_string(), "bytes: above the limit of 2");
    let long = Postcard::with_bytes_max(2)
        .decode::<String>(b"long")
        .unwrap_err();
    assert_eq!(long.to_string(), "bytes: above the limit of 2");
    let deep = POSTCARD.decode::<Variants>(&[1; 200]).unwrap_err();
    assert_eq!(deep.to_string(), "depth: above the limit of 128");
    let many = POSTCARD.decode::<Vec<()>>(&[255, 127]).unwrap_err();
    assert_eq!(many.to_string(), "elements: above the limit of 1026");
    let more = POSTCARD.decode::<u8>(&[1, 2, 3]).unwrap_err();
    assert_eq!(more.to_string(), "bytes: 2 follow the value, limit 0");
    let bad = JSON.decode::<u8>(b"-").unwrap_err();
    assert!(bad.to_string().starts_with("no valid json: "), "{bad}");
}

#[test]
fn errors_are_classified() {
    let limit = DecodeError::Limit {
        field: "bytes",
        limit: 1,
    };
    assert_eq!(
        (limit.class(), limit.effect()),
        (Class::InvalidInput, Effect::NotDone)
    );
    assert!(limit.retry_after().is_none() && !limit.is_safe_to_retry());
    let trailing = DecodeError::Trailing { bytes: 1 };
    assert_eq!(
        (trailing.class(), trailing.effect()),
        (Class::Corrupt, Effect::NotDone)
    );
    let encode = POSTCARD.to_vec(&Variants::with_steps(200)).unwrap_err();
    assert_eq!(
        (encode.class(), encode.effect()),
        (Class::InvalidInput, Effect::NotDone)
    );
    let bad = JSON.decode::<u8>(b"x").unwrap_err();
    assert_eq!(bad.class(), Class::Corrupt);
}

#[test]
fn codecs_and_errors_can_be_shared() {
    dpat_testkit::assert_send_sync::<(Postcard, Bincode, Json)>();
    dpat_testkit::assert_send_sync::<(EncodeError, DecodeError)>();
    assert_eq!(Postcard::default(), POSTCARD);
    assert_eq!(Json::default(), JSON);
    assert_eq!(Bincode::default(), BINCODE);
}
