//! The stored form of headers, and what a message counts.

use bytes::Bytes;
use dpat_queue::Message;

/// What a message takes beside its texts and bytes; counted against the limits of bytes.
const OVERHEAD_BYTES: usize = 256;

/// Headers that do not decode.
#[derive(Debug, thiserror::Error)]
#[error("the headers are cut or no text")]
pub(super) struct BadHeaders;

/// What it counts against the limits of bytes.
pub(super) fn size(message: &Message) -> usize {
    let text = |text: Option<&str>| text.map_or(0, str::len);
    let headers = message.headers().iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    let texts = text(message.get_key()) + text(message.get_dedup());
    OVERHEAD_BYTES + message.payload().len() + headers + texts
}

/// Of each header: the length of the name in two bytes, that of the value in four, both little-endian, name, value.
pub(super) fn encode(headers: &[(String, Bytes)]) -> Option<Vec<u8>> {
    if headers.is_empty() {
        return None;
    }
    let mut encoded = Vec::new();
    for (name, value) in headers {
        // A queue has checked that they are short.
        let name_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        encoded.extend(name_len.to_le_bytes());
        encoded.extend(value_len.to_le_bytes());
        encoded.extend(name.as_bytes());
        encoded.extend(value);
    }
    Some(encoded)
}

pub(super) fn decode(mut bytes: &[u8], mut message: Message) -> Result<Message, BadHeaders> {
    while !bytes.is_empty() {
        let (name, value, rest) = header(bytes).ok_or(BadHeaders)?;
        message = message.header(name, value.to_vec());
        bytes = rest;
    }
    Ok(message)
}

/// The first header, and what is behind it.
fn header(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (name_len, bytes) = bytes.split_first_chunk()?;
    let (value_len, bytes) = bytes.split_first_chunk()?;
    let (name, bytes) = bytes.split_at_checked(u16::from_le_bytes(*name_len).into())?;
    let value_len = usize::try_from(u32::from_le_bytes(*value_len)).ok()?;
    let (value, rest) = bytes.split_at_checked(value_len)?;
    Some((std::str::from_utf8(name).ok()?, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_what_is_cut_is_refused() {
        let message = Message::new("").header("a", "1").header("bc", vec![0, 255]);
        let encoded = encode(message.headers()).unwrap();
        let golden = [
            &[1, 0, 1, 0, 0, 0][..],
            b"a1",
            &[2, 0, 2, 0, 0, 0],
            b"bc",
            &[0, 255],
        ];
        assert_eq!(encoded, golden.concat());
        let decoded = decode(&encoded, Message::new("")).unwrap();
        assert_eq!(decoded, message);
        for end in (1..encoded.len()).filter(|end| *end != 8) {
            assert!(decode(&encoded[..end], Message::new("")).is_err(), "{end}");
        }
        assert!(encode(&[]).is_none());
        assert_eq!(size(&Message::new("xy").key("abc")), 256 + 5);
    }
}
