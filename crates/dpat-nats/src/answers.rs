//! Answers to requests: one subscription for all of them, and a bounded place for each.
//!
//! The client has the same, and keeps the place of a request that was given up for good.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::sync::Mutex;

type Waiting = Arc<Mutex<HashMap<u64, mpsc::Sender<Message>>>>;

/// Where answers come in, and who waits for them.
pub(crate) struct Answers {
    /// What the subject of every answer begins with.
    prefix: String,
    next: AtomicU64,
    waiting: Waiting,
    task: AbortHandle,
}

impl Answers {
    /// Subscribes.
    pub(crate) async fn open(client: &Client) -> Result<Self, async_nats::SubscribeError> {
        let prefix = format!("{}.", client.new_inbox());
        let subscriber = client.subscribe(format!("{prefix}*")).await?;
        let waiting = Waiting::default();
        let task = tokio::spawn(hand_out(subscriber, prefix.len(), Arc::clone(&waiting)));
        Ok(Self {
            prefix,
            next: AtomicU64::new(0),
            waiting,
            task: task.abort_handle(),
        })
    }

    /// Returns what is subscribed to.
    pub(crate) fn filter(&self) -> String {
        format!("{}*", self.prefix)
    }

    /// Makes a place for so many answers; more are dropped.
    pub(crate) fn place(&self, answers: usize) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(answers.max(1));
        self.waiting.with(|waiting| waiting.insert(number, sender));
        Place {
            subject: format!("{}{number}", self.prefix),
            number,
            receiver,
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hand_out(mut subscriber: Subscriber, prefix: usize, waiting: Waiting) {
    while let Some(message) = subscriber.next().await {
        let number = message.subject.get(prefix..).and_then(|it| it.parse().ok());
        let sender =
            number.and_then(|number: u64| waiting.with(|waiting| waiting.get(&number).cloned()));
        if let Some(sender) = sender {
            // Nobody waits any more, or it has as many as it asked for.
            drop(sender.try_send(message));
        }
    }
    // The connection is closed: nothing more will come.
    waiting.with(HashMap::clear);
}

/// The place of one request. Dropping it gives it up.
pub(crate) struct Place {
    pub(crate) subject: String,
    number: u64,
    receiver: mpsc::Receiver<Message>,
    waiting: Waiting,
}

impl Place {
    /// Waits for the next answer; none once the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.receiver.recv().await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.with(|waiting| waiting.remove(&self.number));
    }
}
