//! Hexadecimal digits of 128-bit ids.

use super::ParseIdError;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const NONE: u8 = 0xFF;

/// The value of each digit, in any case.
const VALUES: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut digit = 0_u8;
    while digit < 16 {
        let byte = DIGITS[digit as usize];
        table[byte as usize] = digit;
        table[byte.to_ascii_uppercase() as usize] = digit;
        digit += 1;
    }
    table
};

/// Where the two digits of each byte stand in 32 bytes of text.
pub(super) const PLAIN: [usize; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];

/// Where the two digits of each byte stand in 36 bytes of text, 8-4-4-4-12.
pub(super) const HYPHENATED: [usize; 16] =
    [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Writes 16 bytes as lower-case digits; hyphens in between.
#[inline]
pub(super) fn encode<const N: usize>(bytes: [u8; 16], positions: &[usize; 16]) -> [u8; N] {
    let mut text = [b'-'; N];
    for (byte, at) in bytes.into_iter().zip(positions) {
        text[*at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// Reads 32 digits in any case.
///
/// `offset` is where `text` begins in what the caller was given.
#[inline]
pub(super) fn decode_plain(text: &[u8; 32], offset: usize) -> Result<[u8; 16], ParseIdError> {
    decode(text, &PLAIN).ok_or_else(|| misplaced(text, &[], offset))
}

/// Reads 32 digits in any case, hyphenated 8-4-4-4-12.
#[inline]
pub(super) fn decode_hyphenated(text: &[u8; 36], offset: usize) -> Result<[u8; 16], ParseIdError> {
    let hyphenated = HYPHENS.iter().all(|at| text[*at] == b'-');
    decode(text, &HYPHENATED)
        .filter(|_| hyphenated)
        .ok_or_else(|| misplaced(text, &HYPHENS, offset))
}

#[inline]
fn decode<const N: usize>(text: &[u8; N], positions: &[usize; 16]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut seen = 0;
    for (byte, at) in bytes.iter_mut().zip(positions) {
        let (high, low) = (
            VALUES[usize::from(text[*at])],
            VALUES[usize::from(text[at + 1])],
        );
        seen |= high | low;
        *byte = high << 4 | low;
    }
    // No digit has the bits of `NONE`.
    (seen < 16).then_some(bytes)
}

/// Finds the first byte that does not belong where it stands.
#[cold]
fn misplaced(text: &[u8], hyphens: &[usize], offset: usize) -> ParseIdError {
    let belongs = |(at, byte): &(usize, &u8)| {
        if hyphens.contains(at) {
            **byte == b'-'
        } else {
            VALUES[usize::from(**byte)] != NONE
        }
    };
    let wrong = text.iter().enumerate().find(|entry| !belongs(entry));
    ParseIdError::Byte(offset + wrong.map_or(0, |(at, _)| at))
}
