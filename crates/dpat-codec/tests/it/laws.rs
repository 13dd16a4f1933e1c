//! Random values, and the bare codecs beside ours.

use dpat_codec::Codec;
use proptest::prelude::*;

use crate::types::{Value, values};
use crate::{BINCODE, JSON, POSTCARD, each_codec};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encoded_decodes(value in values()) {
        fn check<C: Codec>(codec: C, value: &Value) {
            let mut bytes = vec![9];
            codec.encode(value, &mut bytes).unwrap();
            assert_eq!(bytes[0], 9);
            assert_eq!(codec.decode::<Value>(&bytes[1..]).as_ref(), Ok(value), "{}", C::NAME);
        }
        each_codec!(check, &value);
    }

    #[test]
    fn the_guard_changes_no_byte(value in values()) {
        let config = bincode::config::standard();
        prop_assert_eq!(POSTCARD.to_vec(&value).unwrap(), postcard::to_stdvec(&value).unwrap());
        prop_assert_eq!(BINCODE.to_vec(&value).unwrap(), bincode::serde::encode_to_vec(&value, config).unwrap());
        prop_assert_eq!(JSON.to_vec(&value).unwrap(), serde_json::to_vec(&value).unwrap());
    }

    #[test]
    fn the_guard_reads_what_the_bare_codec_reads(
        value in values(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            for (index, byte) in &changes {
                let index = index.index(bytes.len());
                bytes[index] = *byte;
            }
            bytes
        };
        let bytes = damaged(postcard::to_stdvec(&value).unwrap());
        let bare = postcard::take_from_bytes::<Value>(&bytes).ok().filter(|(_, rest)| rest.is_empty());
        prop_assert!(same(POSTCARD.decode(&bytes), bare.map(|(value, _)| value)));

        let bytes = damaged(JSON.to_vec(&value).unwrap());
        let bare = serde_json::from_slice::<Value>(&bytes).ok();
        prop_assert!(same(JSON.decode(&bytes), bare));

        let bytes = damaged(BINCODE.to_vec(&value).unwrap());
        let config = bincode::config::standard().with_limit::<{ 1 << 24 }>();
        let bare = bincode::serde::decode_from_slice::<Value, _>(&bytes, config).ok();
        let bare = bare.filter(|(_, used)| *used == bytes.len()).map(|(value, _)| value);
        prop_assert!(same(BINCODE.decode(&bytes), bare));
    }
}

/// Ours may refuse more, for a limit of elements.
fn same(ours: Result<Value, dpat_codec::DecodeError>, bare: Option<Value>) -> bool {
    match ours {
        Ok(value) => Some(value) == bare,
        Err(dpat_codec::DecodeError::Limit {
            field: "elements", ..
        }) => true,
        Err(_) => bare.is_none(),
    }
}
