//! Bytes that somebody made in order to do harm.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;

use dpat_codec::{Codec, DEPTH_MAX, DecodeError, SPARE_ELEMENTS};
use dpat_core::{Entropy, SplitMix64};
use dpat_testkit::allocated;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{
    Chain, Item, Lists, Maps, Marker, Nested, Order, Structs, Tuples, Value, Variants,
};
use crate::{BINCODE, JSON, POSTCARD, each_codec};

/// Decodes, and asserts that it asked for no more memory than a fixed multiple of the input.
#[track_caller]
fn decode<C: Codec, T: DeserializeOwned>(codec: C, bytes: &[u8]) -> Result<T, DecodeError> {
    let (result, asked) = allocated(|| codec.decode::<T>(bytes));
    // The largest element is a map entry of 64 bytes; a hash table is at most half full and grows by doubling.
    let bound = 512 * (bytes.len() as u64 + 8);
    assert!(
        asked.bytes <= bound,
        "{}: {} bytes asked for {} bytes of input",
        C::NAME,
        asked.bytes,
        bytes.len()
    );
    result
}

fn postcard_varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn bincode_varint(number: u64) -> Vec<u8> {
    [&[253][..], &number.to_le_bytes()].concat()
}

/// Reads a claimed length and a little behind it as a `T`, in both binary forms.
#[track_caller]
fn claims<T: DeserializeOwned + Debug>(length: u64, tail: &[u8]) -> [DecodeError; 2] {
    let postcard = [&postcard_varint(length), tail].concat();
    let bincode = [&bincode_varint(length), tail].concat();
    [
        decode::<_, T>(POSTCARD, &postcard).unwrap_err(),
        decode::<_, T>(BINCODE, &bincode).unwrap_err(),
    ]
}

#[test]
fn huge_claimed_lengths_reserve_nothing() {
    for length in [1 << 20, 1 << 40, 1 << 60, u64::MAX] {
        for tail in [&[][..], &[1; 40]] {
            for errors in [
                claims::<Vec<u64>>(length, tail),
                claims::<Vec<Item>>(length, tail),
                claims::<String>(length, tail),
                claims::<bytes::Bytes>(length, tail),
                claims::<Vec<u8>>(length, tail),
                claims::<HashMap<String, u64>>(length, tail),
                claims::<HashSet<u128>>(length, tail),
                claims::<BTreeMap<u8, String>>(length, tail),
                claims::<Box<[[u64; 4]]>>(length, tail),
            ] {
                for error in errors {
                    assert!(matches!(error, DecodeError::Malformed { .. }), "{error}");
                }
            }
        }
    }
}

#[test]
fn nested_claims_share_what_they_may_reserve() {
    let claims: Vec<u8> = (0..60).flat_map(|_| postcard_varint(1 << 40)).collect();
    let error = decode::<_, Lists>(POSTCARD, &claims).unwrap_err();
    assert!(matches!(error, DecodeError::Malformed { .. }), "{error}");
    let claims: Vec<u8> = (0..60).flat_map(|_| bincode_varint(1 << 40)).collect();
    let error = decode::<_, Lists>(BINCODE, &claims).unwrap_err();
    assert!(matches!(error, DecodeError::Malformed { .. }), "{error}");
}

#[test]
fn elements_without_bytes_are_counted() {
    #[track_caller]
    fn check<T: DeserializeOwned + Debug>() {
        let limit = |bytes: usize| DecodeError::Limit {
            field: "elements",
            limit: (bytes + SPARE_ELEMENTS) as u64,
        };
        let [postcard, bincode] = claims::<T>(1 << 60, &[]);
        assert_eq!(postcard, limit(9));
        assert_eq!(bincode, limit(9));
    }
    check::<Vec<()>>();
    check::<Vec<Marker>>();
    check::<Vec<((), [u8; 0])>>();
    check::<HashSet<()>>();
    check::<BTreeMap<(), ()>>();
    check::<Box<[()]>>();
}

#[test]
fn elements_without_bytes_are_counted_over_the_whole_value() {
    // 300 lists of 100 units each, two bytes a list.
    let mut bytes = postcard_varint(300);
    bytes.extend([100].repeat(300));
    let limit = (bytes.len() + SPARE_ELEMENTS) as u64;
    assert_eq!(
        decode::<_, Vec<Vec<()>>>(POSTCARD, &bytes),
        Err(DecodeError::Limit {
            field: "elements",
            limit
        })
    );
}

/// Runs on a stack as a worker thread of tokio has it.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

const LEVELS: usize = 100_000;

#[track_caller]
fn is_too_deep<C: Codec, T: DeserializeOwned + Debug>(codec: C, bytes: &[u8]) {
    match decode::<C, T>(codec, bytes) {
        Err(DecodeError::Limit {
            field: "depth",
            limit,
        }) => assert!(limit <= u64::from(DEPTH_MAX)),
        other => panic!(
            "{}: {:?}",
            C::NAME,
            other.map_err(|error| error.to_string())
        ),
    }
}

#[test]
fn a_hundred_thousand_levels_fit_on_a_small_stack() {
    on_a_small_stack(|| {
        let ones = [vec![1; LEVELS], vec![0]].concat();
        is_too_deep::<_, Variants>(POSTCARD, &ones);
        is_too_deep::<_, Tuples>(POSTCARD, &ones);
        is_too_deep::<_, Structs>(POSTCARD, &ones);
        is_too_deep::<_, Chain>(POSTCARD, &ones);
        is_too_deep::<_, Lists>(POSTCARD, &ones);
        is_too_deep::<_, Maps>(POSTCARD, &ones);
        is_too_deep::<_, Value>(POSTCARD, &[3, 1].repeat(LEVELS));
        is_too_deep::<_, Variants>(BINCODE, &ones);
        is_too_deep::<_, Tuples>(BINCODE, &ones);
        is_too_deep::<_, Structs>(BINCODE, &ones);
        is_too_deep::<_, Chain>(BINCODE, &ones);
        is_too_deep::<_, Lists>(BINCODE, &ones);
        is_too_deep::<_, Maps>(BINCODE, &ones);
        is_too_deep::<_, Value>(BINCODE, &[3, 1].repeat(LEVELS));
        is_too_deep::<_, Variants>(JSON, "{\"Node\":".repeat(LEVELS).as_bytes());
        is_too_deep::<_, Tuples>(JSON, "{\"Node\":[".repeat(LEVELS).as_bytes());
        is_too_deep::<_, Lists>(JSON, "[".repeat(LEVELS).as_bytes());
        is_too_deep::<_, Maps>(JSON, "{\"1\":".repeat(LEVELS).as_bytes());
        // Every value that is not null is a chain of options without end, one level a step and no byte read.
        is_too_deep::<_, Chain>(JSON, b"7");
    });
}

#[test]
fn the_deepest_value_fits_on_a_small_stack() {
    fn check<C: Codec, T: Nested + Serialize + DeserializeOwned + PartialEq + Debug>(codec: C) {
        let steps = (DEPTH_MAX - 4) / T::LEVELS;
        let value = T::with_steps(steps);
        let bytes = codec.to_vec(&value).unwrap();
        assert_eq!(codec.decode::<T>(&bytes).unwrap(), value);
    }
    on_a_small_stack(|| {
        each_codec!(check::<_, Variants>);
        each_codec!(check::<_, Tuples>);
        each_codec!(check::<_, Structs>);
        each_codec!(check::<_, Lists>);
        each_codec!(check::<_, Maps>);
        check::<_, Chain>(POSTCARD);
        check::<_, Chain>(BINCODE);
    });
}

#[test]
fn a_type_that_swallows_errors_does_not_swallow_the_limit() {
    #[derive(Debug)]
    struct Lenient;
    impl<'de> serde::Deserialize<'de> for Lenient {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let _ = Variants::deserialize(deserializer);
            Ok(Self)
        }
    }
    is_too_deep::<_, Lenient>(POSTCARD, &[1; 1000]);
}

#[test]
fn every_truncation_is_refused() {
    fn check<C: Codec>(codec: C) {
        let bytes = codec.to_vec(&Order::sample()).unwrap();
        for end in 0..bytes.len() {
            let error = decode::<_, Order>(&codec, &bytes[..end]).unwrap_err();
            assert!(
                matches!(error, DecodeError::Malformed { .. }),
                "{} cut to {end} bytes: {error}",
                C::NAME
            );
        }
    }
    each_codec!(check);
}

#[test]
fn every_trailing_byte_is_refused() {
    fn check<C: Codec>(codec: C) {
        let mut bytes = codec.to_vec(&Order::sample()).unwrap();
        for extra in 0..=u8::MAX {
            bytes.push(extra);
            let blank = C::NAME == "json" && b" \t\r\n".contains(&extra);
            match decode::<_, Order>(&codec, &bytes) {
                Ok(_) => assert!(blank, "{}: {extra} was accepted", C::NAME),
                Err(error) => assert_eq!(error, DecodeError::Trailing { bytes: 1 }),
            }
            bytes.pop();
        }
    }
    each_codec!(check);
    let bytes = b"[1,\n2]\n\n 34\n5";
    let error = JSON.decode::<Vec<u8>>(bytes).unwrap_err();
    assert_eq!(error, DecodeError::Trailing { bytes: 4 });
}

/// What decodes must also encode, and come back equal.
fn survives<C: Codec, T: Serialize + DeserializeOwned + PartialEq + Debug>(
    codec: C,
    bytes: &[u8],
) -> bool {
    let Ok(value) = decode::<_, T>(&codec, bytes) else {
        return false;
    };
    let again = codec.to_vec(&value).unwrap();
    assert_eq!(codec.decode::<T>(&again).unwrap(), value, "{}", C::NAME);
    true
}

#[test]
fn random_bytes_are_refused_or_mean_something() {
    fn check<C: Codec>(codec: C) -> u32 {
        let entropy = SplitMix64::stream(5, C::NAME);
        let mut bytes = Vec::new();
        let mut accepted = 0;
        for _ in 0..20_000 {
            bytes.clear();
            // Small numbers often, so that lengths and variants make sense now and then.
            bytes.extend((0..entropy.below(48)).map(|_| {
                let drawn = entropy.next_u64().to_le_bytes();
                if drawn[1] < 160 {
                    drawn[0] % 9
                } else {
                    drawn[0]
                }
            }));
            accepted += u32::from(survives::<_, Value>(&codec, &bytes));
            accepted += u32::from(survives::<_, Lists>(&codec, &bytes));
            accepted += u32::from(survives::<_, Vec<(u8, Option<String>)>>(&codec, &bytes));
        }
        accepted
    }
    assert!(check(POSTCARD) > 100);
    assert!(check(BINCODE) > 100);
    check(JSON);
}

#[test]
fn flipped_bits_are_refused_or_mean_something() {
    fn check<C: Codec>(codec: C) {
        // Without floats: a flip can make a NaN, which equals nothing.
        let order = Order::sample();
        let value = (
            order.items,
            order.payment,
            order.tags,
            order.payload,
            order.note,
        );
        let sound = codec.to_vec(&value).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            type Parts = (
                Vec<Item>,
                crate::types::Payment,
                BTreeMap<String, Option<crate::types::Cents>>,
                bytes::Bytes,
                Option<String>,
            );
            survives::<_, Parts>(&codec, &bytes);
        }
    }
    each_codec!(check);
}

#[test]
fn hostile_text_does_not_make_hostile_errors() {
    let bytes = JSON.to_vec(&"x".repeat(100_000)).unwrap();
    let error = JSON.decode::<Variants>(&bytes).unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
}

#[test]
fn a_payload_is_read_with_one_copy() {
    let payload = bytes::Bytes::from(vec![7; 65_536]);
    for (bytes, read) in [
        (
            POSTCARD.to_vec(&payload).unwrap(),
            Postcarded::read as fn(&[u8]) -> bytes::Bytes,
        ),
        (BINCODE.to_vec(&payload).unwrap(), Bincoded::read),
    ] {
        let (value, asked) = allocated(|| read(&bytes));
        assert_eq!(value, payload);
        assert!(asked.bytes <= 65_536 + 256, "{asked:?}");
    }
}

struct Postcarded;
impl Postcarded {
    fn read(bytes: &[u8]) -> bytes::Bytes {
        POSTCARD.decode(bytes).unwrap()
    }
}

struct Bincoded;
impl Bincoded {
    fn read(bytes: &[u8]) -> bytes::Bytes {
        BINCODE.decode(bytes).unwrap()
    }
}
