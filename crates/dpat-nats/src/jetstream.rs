//! The part of JetStream's API that queues and stores need: JSON over request and reply.
//!
//! Spoken directly: the client's own types refuse some answers of older servers, and each number of an error has an effect
//! here that callers rely on.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::EngineError;

/// The header that says which content a publication is; a second one within the window is none.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The header that says what the last message of the subject must be; 0: there must be none.
pub(crate) const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";

const STREAM_NOT_FOUND: u64 = 10_059;
const CONSUMER_NOT_FOUND: u64 = 10_014;
const NO_MESSAGE: u64 = 10_037;
const NOT_ENABLED: [u64; 2] = [10_039, 10_076];

/// The last message of the subject is another one.
pub(crate) const WRONG_LAST: [u64; 2] = [10_071, 10_164];

/// There is no room in the stream.
pub(crate) const STORE_FAILED: u64 = 10_077;

/// How a stream is set up. What the server adds is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StreamConfig {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) retention: String,
    pub(crate) storage: String,
    pub(crate) discard: String,
    pub(crate) max_msgs: i64,
    pub(crate) max_bytes: i64,
    pub(crate) max_age: u64,
    pub(crate) max_msgs_per_subject: i64,
    pub(crate) max_msg_size: i64,
    pub(crate) num_replicas: usize,
    pub(crate) duplicate_window: u64,
    pub(crate) allow_direct: bool,
    pub(crate) allow_rollup_hdrs: bool,
}

/// How a consumer is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConsumerConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) durable_name: String,
    pub(crate) deliver_policy: String,
    pub(crate) ack_policy: String,
    pub(crate) replay_policy: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) ack_wait: u64,
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub(crate) max_deliver: i64,
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub(crate) max_ack_pending: i64,
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub(crate) max_waiting: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) inactive_threshold: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) headers_only: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) mem_storage: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero_signed(number: &i64) -> bool {
    *number == 0
}

/// What is in a stream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamState {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// The sequence number of the first one.
    pub(crate) first_seq: u64,
    /// That of the last one that was stored, also if it is gone.
    pub(crate) last_seq: u64,
    /// Those of a page, with their numbers of messages, if they were asked for.
    pub(crate) subjects: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamInfo {
    pub(crate) config: StreamConfig,
    pub(crate) state: StreamState,
}

/// A place in a stream, for a consumer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    pub(crate) stream_seq: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConsumerInfo {
    pub(crate) name: String,
    pub(crate) config: ConsumerConfig,
    /// Up to where it has handed out.
    pub(crate) delivered: Place,
    pub(crate) ack_floor: Place,
    pub(crate) num_pending: u64,
    pub(crate) num_ack_pending: u64,
    pub(crate) num_redelivered: u64,
    pub(crate) num_waiting: u64,
    pub(crate) paused: bool,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) seq: u64,
    pub(crate) duplicate: bool,
}

/// The answer to a publication.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Acknowledged {
    error: Option<ApiError>,
    seq: u64,
    duplicate: bool,
}

#[derive(Deserialize)]
struct Purged {
    #[serde(default)]
    purged: u64,
}

/// An answer without anything that is wanted of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Success {}

#[derive(Deserialize)]
struct Envelope {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ApiError {
    code: u64,
    err_code: u64,
    description: String,
}

#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// A message as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// JetStream, through a connection.
#[derive(Clone, Debug)]
pub(crate) struct JetStream {
    connection: Connection,
}

impl JetStream {
    pub(crate) fn new(connection: &Connection) -> Self {
        Self {
            connection: connection.clone(),
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Asks the API; `of` names stream and consumer for errors.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        op: &str,
        body: &impl Serialize,
        of: (&str, &str),
    ) -> Result<T, EngineError> {
        let what = || EngineError::Malformed {
            what: format!("the answer of `{op}`"),
        };
        let body = serde_json::to_vec(body).map_err(|_| what())?;
        let subject = format!("$JS.API.{op}");
        let deadline = self.connection.deadline();
        let answer = self
            .connection
            .request(&subject, HeaderMap::new(), body.into(), deadline);
        let answer = answer.await?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(EngineError::NoJetStream);
        }
        read(&answer.payload, of)?.ok_or_else(what)
    }

    pub(crate) async fn stream(&self, name: &str) -> Result<StreamInfo, EngineError> {
        let nothing = serde_json::Map::new();
        self.ask(&format!("STREAM.INFO.{name}"), &nothing, (name, ""))
            .await
    }

    /// All subjects of a stream that match, page by page.
    pub(crate) async fn subjects(
        &self,
        name: &str,
        filter: &str,
    ) -> Result<Vec<String>, EngineError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let body = serde_json::json!({"subjects_filter": filter, "offset": all.len()});
            let op = format!("STREAM.INFO.{name}");
            let info: StreamInfo = self.ask(&op, &body, (name, "")).await?;
            let before = all.len();
            all.extend(info.state.subjects.into_keys());
            // A page has up to 100 000.
            if all.len() < before + 100_000 {
                return Ok(all);
            }
        }
    }

    pub(crate) async fn create_stream(
        &self,
        config: &StreamConfig,
    ) -> Result<StreamInfo, EngineError> {
        let name = &*config.name;
        self.ask(&format!("STREAM.CREATE.{name}"), config, (name, ""))
            .await
    }

    pub(crate) async fn delete_stream(&self, name: &str) -> Result<(), EngineError> {
        let nothing = serde_json::Map::new();
        let op = format!("STREAM.DELETE.{name}");
        self.ask(&op, &nothing, (name, ""))
            .await
            .map(|Success {}| ())
    }

    pub(crate) async fn consumer(
        &self,
        stream: &str,
        name: &str,
    ) -> Result<ConsumerInfo, EngineError> {
        let nothing = serde_json::Map::new();
        self.ask(
            &format!("CONSUMER.INFO.{stream}.{name}"),
            &nothing,
            (stream, name),
        )
        .await
    }

    /// Makes a consumer; durable if it has a name.
    pub(crate) async fn create_consumer(
        &self,
        stream: &str,
        config: &ConsumerConfig,
    ) -> Result<ConsumerInfo, EngineError> {
        let name = &*config.durable_name;
        let op = match name {
            "" => format!("CONSUMER.CREATE.{stream}"),
            name => format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"),
        };
        let body = serde_json::json!({"stream_name": stream, "config": config});
        self.ask(&op, &body, (stream, name)).await
    }

    pub(crate) async fn delete_consumer(
        &self,
        stream: &str,
        name: &str,
    ) -> Result<(), EngineError> {
        let nothing = serde_json::Map::new();
        let op = format!("CONSUMER.DELETE.{stream}.{name}");
        self.ask(&op, &nothing, (stream, name))
            .await
            .map(|Success {}| ())
    }

    /// Removes the messages of a subject below a sequence number, and returns how many there were.
    pub(crate) async fn purge(
        &self,
        stream: &str,
        filter: Option<&str>,
        below: Option<u64>,
    ) -> Result<u64, EngineError> {
        let mut body = serde_json::Map::new();
        if let Some(filter) = filter {
            body.insert("filter".to_owned(), filter.into());
        }
        if let Some(below) = below {
            body.insert("seq".to_owned(), below.into());
        }
        let purged: Purged = self
            .ask(&format!("STREAM.PURGE.{stream}"), &body, (stream, ""))
            .await?;
        Ok(purged.purged)
    }

    /// Removes one message; false if it was not there.
    pub(crate) async fn remove(&self, stream: &str, seq: u64) -> Result<bool, EngineError> {
        let body = serde_json::json!({"seq": seq, "no_erase": true});
        let op = format!("STREAM.MSG.DELETE.{stream}");
        match self.ask(&op, &body, (stream, "")).await {
            Ok(Success {}) => Ok(true),
            // Not found, already deleted: the numbers differ from version to version.
            Err(EngineError::Refused {
                code: NO_MESSAGE | 10_043 | 10_057,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a message from the stream's leader; none if it is not there.
    pub(crate) async fn get(
        &self,
        stream: &str,
        which: Which<'_>,
    ) -> Result<Option<Stored>, EngineError> {
        let body = match which {
            Which::Seq(seq) => serde_json::json!({"seq": seq}),
            Which::LastOf(subject) => serde_json::json!({"last_by_subj": subject}),
        };
        let op = format!("STREAM.MSG.GET.{stream}");
        let got: Got = match self.ask(&op, &body, (stream, "")).await {
            Ok(got) => got,
            Err(EngineError::Refused {
                code: NO_MESSAGE, ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let malformed = || EngineError::Malformed {
            what: format!("message {} of stream `{stream}`", got.message.seq),
        };
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| malformed());
        let headers = head(&decode(&got.message.hdrs)?).ok_or_else(malformed)?;
        Ok(Some(Stored {
            seq: got.message.seq,
            headers,
            payload: decode(&got.message.data)?.into(),
        }))
    }

    /// Publishes, and returns once it is stored.
    pub(crate) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        stream: &str,
    ) -> Result<Published, EngineError> {
        let deadline = self.connection.deadline();
        let answer = self
            .connection
            .request(subject, headers, payload, deadline)
            .await?;
        published(&answer, stream)
    }

    /// Asks with a payload of its own, and returns once it was answered.
    pub(crate) async fn acknowledge(
        &self,
        subject: &str,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let answer = self
            .connection
            .request(subject, HeaderMap::new(), payload, deadline)
            .await?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            let subject = subject.to_owned();
            return Err(EngineError::NoResponders { subject });
        }
        Ok(())
    }
}

/// Which message is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// That of a sequence number.
    Seq(u64),
    /// The last one of a subject.
    LastOf(&'a str),
}

/// Reads the answer to a publication into a stream.
pub(crate) fn published(answer: &Message, stream: &str) -> Result<Published, EngineError> {
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(EngineError::NoStream {
            stream: stream.to_owned(),
        });
    }
    acknowledged(&answer.payload, stream)
}

/// Reads it in one go: every publication has one.
fn acknowledged(payload: &[u8], stream: &str) -> Result<Published, EngineError> {
    match serde_json::from_slice(payload) {
        Ok(Acknowledged {
            error: Some(error), ..
        }) => Err(refused(error, (stream, ""))),
        Ok(Acknowledged { seq, duplicate, .. }) => Ok(Published { seq, duplicate }),
        Err(_) => Err(EngineError::Malformed {
            what: format!("the acknowledgement of stream `{stream}`"),
        }),
    }
}

/// None: it does not decode.
fn read<T: DeserializeOwned>(payload: &[u8], of: (&str, &str)) -> Result<Option<T>, EngineError> {
    match serde_json::from_slice(payload) {
        Ok(Envelope { error: Some(error) }) => Err(refused(error, of)),
        Ok(Envelope { error: None }) => Ok(serde_json::from_slice(payload).ok()),
        Err(_) => Ok(None),
    }
}

fn refused(error: ApiError, (stream, consumer): (&str, &str)) -> EngineError {
    let code = match error.err_code {
        0 => error.code,
        code => code,
    };
    let stream = stream.to_owned();
    match code {
        STREAM_NOT_FOUND => EngineError::NoStream { stream },
        CONSUMER_NOT_FOUND => EngineError::NoConsumer {
            stream,
            consumer: consumer.to_owned(),
        },
        code if NOT_ENABLED.contains(&code) => EngineError::NoJetStream,
        code => EngineError::Refused {
            code,
            description: error.description,
        },
    }
}

/// Reads the headers of a stored message.
fn head(bytes: &[u8]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    let text = std::str::from_utf8(bytes).ok()?;
    for line in text.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let name: async_nats::HeaderName = name.parse().ok()?;
        map.append(name, value.trim());
    }
    Some(map)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Compares a setting with what a stream or consumer has.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    setting: &'static str,
    found: &T,
    wanted: &T,
) -> Result<(), EngineError> {
    if found == wanted {
        return Ok(());
    }
    Err(EngineError::Differs {
        what: what.to_owned(),
        setting,
        found: format!("{found:?}"),
        wanted: format!("{wanted:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_typed() {
        let refuse = |text: &str| read::<Success>(text.as_bytes(), ("s", "c")).unwrap_err();
        let error = |code: u64| {
            format!(r#"{{"error":{{"code":503,"err_code":{code},"description":"d"}}}}"#)
        };
        assert!(matches!(
            refuse(&error(10_059)),
            EngineError::NoStream { .. }
        ));
        assert!(matches!(
            refuse(&error(10_014)),
            EngineError::NoConsumer { .. }
        ));
        assert_eq!(refuse(&error(10_039)), EngineError::NoJetStream);
        let description = "d".to_owned();
        let code = 10_077;
        assert_eq!(
            refuse(&error(code)),
            EngineError::Refused { code, description }
        );
        let read = |text: &str| read::<Success>(text.as_bytes(), ("s", ""));
        assert!(read(r#"{"success":true}"#).unwrap().is_some());
        assert!(read("no JSON").unwrap().is_none());
    }

    #[test]
    fn acknowledgements_are_read() {
        let read = |text: &str| acknowledged(text.as_bytes(), "s");
        for (text, seq, duplicate) in [
            (r#"{"stream":"s","seq":7}"#, 7, false),
            (
                r#"{"stream":"s","seq":8,"duplicate":true,"domain":"d"}"#,
                8,
                true,
            ),
        ] {
            assert_eq!(read(text), Ok(Published { seq, duplicate }));
        }
        let refused = read(r#"{"error":{"code":400,"err_code":10071,"description":"d"},"seq":0}"#);
        assert!(matches!(
            refused,
            Err(EngineError::Refused { code: 10_071, .. })
        ));
        assert!(matches!(
            read("no JSON"),
            Err(EngineError::Malformed { .. })
        ));
    }

    #[test]
    fn stored_headers_are_read() {
        let map = head(b"NATS/1.0\r\na: 1\r\na:2\r\nb: \r\n\r\n").unwrap();
        let values: Vec<_> = map
            .get_all("a")
            .map(|value| value.as_str().to_owned())
            .collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(map.get("b").map(|value| value.as_str()), Some(""));
        assert!(head(b"NATS/1.0\r\nno header\r\n").is_none());
        assert!(head(b"").unwrap().is_empty());
    }
}
