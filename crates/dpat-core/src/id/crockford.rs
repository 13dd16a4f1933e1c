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

/// Digits that fit one `u64`.
const CHUNK: usize = 12;

/// Writes the low `5 × N` bits.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "takes 60 bits at a time")]
pub(super) fn encode<const N: usize>(mut value: u128) -> [u8; N] {
    let mut text = [0; N];
    for digits in text.rchunks_mut(CHUNK) {
        let mut chunk = value as u64;
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[(chunk & 31) as usize];
            chunk >>= 5;
        }
        value >>= 5 * CHUNK;
    }
    text
}

/// Reads `N` canonical digits of a value of `bits` bits.
#[inline]
pub(super) fn decode_strict<const N: usize>(text: &str, bits: u32) -> Result<u128, ParseIdError> {
    let Ok(digits) = text.as_bytes().try_into() else {
        return Err(ParseIdError::Length(text.len()));
    };
    decode::<N>(digits, &STRICT, bits).map_err(|refusal| match refusal {
        Refusal::Digit(at) => ParseIdError::Byte(at),
        Refusal::Overflow => ParseIdError::Overflow,
    })
}

/// Reads `N` digits in any case, with look-alikes, and with hyphens anywhere.
pub(super) fn decode_tolerant<const N: usize>(text: &str, bits: u32) -> Result<u128, ParseIdError> {
    let length = ParseIdError::Length(text.len());
    let mut digits = [0; N];
    let mut positions = [0; N];
    let mut count = 0;
    // Bounded before it is read.
    if text.len() > 2 * N {
        return Err(length);
    }
    for (position, byte) in text.bytes().enumerate().filter(|(_, byte)| *byte != b'-') {
        if count == N {
            return Err(length);
        }
        (digits[count], positions[count]) = (byte, position);
        count += 1;
    }
    if count != N {
        return Err(length);
    }
    decode(&digits, &TOLERANT, bits).map_err(|refusal| match refusal {
        Refusal::Digit(at) => ParseIdError::Byte(positions[at]),
        Refusal::Overflow => ParseIdError::Overflow,
    })
}

enum Refusal {
    Digit(usize),
    Overflow,
}

#[inline]
fn decode<const N: usize>(digits: &[u8; N], table: &[u8; 256], bits: u32) -> Result<u128, Refusal> {
    let mut seen = 0;
    let mut number = |digits: &[u8]| {
        let read = |number, byte: &u8| {
            let digit = table[usize::from(*byte)];
            seen |= digit;
            number << 5 | u64::from(digit & 31)
        };
        u128::from(digits.iter().fold(0_u64, read))
    };
    let (mut value, mut shift) = (0, 0);
    let mut rest = digits.as_slice();
    while let Some((head, chunk)) = rest.split_last_chunk::<CHUNK>() {
        value |= number(chunk) << shift;
        shift += 5 * CHUNK;
        rest = head;
    }
    value |= number(rest) << shift;
    // No digit has the bits of `NONE`.
    if seen >= 32 {
        return Err(wrong_digit(digits, table));
    }
    // What lies above `bits` is in the first digit.
    let spare = 5 * N - bits as usize;
    if usize::from(table[usize::from(digits[0])]) >> (5 - spare) != 0 {
        return Err(Refusal::Overflow);
    }
    Ok(value)
}

#[cold]
fn wrong_digit(digits: &[u8], table: &[u8; 256]) -> Refusal {
    let wrong = digits
        .iter()
        .position(|byte| table[usize::from(*byte)] == NONE);
    Refusal::Digit(wrong.unwrap_or(0))
}
