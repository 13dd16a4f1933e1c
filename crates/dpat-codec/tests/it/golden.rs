//! The bytes of each form, which stored data relies on.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use dpat_codec::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{Cents, Marker, Order, Payment};
use crate::{BINCODE, JSON, POSTCARD};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    value: T,
    postcard: &str,
    bincode: &str,
    json: &str,
) {
    let bytes = POSTCARD.to_vec(&value).unwrap();
    assert_eq!(hex(&bytes), postcard, "postcard");
    assert_eq!(POSTCARD.decode::<T>(&bytes).unwrap(), value);
    let bytes = BINCODE.to_vec(&value).unwrap();
    assert_eq!(hex(&bytes), bincode, "bincode");
    assert_eq!(BINCODE.decode::<T>(&bytes).unwrap(), value);
    let bytes = JSON.to_vec(&value).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), json, "json");
    assert_eq!(JSON.decode::<T>(&bytes).unwrap(), value);
}

#[test]
fn scalars() {
    check(0_u8, "00", "00", "0");
    check(255_u8, "ff", "ff", "255");
    check(250_u64, "fa01", "fa", "250");
    check(251_u64, "fb01", "fbfb00", "251");
    check(
        u64::MAX,
        "ffffffffffffffffff01",
        "fdffffffffffffffff",
        "18446744073709551615",
    );
    check(-1_i64, "01", "01", "-1");
    check(i16::MIN, "ffff03", "fbffff", "-32768");
    check(
        u128::MAX,
        "ffffffffffffffffffffffffffffffffffff03",
        "feffffffffffffffffffffffffffffffff",
        "340282366920938463463374607431768211455",
    );
    check(true, "01", "01", "true");
    check(1.5_f32, "0000c03f", "0000c03f", "1.5");
    check(-0.25_f64, "000000000000d0bf", "000000000000d0bf", "-0.25");
    check('ä', "02c3a4", "c3a4", "\"ä\"");
}

#[test]
fn text_and_bytes() {
    check("añ\n".to_owned(), "0461c3b10a", "0461c3b10a", "\"añ\\n\"");
    check(
        bytes::Bytes::from_static(&[0, 255]),
        "0200ff",
        "0200ff",
        "[0,255]",
    );
    check(vec![0_u8, 255], "0200ff", "0200ff", "[0,255]");
}

#[test]
fn compounds() {
    check((), "", "", "null");
    check(Marker, "", "", "null");
    check(None::<u8>, "00", "00", "null");
    check(Some(7_u8), "0107", "0107", "7");
    check(Cents(300), "ac02", "fb2c01", "300");
    check((1_u8, "b".to_owned()), "010162", "010162", "[1,\"b\"]");
    check(vec![1_u16, 300], "0201ac02", "0201fb2c01", "[1,300]");
    check(vec![(); 3], "03", "03", "[null,null,null]");
    check(
        BTreeMap::from([("k".to_owned(), 1_u8)]),
        "01016b01",
        "01016b01",
        "{\"k\":1}",
    );
}

#[test]
fn enums() {
    check(Payment::None, "00", "00", "\"None\"");
    check(
        Payment::Card("x".to_owned()),
        "010178",
        "010178",
        "{\"Card\":\"x\"}",
    );
    check(
        Payment::Split(1, 2),
        "020102",
        "020102",
        "{\"Split\":[1,2]}",
    );
    check(
        Payment::Transfer {
            iban: "i".to_owned(),
            cents: Cents(3),
        },
        "03016903",
        "03016903",
        "{\"Transfer\":{\"iban\":\"i\",\"cents\":3}}",
    );
}

#[test]
fn ids_are_text_for_people_and_bytes_otherwise() {
    let id: dpat_core::Uuid7 = "018cc251-f400-7abc-8def-0123456789ab".parse().unwrap();
    check(
        id,
        "018cc251f4007abc8def0123456789ab",
        "018cc251f4007abc8def0123456789ab",
        "\"018cc251-f400-7abc-8def-0123456789ab\"",
    );
}

#[test]
fn a_record_with_everything() {
    check(
        Order::sample(),
        "ac020180808080808080808002ffd804dfc508ffffff030000003f000000000000f4bf02c3a401034164610106646f6f7220320\
         10363757002090303444531010201610001620109030102fa",
        "fb2c0101fe00000000000000000100000000000000fffb5802fcdf220200fffbffff0000003f000000000000f4bfc3a401034164\
         610106646f6f722032010363757002090303444531010201610001620109030102fa",
        concat!(
            r#"{"id":300,"wide":[-1,18446744073709551616],"small":[-1,300,-70000,255,65535],"#,
            r#""ratio":[0.5,-1.25],"letter":"ä","paid":true,"customer":"Ada","note":"door 2","#,
            r#""items":[{"sku":"cup","quantity":2,"price_cents":-5}],"#,
            r#""payment":{"Transfer":{"iban":"DE1","cents":1}},"marker":null,"unit":null,"#,
            r#""tags":{"a":null,"b":9},"payload":[1,2,250]}"#,
        ),
    );
}
