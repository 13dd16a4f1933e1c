//! What goes over a channel: headers, reply subject and payload, version 0.

use bytes::{BufMut, Bytes, BytesMut};
use dpat_pubsub::{Draft, Message, Subject};

const VERSION: u8 = 0;

/// The version, the length of the reply subject (0: none), how many headers, of each the lengths of name and value in two bytes each,
/// little-endian; reply subject, names and values in turn; the payload.
pub(super) fn encode(message: &Message) -> Bytes {
    let reply = message.reply_to().map_or("", Subject::as_str);
    let headers: Vec<(&str, &str)> = message.headers().collect();
    let texts: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let size = 3 + 4 * headers.len() + reply.len() + texts + message.payload().len();
    let mut envelope = BytesMut::with_capacity(size);
    envelope.put_u8(VERSION);
    // A hub has checked that they are few and short.
    envelope.put_u8(u8::try_from(reply.len()).unwrap_or(u8::MAX));
    envelope.put_u8(u8::try_from(headers.len()).unwrap_or(u8::MAX));
    for (name, value) in &headers {
        envelope.put_u16_le(u16::try_from(name.len()).unwrap_or(u16::MAX));
        envelope.put_u16_le(u16::try_from(value.len()).unwrap_or(u16::MAX));
    }
    envelope.put_slice(reply.as_bytes());
    for (name, value) in &headers {
        envelope.put_slice(name.as_bytes());
        envelope.put_slice(value.as_bytes());
    }
    envelope.put_slice(message.payload());
    envelope.freeze()
}

/// None: it is cut, of another version, or nothing of this family.
pub(super) fn decode(subject: Subject, envelope: Vec<u8>) -> Option<Message> {
    let envelope = Bytes::from(envelope);
    let [VERSION, reply, count, ..] = envelope[..] else {
        return None;
    };
    let lengths_end = 3 + 4 * usize::from(count);
    let lengths = envelope.get(3..lengths_end)?.chunks_exact(2);
    let mut lengths = lengths.map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])));
    let mut at = lengths_end;
    let mut text = |length: usize| {
        let bytes = envelope.get(at..at + length)?;
        at += length;
        std::str::from_utf8(bytes).ok()
    };
    let reply = text(reply.into())?;
    let mut headers = Vec::with_capacity(count.into());
    for _ in 0..count {
        headers.push((text(lengths.next()?)?, text(lengths.next()?)?));
    }
    let mut draft = Draft::new(envelope.slice(at..));
    for (name, value) in headers {
        draft = draft.header(name, value);
    }
    if !reply.is_empty() {
        draft = draft.reply_to(reply.parse().ok()?);
    }
    Some(Message::new(subject, draft))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        "a.b".parse().unwrap()
    }

    #[test]
    fn envelopes_come_back_and_what_is_cut_is_none() {
        let plain = Message::new(subject(), Draft::new("pay"));
        assert_eq!(encode(&plain), &b"\0\0\0pay"[..]);
        let draft = Draft::new("pay").header("one", "é").header("two", "");
        let full = Message::new(subject(), draft.reply_to("r".parse().unwrap()));
        let envelope = encode(&full);
        let golden = b"\0\x01\x02\x03\0\x02\0\x03\0\0\0roneetwopay".to_vec();
        let golden: Vec<u8> = [&golden[..15], "é".as_bytes(), &golden[16..]].concat();
        assert_eq!(envelope, golden);
        for message in [plain, full] {
            let envelope = encode(&message).to_vec();
            assert_eq!(decode(subject(), envelope).unwrap(), message);
        }
        for end in 0..envelope.len() - 3 {
            assert!(
                decode(subject(), envelope[..end].to_vec()).is_none(),
                "{end}"
            );
        }
        assert!(decode(subject(), b"\x01\0\0later".to_vec()).is_none());
        assert!(decode(subject(), b"from somebody else".to_vec()).is_none());
        assert!(
            decode(subject(), b"\0\x01\0*".to_vec()).is_none(),
            "no subject"
        );
    }
}
