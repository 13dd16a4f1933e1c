//! Base 32 as Crockford defined it, at fixed width, so that texts sort as their values.

use super::ParseIdError;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const NONE: u8 = 0xFF;

/// The canonical digits only.
const STRICT: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut digit = 0_u8;
    while digit < 32 {
        table[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
};

/// Also lower case, `I` and `L` for 1, `O` for 0.
const TOLERANT: [u8; 256] = {
    let mut table = STRICT;
    let mut byte = b'a';
    while byte <= b'z' {
        table[byte as usize] = STRICT[byte.to_ascii_uppercase() as usize];
        byte += 1;
    }
    let aliases = [
        (b'I', 1),
        (b'i', 1),
        (b'L', 1),
        (b'l', 1),
        (b'O', 0),
        (b'o', 0),
    ];
    let mut index = 0;
    while index < aliases.len() {
        table[aliases[index].0 as usize] = aliases[index].1;
        index += 1;
    }
    table
};

/// Writes the low `5 × N` bits.
pub(super) fn encode<const N: usize>(mut value: u128) -> [u8; N] {
    let mut text = [0; N];
    for byte in text.iter_mut().rev() {
        *byte = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    text
}

/// Reads exactly `length` canonical digits.
pub(super) fn decode_strict(text: &str, length: usize, bits: u32) -> Result<u128, ParseIdError> {
    if text.len() != length {
        return Err(ParseIdError::Length(text.len()));
    }
    decode(text.bytes().enumerate(), &STRICT, bits)
}

/// Reads `length` digits in any case, with look-alikes, and with hyphens anywhere.
pub(super) fn decode_tolerant(text: &str, length: usize, bits: u32) -> Result<u128, ParseIdError> {
    let digits = || text.bytes().enumerate().filter(|(_, byte)| *byte != b'-');
    // Bounded before it is counted.
    if text.len() > 2 * length || digits().count() != length {
        return Err(ParseIdError::Length(text.len()));
    }
    decode(digits(), &TOLERANT, bits)
}

fn decode(
    digits: impl Iterator<Item = (usize, u8)>,
    table: &[u8; 256],
    bits: u32,
) -> Result<u128, ParseIdError> {
    let mut value = 0_u128;
    for (position, byte) in digits {
        let digit = table[usize::from(byte)];
        if digit == NONE {
            return Err(ParseIdError::Byte(position));
        }
        if value >> (bits - 5) != 0 {
            return Err(ParseIdError::Overflow);
        }
        value = (value << 5) | u128::from(digit);
    }
    Ok(value)
}
