//! The codecs under their guard against the bare ones, and against other compact forms.

mod values;

use crate::harness::{Case, Contender};
use dpat_codec::{Bincode, Codec, Json, Postcard};
use std::hint::black_box;
use values::{Message, Order, Payload, Vote};

pub(super) const NOTES: &str = "\
What each side promises:

- *dpat-codec*: a length limit before decoding, no trailing bytes, at most 128 levels and an element a byte and 1024 \
more, on both sides, so that what was encoded decodes; nothing is reserved on a mere claim. `@flat` leaves depth and \
elements out, which a type opts into; `@bincode` and `@json` are the other forms.
- *postcard*, *bincode*, *serde_json*: the codecs inside, bare. postcard and bincode ignore trailing bytes and have no \
limit of depth; bincode has its limit of claims on both sides.
- *rmp-serde*, *cbor4ii*: self-describing binary forms (MessagePack, CBOR); ignore trailing bytes. *bitcode*: its serde \
form, which packs columns and always allocates its output.

A 64 KiB copy costs more than ten times as much on some machines when its source is not aligned; payloads lie at \
different offsets in the forms, so compare that row with care.";

/// Large enough for every value here.
const POSTCARD: Postcard = Postcard::DEFAULT;
const BINCODE: Bincode = Bincode::DEFAULT;
const JSON: Json = Json::DEFAULT;
const LIMIT: usize = 16 << 20;

const ENCODE: &str = "Appends the value to a vector that has room; bitcode makes a new one.";
const DECODE: &str = "Reads an owned value from its own bytes.";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = of("small", Vote::sample());
    cases.extend(of("medium", Order::sample()));
    cases.extend(of("1000 numbers", values::numbers()));
    cases.extend(of("64 KiB payload", Payload::sample()));
    cases
}

fn of<T: Message>(name: &'static str, value: T) -> Vec<Case> {
    let case = |operation, form, work, ours, peers| {
        Case::new("codec", operation, work, ours, peers)
            .param("value", name)
            .param("form", form)
    };
    let encode = |operation, value: &T| {
        let bare_config = bincode::config::standard().with_limit::<LIMIT>();
        [
            case(
                operation,
                "postcard",
                ENCODE,
                encoder("dpat-codec", value, |value, out| {
                    POSTCARD.encode(value, out).expect("within the limits");
                }),
                vec![
                    encoder("postcard", value, |value, out| {
                        *out = postcard::to_extend(value, std::mem::take(out)).expect("sound");
                    }),
                    encoder("dpat-codec@flat", value, |value, out| {
                        POSTCARD.encode_flat(value, out).expect("within the limits");
                    }),
                    encoder("rmp-serde", value, |value, out| {
                        rmp_serde::encode::write(out, value).expect("sound");
                    }),
                    encoder("cbor4ii", value, |value, out| {
                        *out = cbor4ii::serde::to_vec(std::mem::take(out), value).expect("sound");
                    }),
                    encoder("bitcode", value, |value, out| {
                        *out = bitcode::serialize(value).expect("sound");
                    }),
                ],
            ),
            case(
                operation,
                "bincode",
                ENCODE,
                encoder("dpat-codec@bincode", value, |value, out| {
                    BINCODE.encode(value, out).expect("within the limits");
                }),
                vec![encoder("bincode", value, move |value, out| {
                    bincode::serde::encode_into_std_write(value, out, bare_config).expect("sound");
                })],
            ),
            case(
                operation,
                "json",
                ENCODE,
                encoder("dpat-codec@json", value, |value, out| {
                    JSON.encode(value, out).expect("within the limits");
                }),
                vec![encoder("serde_json", value, |value, out| {
                    serde_json::to_writer(out, value).expect("sound");
                })],
            ),
        ]
    };
    let decode = |operation, value: &T| {
        let bare_config = bincode::config::standard().with_limit::<LIMIT>();
        let bytes = POSTCARD.to_vec(value).expect("within the limits");
        let bincoded = BINCODE.to_vec(value).expect("within the limits");
        let json = JSON.to_vec(value).expect("within the limits");
        let cbor = cbor4ii::serde::to_vec(Vec::new(), value).expect("sound");
        [
            case(
                operation,
                "postcard",
                DECODE,
                decoder("dpat-codec", bytes.clone(), |bytes| {
                    POSTCARD.decode::<T>(bytes).expect("sound")
                }),
                vec![
                    decoder("postcard", bytes.clone(), |bytes| {
                        postcard::from_bytes::<T>(bytes).expect("sound")
                    }),
                    decoder("dpat-codec@flat", bytes, |bytes| {
                        POSTCARD.decode_flat::<T>(bytes).expect("sound")
                    }),
                    decoder(
                        "rmp-serde",
                        rmp_serde::to_vec(value).expect("sound"),
                        |bytes| rmp_serde::from_slice::<T>(bytes).expect("sound"),
                    ),
                    decoder("cbor4ii", cbor, |bytes| {
                        cbor4ii::serde::from_slice::<T>(bytes).expect("sound")
                    }),
                    decoder(
                        "bitcode",
                        bitcode::serialize(value).expect("sound"),
                        |bytes| bitcode::deserialize::<T>(bytes).expect("sound"),
                    ),
                ],
            ),
            case(
                operation,
                "bincode",
                DECODE,
                decoder("dpat-codec@bincode", bincoded.clone(), |bytes| {
                    BINCODE.decode::<T>(bytes).expect("sound")
                }),
                vec![decoder("bincode", bincoded, move |bytes| {
                    let read = bincode::serde::decode_from_slice::<T, _>(bytes, bare_config);
                    read.expect("sound").0
                })],
            ),
            case(
                operation,
                "json",
                DECODE,
                decoder("dpat-codec@json", json.clone(), |bytes| {
                    JSON.decode::<T>(bytes).expect("sound")
                }),
                vec![decoder("serde_json", json, |bytes| {
                    serde_json::from_slice::<T>(bytes).expect("sound")
                })],
            ),
        ]
    };
    let mut cases = Vec::from(encode("encode", &value));
    cases.extend(decode("decode", &value));
    cases
}

fn encoder<T: Message>(
    name: &str,
    value: &T,
    encode: impl Fn(&T, &mut Vec<u8>) + 'static,
) -> Contender {
    let value = value.clone();
    let mut out = Vec::new();
    Contender::single(name, move || {
        out.clear();
        encode(black_box(&value), &mut out);
        out.len()
    })
}

fn decoder<T: Message>(
    name: &str,
    bytes: Vec<u8>,
    decode: impl Fn(&[u8]) -> T + 'static,
) -> Contender {
    Contender::single(name, move || decode(black_box(&bytes)))
}
