//! Hexadecimal digits of 128-bit ids.

use super::ParseIdError;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes 16 bytes as lower-case digits, with a hyphen before each byte index in `hyphens`.
pub(super) fn encode<const N: usize>(bytes: [u8; 16], hyphens: &[usize]) -> [u8; N] {
    let mut text = [b'-'; N];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        at += usize::from(hyphens.contains(&index));
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// Reads 32 digits in any case, with hyphens exactly before each byte index in `hyphens`.
///
/// `offset` is where `text` begins in what the caller was given.
pub(super) fn decode(
    text: &str,
    hyphens: &[usize],
    offset: usize,
) -> Result<[u8; 16], ParseIdError> {
    if text.len() != 32 + hyphens.len() {
        return Err(ParseIdError::Length(text.len()));
    }
    let text = text.as_bytes();
    let digit = |at: usize| {
        char::from(text[at])
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or(ParseIdError::Byte(offset + at))
    };
    let mut bytes = [0; 16];
    let mut at = 0;
    for (index, byte) in bytes.iter_mut().enumerate() {
        if hyphens.contains(&index) {
            if text[at] != b'-' {
                return Err(ParseIdError::Byte(offset + at));
            }
            at += 1;
        }
        *byte = (digit(at)? << 4) | digit(at + 1)?;
        at += 2;
    }
    Ok(bytes)
}
