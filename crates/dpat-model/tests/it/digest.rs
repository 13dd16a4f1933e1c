use std::hash::{Hash, Hasher};

use dpat_model::Digest;

#[test]
fn the_output_is_fixed() {
    let value = (7_u64, "seven", [1_u8, 2, 3], Some(-1_i32), true);
    assert_eq!(Digest::of(&value), FIXED, "{:#x}", Digest::of(&value));
    // sizes of the machine do not show
    let (mut narrow, mut wide) = (Digest::new(), Digest::new());
    narrow.write_u64(9);
    wide.write_usize(9);
    assert_eq!(narrow.finish(), wide.finish());
}

#[test]
fn durable_state_is_hashed_apart() {
    let mut a = Digest::new();
    let mut b = Digest::new();
    a.durable("x");
    b.durable("x");
    a.volatile(&1);
    b.volatile(&2);
    assert_eq!(a.finish_durable(), b.finish_durable());
    assert_ne!(a.finish(), b.finish());
    b.durable("y");
    assert_ne!(a.finish_durable(), b.finish_durable());
}

#[test]
fn boundaries_of_byte_strings_show() {
    let hash = |parts: &[&[u8]]| {
        let mut digest = Digest::new();
        parts.iter().for_each(|part| digest.write(part));
        digest.finish()
    };
    assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    assert_ne!(hash(&[b"a\0"]), hash(&[b"a"]));
    let mut digests: Vec<u64> = (0..100_000_u32)
        .map(|number| {
            let mut digest = Digest::new();
            number.hash(&mut digest);
            digest.finish()
        })
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 100_000);
}

const FIXED: u64 = 0x8765_5213_dd90_da17;
