//! Responses as they are stored, version 0, and those that this layer gives itself.

use bytes::Bytes;
use dpat_codec::{Codec, Postcard};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::config::RESPONSE_BYTES_MAX;

const CODEC: Postcard = Postcard::with_bytes_max(RESPONSE_BYTES_MAX);

/// Headers that belong to one connection, one moment or one client, and are not replayed.
const NOT_STORED: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Serialize, Deserialize)]
enum Stored {
    V0 {
        status: u16,
        headers: Vec<(String, Bytes)>,
        body: Bytes,
    },
}

/// Encodes a response; none if it is larger than anything that can be stored.
pub(super) fn encode(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Option<Bytes> {
    let headers = headers
        .iter()
        .filter(|(name, _)| !NOT_STORED.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), Bytes::copy_from_slice(value.as_bytes())))
        .collect();
    let stored = Stored::V0 {
        status: status.as_u16(),
        headers,
        body: body.clone(),
    };
    CODEC.to_vec(&stored).ok().map(Bytes::from)
}

/// Decodes a response; none if the bytes are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Response<Bytes>> {
    let Stored::V0 {
        status,
        headers,
        body,
    } = CODEC.decode(bytes).ok()?;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    for (name, value) in headers {
        let name = HeaderName::try_from(name).ok()?;
        let value = HeaderValue::from_maybe_shared(value).ok()?;
        response.headers_mut().append(name, value);
    }
    Some(response)
}

/// A refusal of this layer, as RFC 9457 wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
}

macro_rules! problems {
    ($($name:ident = $status:ident, $kind:literal, $title:literal;)*) => {$(
        pub(super) const $name: Problem = Problem {
            status: StatusCode::$status,
            kind: $kind,
            title: $title,
        };
    )*};
}

problems! {
    MISSING = BAD_REQUEST, "key-missing", "This request needs an Idempotency-Key.";
    INVALID = BAD_REQUEST, "key-invalid", "The Idempotency-Key is not one text of 1 to 255 characters.";
    BODY = BAD_REQUEST, "body-unreadable", "The body of the request could not be read.";
    TOO_LARGE = PAYLOAD_TOO_LARGE, "body-too-large", "The body of the request is too large.";
    BUSY = CONFLICT, "under-way", "A request with this Idempotency-Key is under way.";
    IN_DOUBT = CONFLICT, "in-doubt", "An earlier request with this Idempotency-Key may have taken effect.";
    REUSED = UNPROCESSABLE_ENTITY, "key-reused", "This Idempotency-Key was used for another request.";
    STORE = SERVICE_UNAVAILABLE, "store-unavailable", "Idempotency-Keys cannot be looked up at the moment.";
    UNREADABLE = INTERNAL_SERVER_ERROR, "record-unreadable", "The stored response cannot be read.";
    NOT_KEPT = INTERNAL_SERVER_ERROR, "response-too-large", "The response is too large to be kept, and was not sent.";
    BROKEN = INTERNAL_SERVER_ERROR, "response-broken", "The response ended before its end; the request may have taken effect.";
}

impl Problem {
    pub(super) fn response(self, retry_after: Option<Duration>) -> Response<Bytes> {
        let Self {
            status,
            kind,
            title,
        } = self;
        let code = status.as_u16();
        let body = format!(
            "{{\"type\":\"urn:dpat:idempotency:{kind}\",\"title\":\"{title}\",\"status\":{code}}}"
        );
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(delay) = retry_after {
            // Whole seconds, and never 0, which many clients take for none.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// Makes the length of a whole body known.
pub(super) fn with_length(mut response: Response<Bytes>) -> Response<Bytes> {
    let length = HeaderValue::from(response.body().len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}
