//! Messages as bytes of a file that only this process reads.

use crate::message::{Draft, Message};
use crate::subject::Subject;
use bytes::Bytes;
use std::hash::{DefaultHasher, Hasher};

/// Length and checksum of the body.
pub(super) const HEADER_BYTES: usize = 12;

pub(super) struct Header {
    pub(super) body_len: u32,
    checksum: u64,
}

impl Header {
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (len, checksum) = bytes.split_first_chunk::<4>()?;
        Some(Self {
            body_len: u32::from_le_bytes(*len),
            checksum: u64::from_le_bytes(*checksum.first_chunk()?),
        })
    }
}

fn checksum(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// Writes a frame into an empty buffer.
pub(super) fn encode(message: &Message, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    buffer.extend_from_slice(&message.retained_number().to_le_bytes());
    put_text(buffer, message.subject());
    put_text(buffer, message.reply_to().map_or("", Subject::as_str));
    let count = message.headers().count();
    put_len(buffer, count);
    for (name, value) in message.headers() {
        put_text(buffer, name);
        put_text(buffer, value);
    }
    buffer.extend_from_slice(message.payload());
    let (header, body) = buffer.split_at_mut(HEADER_BYTES);
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..].copy_from_slice(&checksum(body).to_le_bytes());
}

/// The limits of subjects and headers are far below 2¹⁶.
fn put_len(buffer: &mut Vec<u8>, len: usize) {
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    buffer.extend_from_slice(&len.to_le_bytes());
}

fn put_text(buffer: &mut Vec<u8>, text: &str) {
    put_len(buffer, text.len());
    buffer.extend_from_slice(text.as_bytes());
}

/// Reads the body of a frame. None if it is not what was written.
pub(super) fn decode(header: &Header, body: &[u8]) -> Option<Message> {
    if header.checksum != checksum(body) {
        return None;
    }
    let (number, mut rest) = body.split_first_chunk::<8>()?;
    let subject: Subject = take_text(&mut rest)?.parse().ok()?;
    let reply_to = take_text(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..take_len(&mut rest)? {
        headers.push((take_text(&mut rest)?, take_text(&mut rest)?));
    }
    let mut draft = Draft::new(Bytes::copy_from_slice(rest));
    for (name, value) in headers {
        draft = draft.header(name, value);
    }
    if !reply_to.is_empty() {
        draft = draft.reply_to(reply_to.parse().ok()?);
    }
    let number = u64::from_le_bytes(*number);
    Some(Message::retained(subject, draft, number))
}

fn take_len(rest: &mut &[u8]) -> Option<usize> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_le_bytes(*len).into())
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = take_len(rest)?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}
