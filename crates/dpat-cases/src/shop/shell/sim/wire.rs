//! Requests and answers as bytes on the simulated network.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dpat_core::{Class, Effect};

use crate::shop::domain::Reason;
use crate::shop::service::ports::{CallError, Reply, Request, Step};

/// Writes a request; its step is the kind of the message.
pub(super) fn encode_request(request: &Request) -> Bytes {
    let id = request.order_id.as_bytes();
    let mut bytes = BytesMut::with_capacity(8 + id.len() + request.body.len());
    bytes.put_u32_le(request.attempt);
    bytes.put_u32_le(u32::try_from(id.len()).unwrap_or(u32::MAX));
    bytes.put_slice(id);
    bytes.put_slice(&request.body);
    bytes.freeze()
}

/// Reads a request; none if it is damaged.
pub(super) fn decode_request(kind: &str, mut bytes: Bytes) -> Option<Request> {
    let step = Step::by_name(kind)?;
    if bytes.len() < 8 {
        return None;
    }
    let attempt = bytes.get_u32_le();
    let length = usize::try_from(bytes.get_u32_le()).ok()?;
    if bytes.len() < length {
        return None;
    }
    let id = bytes.split_to(length);
    Some(Request {
        step,
        order_id: std::str::from_utf8(&id).ok()?.to_owned(),
        attempt,
        body: bytes,
    })
}

const REASONS: [Reason; 4] = [
    Reason::OutOfStock,
    Reason::CardDeclined,
    Reason::Unavailable,
    Reason::Cancelled,
];
/// The classes that services answer with.
const CLASSES: [Class; 8] = [
    Class::Transient,
    Class::Timeout,
    Class::Overloaded,
    Class::Unavailable,
    Class::Conflict,
    Class::InvalidInput,
    Class::Permanent,
    Class::Corrupt,
];
/// What an error of a service says to people, as the HTTP client of the real shop does.
const REFUSES: &str = "the service refuses";
const FAILED: &str = "the service failed";

fn index<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let found = all.iter().position(|other| other == one);
    found
        .and_then(|index| u8::try_from(index).ok())
        .unwrap_or(u8::MAX)
}

/// Writes an answer.
pub(super) fn encode_answer(answer: &Result<Reply, CallError>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(16);
    match answer {
        Ok(Reply::Done) => bytes.put_u8(0),
        Ok(Reply::Accepted) => bytes.put_u8(1),
        Ok(Reply::Refused(reason)) => {
            bytes.put_u8(2);
            bytes.put_u8(index(&REASONS, reason));
        }
        Ok(Reply::Conflict) => bytes.put_u8(3),
        Ok(Reply::NotFound) => bytes.put_u8(4),
        Ok(Reply::Invalid(detail)) => {
            bytes.put_u8(5);
            bytes.put_slice(detail.as_bytes());
        }
        Ok(Reply::Document(document)) => {
            bytes.put_u8(6);
            bytes.put_slice(document);
        }
        Err(error) => {
            bytes.put_u8(7);
            bytes.put_u8(index(&CLASSES, &error.class));
            bytes.put_u8(u8::from(error.effect == Effect::NotDone));
            let millis = error.retry_after.map(|after| after.as_millis());
            bytes.put_u64_le(millis.map_or(u64::MAX, |ms| u64::try_from(ms).unwrap_or(u64::MAX)));
        }
    }
    bytes.freeze()
}

/// Reads an answer.
pub(super) fn decode_answer(bytes: &[u8]) -> Result<Reply, CallError> {
    let corrupt = || CallError::unknown(Class::Corrupt, "the answer does not decode");
    let (tag, rest) = bytes.split_first().ok_or_else(corrupt)?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    match (tag, rest) {
        (0, []) => Ok(Reply::Done),
        (1, []) => Ok(Reply::Accepted),
        (2, [reason]) => {
            let reason = REASONS.get(usize::from(*reason)).ok_or_else(corrupt)?;
            Ok(Reply::Refused(*reason))
        }
        (3, []) => Ok(Reply::Conflict),
        (4, []) => Ok(Reply::NotFound),
        (5, _) => Ok(Reply::Invalid(text())),
        (6, _) => Ok(Reply::Document(Bytes::copy_from_slice(rest))),
        (7, [class, not_done, after @ ..]) => {
            let class = CLASSES.get(usize::from(*class)).ok_or_else(corrupt)?;
            let after = after
                .try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| corrupt())?;
            let after = (after != u64::MAX).then(|| Duration::from_millis(after));
            let error = match not_done {
                1 => CallError::not_done(*class, REFUSES),
                _ => CallError::unknown(*class, FAILED),
            };
            Err(error.with_retry_after(after))
        }
        _ => Err(corrupt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back() {
        let mut request = Request::new(Step::Charge, "o-1", Bytes::from_static(b"{}"));
        request.attempt = 17;
        let bytes = encode_request(&request);
        let back = decode_request("charge", bytes.clone()).unwrap();
        assert_eq!((back.step, back.attempt), (Step::Charge, 17));
        assert_eq!(
            (back.order_id.as_str(), &back.body[..]),
            ("o-1", &b"{}"[..])
        );
        assert!(decode_request("pay", bytes.clone()).is_none());
        for length in 0..11 {
            assert!(
                decode_request("charge", bytes.slice(..length)).is_none(),
                "{length}"
            );
        }
    }

    #[test]
    fn answers_come_back() {
        let replies = [
            Reply::Done,
            Reply::Accepted,
            Reply::Refused(Reason::Cancelled),
            Reply::Conflict,
            Reply::NotFound,
            Reply::Invalid("no".to_owned()),
            Reply::Document(Bytes::from_static(b"{}")),
        ];
        for reply in replies {
            assert_eq!(decode_answer(&encode_answer(&Ok(reply.clone()))), Ok(reply));
        }
        let after = Some(Duration::from_millis(1_500));
        let errors = [
            CallError::not_done(Class::Overloaded, REFUSES).with_retry_after(after),
            CallError::unknown(Class::Unavailable, FAILED),
        ];
        for error in errors {
            assert_eq!(
                decode_answer(&encode_answer(&Err(error.clone()))),
                Err(error)
            );
        }
        for damaged in [&[][..], &[9], &[0, 0], &[2, 99], &[7, 0, 1, 0]] {
            assert_eq!(decode_answer(damaged).unwrap_err().class, Class::Corrupt);
        }
    }
}
