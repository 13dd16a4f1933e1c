//! Messages, receipts and dead letters in the forms that NATS carries.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message as Raw};
use bytes::Bytes;
use dpat_core::Wall;
use dpat_queue::{DeadLetter, Delivery, Message, MessageId, REASON_BYTES_MAX, Receipt};

use crate::headers::{self, escape, unescape};
use crate::jetstream::{MESSAGE_ID, Stored};

/// The id of a message that was a dead letter; of every other it is its sequence number.
pub(crate) const ID: &str = "Dpat-Id";
/// How often it was handed out before it was a dead letter.
pub(crate) const COUNT: &str = "Dpat-Count";
/// When it was sent, in nanoseconds since 1970.
pub(crate) const SENT: &str = "Dpat-Sent";
/// When it was given up.
pub(crate) const DEAD: &str = "Dpat-Dead";
/// Why, with percent signs.
pub(crate) const REASON: &str = "Dpat-Reason";

/// What headers may take beside a payload: each byte of 16 KiB as three, twice for the names that NATS has too, and our own.
pub(crate) const HEADER_ROOM: usize = 72 << 10;

/// The headers of a message that is sent.
pub(crate) fn sent(message: &Message, at: Wall) -> HeaderMap {
    let mut map = carried(message);
    map.insert(SENT, at.as_nanos().to_string());
    if let Some(dedup) = message.get_dedup() {
        let mut id = String::from("d:");
        escape(dedup.as_bytes(), '%', &mut id);
        map.insert(MESSAGE_ID, id);
    }
    map
}

fn carried(message: &Message) -> HeaderMap {
    let mut map = HeaderMap::new();
    let list = message.headers().iter();
    headers::write(
        &mut map,
        list.map(|(name, value)| (name.as_str(), &value[..])),
    );
    map
}

fn message(headers: &HeaderMap, payload: Bytes) -> Message {
    let list = headers::read(headers).into_iter();
    list.fold(Message::new(payload), |message, (name, value)| {
        message.header(name, value)
    })
}

fn number<T: std::str::FromStr>(map: &HeaderMap, name: &str) -> Option<T> {
    map.get(name)?.as_str().parse().ok()
}

/// Where a delivery is acknowledged: `$JS.ACK.STREAM.CONSUMER.` and numbers, or with domain and account before the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AckForm {
    prefix: String,
    /// Words behind the numbers.
    more: usize,
}

/// What an acknowledgement subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) delivered: u64,
    pub(crate) stream_seq: u64,
    consumer_seq: u64,
    stored_at: u64,
}

impl AckForm {
    /// That of servers without domains.
    pub(crate) fn of(stream: &str, consumer: &str) -> Self {
        Self {
            prefix: format!("$JS.ACK.{stream}.{consumer}"),
            more: 0,
        }
    }

    /// Reads the reply subject of a delivery.
    pub(crate) fn read(reply: &str) -> Option<(Self, Acked)> {
        let words: Vec<&str> = reply.split('.').collect();
        let numbers_at = match words.len() {
            9 => 4,
            11.. => 6,
            _ => return None,
        };
        let number = |at: usize| words.get(numbers_at + at)?.parse().ok();
        let acked = Acked {
            delivered: number(0)?,
            stream_seq: number(1)?,
            consumer_seq: number(2)?,
            stored_at: number(3)?,
        };
        let form = Self {
            prefix: words[..numbers_at].join("."),
            more: words.len() - numbers_at - 5,
        };
        Some((form, acked))
    }

    /// Makes the subject again; the server looks at the first three numbers only.
    pub(crate) fn subject(&self, receipt: Receipt) -> String {
        let token = Token::of(receipt);
        let Token {
            stream_seq,
            consumer_seq,
            delivered,
        } = token;
        let mut subject = format!(
            "{}.{delivered}.{stream_seq}.{consumer_seq}.0.0",
            self.prefix
        );
        (0..self.more).for_each(|_| subject.push_str("._"));
        subject
    }
}

/// What a receipt says beside the message's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) stream_seq: u64,
    consumer_seq: u64,
    delivered: u64,
}

const SEQ_BITS: u32 = 56;
const SEQ_MASK: u128 = (1 << SEQ_BITS) - 1;
const DELIVERED_MASK: u128 = (1 << 16) - 1;

impl Token {
    pub(crate) fn of(receipt: Receipt) -> Self {
        let token = receipt.token();
        let part = |shift: u32, mask: u128| u64::try_from((token >> shift) & mask).unwrap_or(0);
        Self {
            stream_seq: part(SEQ_BITS + 16, SEQ_MASK),
            consumer_seq: part(16, SEQ_MASK),
            delivered: part(0, DELIVERED_MASK),
        }
    }

    const fn pack(acked: Acked) -> u128 {
        let delivered = acked.delivered as u128;
        let delivered = if delivered > DELIVERED_MASK {
            DELIVERED_MASK
        } else {
            delivered
        };
        let stream = (acked.stream_seq as u128 & SEQ_MASK) << (SEQ_BITS + 16);
        stream | ((acked.consumer_seq as u128 & SEQ_MASK) << 16) | delivered
    }
}

/// Reads a delivery; none if it is none.
pub(crate) fn delivery(raw: Raw, lease: Duration) -> Option<(AckForm, Delivery)> {
    let (form, acked) = AckForm::read(raw.reply.as_ref()?.as_str())?;
    let map = raw.headers.unwrap_or_default();
    let id = number(&map, ID).unwrap_or_else(|| u128::from(acked.stream_seq));
    let before: u32 = number(&map, COUNT).unwrap_or(0);
    let attempt = u32::try_from(acked.delivered).unwrap_or(u32::MAX);
    let sent_at = Wall::from_nanos(number(&map, SENT).unwrap_or(acked.stored_at));
    let receipt = Receipt::new(MessageId::new(id), Token::pack(acked));
    let count = before.saturating_add(attempt);
    let mut delivery = Delivery::new(message(&map, raw.payload), receipt, count, sent_at, lease);
    delivery.attempt = attempt;
    Some((form, delivery))
}

/// The headers of a dead letter, of the message as it is stored.
pub(crate) fn dead(stored: &Stored, receipt: Receipt, reason: &str, now: Wall) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in stored
        .headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
    {
        let own: &str = name.as_ref();
        if own != MESSAGE_ID {
            map.append(name.clone(), value.clone());
        }
    }
    let before: u64 = number(&stored.headers, COUNT).unwrap_or(0);
    let mut text = String::new();
    escape(cut(reason).as_bytes(), '%', &mut text);
    map.insert(ID, receipt.id().to_string());
    map.insert(COUNT, (before + Token::of(receipt).delivered).to_string());
    map.insert(DEAD, now.as_nanos().to_string());
    map.insert(REASON, text);
    map
}

fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// Reads a dead letter; none if it is none.
pub(crate) fn letter(stored: &Stored) -> Option<DeadLetter> {
    let map = &stored.headers;
    let reason = unescape(map.get(REASON)?.as_str(), '%')?;
    let at: u64 = number(map, DEAD)?;
    Some(DeadLetter {
        id: MessageId::new(number(map, ID)?),
        message: message(map, stored.payload.clone()),
        reason: Arc::from(String::from_utf8(reason).ok()?),
        at: Wall::from_nanos(at),
        sent_at: Wall::from_nanos(number(map, SENT).unwrap_or(at)),
        count: number(map, COUNT)?,
    })
}

/// The headers of a message that was a dead letter. Sent twice within the window of deduplication it is there once.
pub(crate) fn replayed(letter: &DeadLetter) -> HeaderMap {
    let mut map = carried(&letter.message);
    let (id, count) = (letter.id, letter.count);
    map.insert(ID, id.to_string());
    map.insert(COUNT, count.to_string());
    map.insert(SENT, letter.sent_at.as_nanos().to_string());
    map.insert(MESSAGE_ID, format!("r:{id}:{count}"));
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked() -> Acked {
        Acked {
            delivered: 2,
            stream_seq: (1 << SEQ_BITS) - 1,
            consumer_seq: 9,
            stored_at: 5,
        }
    }

    #[test]
    fn a_receipt_makes_the_subject_of_its_delivery_again() {
        let forms = [
            (
                "$JS.ACK.s.c.2.72057594037927935.9.5.7",
                "$JS.ACK.s.c.2.72057594037927935.9.0.0",
            ),
            (
                "$JS.ACK.hub.acc.s.c.2.72057594037927935.9.5.7",
                "$JS.ACK.hub.acc.s.c.2.72057594037927935.9.0.0",
            ),
            (
                "$JS.ACK.hub.acc.s.c.2.72057594037927935.9.5.7.random",
                "$JS.ACK.hub.acc.s.c.2.72057594037927935.9.0.0._",
            ),
        ];
        for (reply, expected) in forms {
            let (form, read) = AckForm::read(reply).unwrap();
            assert_eq!(read, acked(), "{reply}");
            let receipt = Receipt::new(MessageId::new(1), Token::pack(read));
            assert_eq!(form.subject(receipt), expected);
            assert_eq!(Token::of(receipt).stream_seq, read.stream_seq);
        }
        assert_eq!(
            AckForm::read("$JS.ACK.s.c.1.1.1.5.7").unwrap().0,
            AckForm::of("s", "c")
        );
        for none in ["", "$JS.ACK.s.c.1.1", "$JS.ACK.s.c.x.1.1.5.7"] {
            assert!(AckForm::read(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_count_beyond_what_a_receipt_holds_saturates() {
        let many = Acked {
            delivered: u64::MAX,
            ..acked()
        };
        let token = Token::of(Receipt::new(MessageId::new(1), Token::pack(many)));
        assert_eq!((token.delivered, token.consumer_seq), (65_535, 9));
    }

    #[test]
    fn a_dead_letter_comes_back_as_it_was() {
        let message = Message::new("payload")
            .header("b", "2")
            .header("a", vec![0, 255]);
        let mut headers = sent(&message.clone().dedup("d\r\n"), Wall::from_nanos(3));
        assert_eq!(headers.get(MESSAGE_ID).unwrap().as_str(), "d:d%0D%0A");
        headers.insert(COUNT, "5");
        let stored = Stored {
            seq: 7,
            headers,
            payload: "payload".into(),
        };
        let receipt = Receipt::new(MessageId::new(7), Token::pack(acked()));
        let long = "ä".repeat(REASON_BYTES_MAX);
        let headers = dead(&stored, receipt, &long, Wall::from_nanos(9));
        assert!(headers.get(MESSAGE_ID).is_none());
        let letter = letter(&Stored { headers, ..stored }).unwrap();
        assert_eq!(letter.message, message);
        assert_eq!((letter.id, letter.count), (MessageId::new(7), 7));
        assert_eq!(
            (letter.sent_at, letter.at),
            (Wall::from_nanos(3), Wall::from_nanos(9))
        );
        assert!(letter.reason.len() <= REASON_BYTES_MAX && long.starts_with(&*letter.reason));
        assert_eq!(replayed(&letter).get(MESSAGE_ID).unwrap().as_str(), "r:7:7");
    }
}
