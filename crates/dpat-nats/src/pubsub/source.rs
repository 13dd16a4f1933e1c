//! The task that reads for one subscriber.

use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::{StatusCode, Subscriber};
use dpat_pubsub::{Closed, Delivery, Draft, Message, Source, SourceBuffer, Stats, Subject};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use crate::error::{Access, EngineError};
use crate::headers;
use crate::pubsub::failed;
use crate::signals::{Refusal, refused};

/// Takes messages from the client as soon as they are there, so that what is lost is lost in a buffer that counts.
pub(crate) struct Reader {
    pub(crate) buffer: Arc<SourceBuffer>,
    pub(crate) filter: String,
    /// It is where the answer to one request comes.
    pub(crate) is_inbox: bool,
    pub(crate) subscriber: Subscriber,
    pub(crate) refusals: broadcast::Receiver<Refusal>,
    pub(crate) slow: broadcast::Receiver<u64>,
    pub(crate) closed: watch::Receiver<bool>,
    /// The subject of the last message, which is that of the next one more often than not.
    pub(crate) last: Option<Subject>,
}

/// A subscription. Dropping it ends the task, and with it the subscription at the server.
pub(crate) struct Subscribed {
    buffer: Arc<SourceBuffer>,
    task: AbortHandle,
}

impl Subscribed {
    pub(crate) fn reading(reader: Reader) -> Self {
        Self {
            buffer: Arc::clone(&reader.buffer),
            task: tokio::spawn(reader.read()).abort_handle(),
        }
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source for Subscribed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Closed>> {
        self.buffer.poll_next(cx)
    }

    fn try_next(&mut self) -> Result<Option<Delivery>, Closed> {
        self.buffer.try_next()
    }

    fn stats(&self) -> Stats {
        self.buffer.stats()
    }
}

/// How many messages are taken before anything else is looked at.
const AT_ONCE: usize = 64;

/// What comes to a reader.
enum Next {
    /// A message was lost on the way.
    Lost,
    Message(Option<async_nats::Message>),
    /// The account may not subscribe to this.
    Refused,
    /// The hub is closed.
    Closed,
}

impl Reader {
    async fn read(mut self) {
        let number = number(&self.subscriber);
        loop {
            match self.next(number).await {
                Next::Lost => self.buffer.gap(1),
                Next::Message(message) => {
                    if !self.take(message) || !self.take_ready() {
                        return;
                    }
                }
                Next::Refused => {
                    let (access, subject) = (Access::Subscribe, self.filter);
                    let denied = EngineError::Denied { access, subject };
                    return self.buffer.end(Closed::Backend(failed(denied)));
                }
                Next::Closed => return self.rest(),
            }
        }
    }

    async fn next(&mut self, number: Option<u64>) -> Next {
        let filter = &self.filter;
        let mine = |one: &Refusal| one.access == Access::Subscribe && one.subject == *filter;
        tokio::select! {
            biased;
            () = lost(&mut self.slow, number) => Next::Lost,
            message = self.subscriber.next() => Next::Message(message),
            _ = refused(&mut self.refusals, mine) => Next::Refused,
            _ = self.closed.wait_for(|closed| *closed) => Next::Closed,
        }
    }

    /// Takes what has come already, so that a burst costs one look at everything else. Returns whether there may be more.
    fn take_ready(&mut self) -> bool {
        for _ in 0..AT_ONCE {
            let Some(message) = self.subscriber.next().now_or_never() else {
                return true;
            };
            if !self.take(message) {
                return false;
            }
        }
        true
    }

    /// Takes what has come already, and ends.
    fn rest(mut self) {
        while let Some(Some(message)) = self.subscriber.next().now_or_never() {
            if !self.take(Some(message)) {
                return;
            }
        }
        self.buffer.end(Closed::Hub);
    }

    /// Returns whether there may be more.
    fn take(&mut self, message: Option<async_nats::Message>) -> bool {
        let Some(message) = message else {
            self.buffer
                .end(Closed::Backend(failed(EngineError::Closed)));
            return false;
        };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            if self.is_inbox {
                self.buffer.end(Closed::NoResponders);
            }
            // Elsewhere nobody has asked in a way that could be answered.
            return !self.is_inbox;
        }
        match self.delivered(message) {
            Some(message) => self.buffer.push(message),
            None => {
                self.buffer.gap(1);
                true
            }
        }
    }

    /// None: its subjects are none that this family has. Another program has sent it.
    fn delivered(&mut self, message: async_nats::Message) -> Option<Message> {
        let text = message.subject.as_str();
        let subject = match self.last.take().filter(|last| last.as_str() == text) {
            Some(last) => last,
            None => text.parse().ok()?,
        };
        self.last = Some(subject.clone());
        let mut draft = Draft::new(message.payload);
        if let Some(map) = &message.headers {
            for (name, value) in headers::read(map) {
                draft = draft.header(name, String::from_utf8(value).ok()?);
            }
        }
        if let Some(reply) = &message.reply {
            draft = draft.reply_to(reply.as_str().parse().ok()?);
        }
        Some(Message::new(subject, draft))
    }
}

/// Waits for a message that the client had no room for. It tells of some of them only.
async fn lost(slow: &mut broadcast::Receiver<u64>, number: Option<u64>) {
    loop {
        match slow.recv().await {
            Ok(one) if Some(one) == number => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The number by which the client tells of a subscription. It shows it nowhere else.
fn number(subscriber: &Subscriber) -> Option<u64> {
    let text = format!("{subscriber:?}");
    let digits = text.split_once("sid: ")?.1;
    let end = digits.find(|letter: char| !letter.is_ascii_digit())?;
    digits[..end].parse().ok()
}
