//! Pulling messages from a consumer.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::error::{Access, EngineError};
use crate::jetstream::nanos;
use crate::signals::refused;

/// How a pull ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There are no more, or it was waited for as long as was asked.
    Empty,
    /// As many wait as may.
    TooManyWait,
    /// The rest will not come: the connection or the consumer changed, or nothing more came in time.
    Broken(EngineError),
}

/// Takes up to `max` messages that are there, and does not wait.
pub(crate) async fn now(
    connection: &Connection,
    subject: &str,
    max: usize,
    deadline: Instant,
) -> Result<(Vec<Message>, End), EngineError> {
    let body = json!({"batch": max, "no_wait": true});
    let pull = Pull {
        connection,
        subject,
        deadline,
    };
    pull.collect(&body, max).await
}

/// Waits up to `wait` for one message. Once it is dropped the server hands nothing out for it any more.
pub(crate) async fn one(
    connection: &Connection,
    subject: &str,
    wait: Duration,
    deadline: Instant,
) -> Result<(Vec<Message>, End), EngineError> {
    let body = json!({"batch": 1, "expires": nanos(wait)});
    let pull = Pull {
        connection,
        subject,
        deadline,
    };
    pull.collect(&body, 1).await
}

/// One pull, with a subscription of its own: messages come under the subject that they were published to, so that nothing
/// else tells whose they are.
struct Pull<'a> {
    connection: &'a Connection,
    subject: &'a str,
    deadline: Instant,
}

impl Pull<'_> {
    async fn collect(
        self,
        body: &serde_json::Value,
        max: usize,
    ) -> Result<(Vec<Message>, End), EngineError> {
        let Self {
            connection,
            subject,
            deadline,
        } = self;
        let number = connection.ready(deadline).await?;
        let reply = Subject::from(connection.new_inbox());
        let mut from = connection.subscribe(&reply, None, deadline).await?;
        let mut refusals = connection.signals().refusals();
        let payload = body.to_string().into();
        connection
            .publish(
                Subject::from(subject),
                Some(reply),
                HeaderMap::new(),
                payload,
                deadline,
            )
            .await?;
        let mut messages = Vec::new();
        while messages.len() < max {
            let next = tokio::select! {
                biased;
                next = from.next() => next.ok_or(EngineError::Lost),
                _ = refused(&mut refusals, |one| one.access == Access::Publish && one.subject == subject) => {
                    let (access, subject) = (Access::Publish, subject.to_owned());
                    Err(EngineError::Denied { access, subject })
                }
                () = connection.lost(number) => Err(EngineError::Lost),
                () = sleep_until(deadline) => Err(EngineError::Timeout {
                    subject: subject.to_owned(),
                    within: connection.request_timeout(),
                }),
            };
            match next {
                Err(error) => return Ok((messages, End::Broken(error))),
                Ok(message) => match message.status {
                    None => messages.push(message),
                    Some(status) => {
                        let text = message.description.unwrap_or_default();
                        if let Some(end) = end(status.as_u16(), &text, subject) {
                            return Ok((messages, end));
                        }
                    }
                },
            }
        }
        Ok((messages, End::Empty))
    }
}

/// What a status says; none: that the server is still there.
fn end(status: u16, text: &str, subject: &str) -> Option<End> {
    let lower = text.to_ascii_lowercase();
    Some(match status {
        100 => return None,
        404 | 408 => End::Empty,
        409 if lower.contains("maxwaiting") || lower.contains("max waiting") => End::TooManyWait,
        // More than may be out; the batch is complete; its leader changed.
        409 if lower.contains("deleted") => End::Broken(EngineError::NoResponders {
            subject: subject.to_owned(),
        }),
        409 => End::Empty,
        503 => End::Broken(EngineError::NoResponders {
            subject: subject.to_owned(),
        }),
        code => End::Broken(EngineError::Refused {
            code: code.into(),
            description: text.to_owned(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(end(100, "", "s"), None);
        assert_eq!(end(404, "No Messages", "s"), Some(End::Empty));
        assert_eq!(end(408, "Request Timeout", "s"), Some(End::Empty));
        assert_eq!(end(409, "Exceeded MaxWaiting", "s"), Some(End::TooManyWait));
        assert_eq!(end(409, "Exceeded MaxAckPending", "s"), Some(End::Empty));
        let subject = "s".to_owned();
        let nobody = Some(End::Broken(EngineError::NoResponders { subject }));
        assert_eq!(end(409, "Consumer Deleted", "s"), nobody);
        assert_eq!(end(503, "", "s"), nobody);
        assert!(matches!(
            end(400, "Bad Request", "s"),
            Some(End::Broken(EngineError::Refused { .. }))
        ));
    }
}
