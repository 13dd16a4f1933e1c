//! Answers to requests: one subscription for all of them, and a place for each.
//!
//! The client has the same, and keeps the place of a request that was given up for good.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::connection::State;
use async_nats::{Client, Message, Subject, Subscriber, ToSubject};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{broadcast, oneshot};
use tokio::task::AbortHandle;

use crate::error::Access;
use crate::signals::{Refusal, Signals, refused};
use crate::sync::Mutex;

/// How many answers are handed out before anything else is looked at.
const AT_ONCE: usize = 64;

/// Where answers come in, and who waits for them.
pub(crate) struct Answers {
    next: AtomicU64,
    waiting: Arc<Waiting>,
    task: AbortHandle,
}

/// Requests that wait, by their numbers.
struct Waiting {
    /// What the subject of every answer begins with.
    prefix: String,
    requests: Mutex<HashMap<u64, Request>>,
}

struct Request {
    subject: Subject,
    /// The number of the connection that it was made on.
    connection: u64,
    answer: oneshot::Sender<Answer>,
}

/// What came of a request.
pub(crate) enum Answer {
    Message(Message),
    /// The account may not publish to its subject.
    Refused,
    /// The connection was lost, or is closed.
    Lost,
}

impl Answers {
    /// Subscribes.
    pub(crate) async fn open(
        client: &Client,
        signals: &Arc<Signals>,
    ) -> Result<Self, async_nats::SubscribeError> {
        let prefix = format!("{}.", client.new_inbox());
        let subscriber = client.subscribe(format!("{prefix}*")).await?;
        let waiting = Arc::new(Waiting {
            prefix,
            requests: Mutex::default(),
        });
        let desk = Desk {
            client: client.clone(),
            refusals: signals.refusals(),
            signals: Arc::clone(signals),
            subscriber,
            waiting: Arc::clone(&waiting),
        };
        Ok(Self {
            next: AtomicU64::new(0),
            waiting,
            task: tokio::spawn(desk.hand_out()).abort_handle(),
        })
    }

    /// Returns what is subscribed to.
    pub(crate) fn filter(&self) -> String {
        format!("{}*", self.waiting.prefix)
    }

    /// Makes a place for the answer to one request, on the connection of this number; to its own subject if to none.
    pub(crate) fn place(&self, to: Option<Subject>, connection: u64) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let request = Request {
            subject: to.unwrap_or_else(|| self.waiting.subject(number)),
            connection,
            answer: sender,
        };
        self.waiting
            .requests
            .with(|all| all.insert(number, request));
        Place {
            connection,
            number,
            is_answered: false,
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

impl Waiting {
    /// Where the answer to the request of a number comes.
    fn subject(&self, number: u64) -> Subject {
        const DIGITS: usize = 20;
        let mut digits = [0; DIGITS];
        let mut at = DIGITS;
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let mut text = String::with_capacity(self.prefix.len() + DIGITS);
        text.push_str(&self.prefix);
        text.extend(digits[at..].iter().copied().map(char::from));
        Subject::from(text)
    }

    fn answer(&self, number: u64, answer: Answer) {
        if let Some(request) = self.requests.with(|all| all.remove(&number)) {
            // Nobody may wait any more.
            drop(request.answer.send(answer));
        }
    }

    /// Answers all that it is said of.
    fn answer_each(&self, answer: fn() -> Answer, is_meant: impl Fn(&Request) -> bool) {
        let meant: Vec<_> = self.requests.with(|all| {
            let meant = all.extract_if(|_, request| is_meant(request));
            meant.collect()
        });
        for (_, request) in meant {
            drop(request.answer.send(answer()));
        }
    }
}

/// The task that hands out.
struct Desk {
    client: Client,
    signals: Arc<Signals>,
    refusals: broadcast::Receiver<Refusal>,
    subscriber: Subscriber,
    waiting: Arc<Waiting>,
}

impl Desk {
    async fn hand_out(mut self) {
        let mut changes = self.signals.changes();
        loop {
            tokio::select! {
                biased;
                message = self.subscriber.next() => match message {
                    Some(message) => self.give(message),
                    // The connection is closed: nothing more will come.
                    None => break,
                },
                refusal = refused(&mut self.refusals, |one| one.access == Access::Publish) => {
                    let is_meant = |request: &Request| *request.subject == *refusal.subject;
                    self.waiting.answer_each(|| Answer::Refused, is_meant);
                }
                _ = changes.changed() => {
                    let is_connected = self.client.connection_state() == State::Connected;
                    let now = self.client.statistics().connects.load(Ordering::Relaxed);
                    let is_meant = |one: &Request| !is_connected || one.connection != now;
                    self.waiting.answer_each(|| Answer::Lost, is_meant);
                }
            }
        }
        self.waiting.answer_each(|| Answer::Lost, |_| true);
    }

    /// Hands out one answer, and what else has come already.
    fn give(&mut self, first: Message) {
        self.give_one(first);
        for _ in 0..AT_ONCE {
            match self.subscriber.next().now_or_never() {
                Some(Some(message)) => self.give_one(message),
                // The end is seen by whoever asks next.
                Some(None) | None => return,
            }
        }
    }

    fn give_one(&self, message: Message) {
        let number = message.subject.get(self.waiting.prefix.len()..);
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            self.waiting.answer(number, Answer::Message(message));
        }
    }
}

/// The place of one request. Dropping it gives it up.
pub(crate) struct Place {
    pub(crate) connection: u64,
    number: u64,
    is_answered: bool,
    receiver: oneshot::Receiver<Answer>,
    waiting: Arc<Waiting>,
}

/// Where the answer comes.
impl ToSubject for &Place {
    fn to_subject(&self) -> Subject {
        self.waiting.subject(self.number)
    }
}

impl Place {
    /// Waits for the answer.
    pub(crate) async fn answer(mut self) -> Answer {
        let answer = (&mut self.receiver).await;
        self.is_answered = true;
        answer.unwrap_or(Answer::Lost)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_answered {
            self.waiting.requests.with(|all| all.remove(&self.number));
        }
    }
}
