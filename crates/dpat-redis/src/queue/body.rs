//! The stored form of headers and payload, version 0, and what a message counts.

use bytes::{BufMut, Bytes, BytesMut};
use dpat_queue::Message;

/// What a message takes beside its texts and bytes; counted against the limits of bytes.
const OVERHEAD_BYTES: usize = 256;

const VERSION: u8 = 0;

/// A body that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("it is cut, of another version, or no text")]
pub(super) struct BadBody;

/// What it counts against the limits of bytes.
pub(super) fn size(message: &Message) -> usize {
    let text = |text: Option<&str>| text.map_or(0, str::len);
    let headers = message.headers().iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    let texts = text(message.get_key()) + text(message.get_dedup());
    OVERHEAD_BYTES + message.payload().len() + headers + texts
}

/// The version, how many headers, of each the length of the name in two bytes, that of the value in four, name, value; the payload.
/// Numbers are little-endian.
pub(super) fn encode(message: &Message) -> Bytes {
    let mut body = BytesMut::with_capacity(2 + size(message));
    let headers = message.headers();
    body.put_u8(VERSION);
    // A queue has checked that they are few and short.
    body.put_u8(u8::try_from(headers.len()).unwrap_or(u8::MAX));
    for (name, value) in headers {
        body.put_u16_le(u16::try_from(name.len()).unwrap_or(u16::MAX));
        body.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
        body.put_slice(name.as_bytes());
        body.put_slice(value);
    }
    body.put_slice(message.payload());
    body.freeze()
}

pub(super) fn decode(body: Vec<u8>) -> Result<Message, BadBody> {
    let body = Bytes::from(body);
    let [VERSION, count, ..] = body[..] else {
        return Err(BadBody);
    };
    let mut at = 2;
    let mut headers = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (name, value, next) = header(&body, at).ok_or(BadBody)?;
        headers.push((name, value));
        at = next;
    }
    let message = Message::new(body.slice(at..));
    let with = |message: Message, (name, value)| message.header(name, value);
    Ok(headers.into_iter().fold(message, with))
}

/// The header that begins there, and where the next one does.
fn header(body: &Bytes, at: usize) -> Option<(String, Bytes, usize)> {
    let (name_len, rest) = body.get(at..)?.split_first_chunk()?;
    let (value_len, _) = rest.split_first_chunk()?;
    let name_at = at + 6;
    let value_at = name_at + usize::from(u16::from_le_bytes(*name_len));
    let end = value_at.checked_add(usize::try_from(u32::from_le_bytes(*value_len)).ok()?)?;
    if end > body.len() {
        return None;
    }
    let name = std::str::from_utf8(&body[name_at..value_at]).ok()?;
    Some((name.to_owned(), body.slice(value_at..end), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_and_what_is_cut_is_refused() {
        let message = Message::new("pay")
            .header("a", "1")
            .header("bc", vec![0, 255]);
        let body = encode(&message);
        let golden = [
            &[0, 2, 1, 0, 1, 0, 0, 0][..],
            b"a1",
            &[2, 0, 2, 0, 0, 0],
            b"bc",
            &[0, 255],
            b"pay",
        ];
        assert_eq!(body, golden.concat());
        assert_eq!(decode(body.to_vec()).unwrap(), message);
        let headers_end = body.len() - 3;
        for end in 0..headers_end {
            assert!(decode(body[..end].to_vec()).is_err(), "{end}");
        }
        let mut later = body.to_vec();
        later[0] = 1;
        assert!(decode(later).is_err(), "a later version is no version 0");
        assert_eq!(size(&Message::new("xy").key("abc")), 256 + 5);
    }
}
