//! Types that go without the guard.

use dpat_codec::{Bincode, Codec, DecodeError, EncodeError, Flat, Json, Postcard};
use dpat_testkit::allocations;
use serde::{Deserialize, Serialize};

use crate::each_codec;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Vote {
    term: u64,
    from: u32,
    kind: Kind,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Yes,
    No { reason: Option<u8> },
}

impl Flat for Vote {}

fn sample() -> Vote {
    Vote {
        term: 300,
        from: 2,
        kind: Kind::No { reason: Some(4) },
        name: "n".to_owned(),
    }
}

#[test]
fn flat_types_have_the_same_bytes() {
    fn check<C: Codec>(codec: C) {
        let (mut flat, mut guarded) = (Vec::new(), Vec::new());
        codec.encode_flat(&sample(), &mut flat).unwrap();
        codec.encode(&sample(), &mut guarded).unwrap();
        assert_eq!(flat, guarded);
        assert_eq!(codec.decode_flat::<Vote>(&flat), Ok(sample()));
        // Through a reference, too.
        assert_eq!(
            <&C as Codec>::decode_flat::<Vote>(&&codec, &flat),
            Ok(sample())
        );
        let mut again = Vec::new();
        <&C as Codec>::encode_flat(&&codec, &sample(), &mut again).unwrap();
        assert_eq!(again, flat);
    }
    each_codec!(check);
}

#[test]
fn length_and_trailing_bytes_are_still_looked_at() {
    fn check<C: Codec>(codec: C, short: C) {
        let mut bytes = Vec::new();
        codec.encode_flat(&sample(), &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(
                codec.decode_flat::<Vote>(&bytes[..end]).is_err(),
                "{}",
                C::NAME
            );
        }
        let limit = short.bytes_max() as u64;
        assert_eq!(
            short.decode_flat::<Vote>(&bytes),
            Err(DecodeError::Limit {
                field: "bytes",
                limit
            })
        );
        let mut out = vec![1];
        assert_eq!(
            short.encode_flat(&sample(), &mut out),
            Err(EncodeError::Limit {
                field: "bytes",
                limit
            })
        );
        assert_eq!(out, [1]);
        bytes.push(b'0');
        assert_eq!(
            codec.decode_flat::<Vote>(&bytes),
            Err(DecodeError::Trailing { bytes: 1 })
        );
    }
    check(Postcard::DEFAULT, Postcard::with_bytes_max(3));
    check(Json::DEFAULT, Json::with_bytes_max(3));
    check::<Bincode>(Bincode::DEFAULT, Bincode::with_bytes_max(3));
}

#[test]
fn nothing_is_allocated_beside_value_and_output() {
    fn check<C: Codec>(codec: C) {
        let value = (7_u64, 9_u32, Some(1_u8));
        let mut out = Vec::with_capacity(64);
        let ((), count) = allocations(|| {
            codec.encode(&value, &mut out).unwrap();
            assert_eq!(codec.decode::<(u64, u32, Option<u8>)>(&out).unwrap(), value);
        });
        assert_eq!(count, 0, "{}", C::NAME);
    }
    each_codec!(check);
}
