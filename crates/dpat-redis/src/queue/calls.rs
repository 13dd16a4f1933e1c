//! Each operation as a script, and what it returns.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Wall};
use dpat_queue::{
    DeadLetter, Delivery, ManageError, Message, MessageId, Outcome, Peeked, REASON_BYTES_MAX,
    Receipt, SendError, Sent, SettleError, Settlement, Stats,
};
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::body::{decode, encode, size};
use super::{QueueClock, QueueSettings, Shared};
use crate::config::Config;
use crate::error::{EngineError, OpenError};
use crate::open::{Part, opened};
use crate::reply::Reply;
use crate::script::Script;

/// How long a consumer that holds nothing is silent before it is forgotten.
const CONSUMER_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// The bytes of messages that one receive returns at most, beyond the first.
const RECEIVE_BYTES_MAX: usize = 16 << 20;

/// How many messages a purge looks at in one script.
const PURGE_STEP: usize = 1_000;

/// What a receive found.
pub(super) struct Received {
    pub(super) deliveries: Vec<Delivery>,
    /// Until something comes due.
    pub(super) next: Option<Duration>,
    /// Whether there was more than one script gives out.
    pub(super) more: bool,
}

impl Received {
    /// Gives to each who has asked as many as it wants, in order.
    pub(super) fn share(self, wanted: &[usize]) -> Vec<Self> {
        let Self {
            deliveries,
            next,
            more,
        } = self;
        let mut deliveries = deliveries.into_iter();
        let shares = wanted.iter().map(|&wanted| Self {
            deliveries: deliveries.by_ref().take(wanted).collect(),
            next,
            more,
        });
        shares.collect()
    }
}

/// Rounded up: nothing happens before its time.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX >> 12)
}

fn wall(micros: u64) -> Wall {
    Wall::from_nanos(micros.saturating_mul(1_000))
}

fn id(number: u64) -> MessageId {
    MessageId::new(number.into())
}

/// Cuts a reason to what is kept of it.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// Headers and payload, with what stands beside them.
fn message(id: u64, priority: u32, key: String, body: Vec<u8>) -> Result<Message, EngineError> {
    let corrupt = |error| EngineError::corrupt(format_args!("message {id}: {error}"));
    let message = decode(body).map_err(corrupt)?;
    let message = message.priority(u8::try_from(priority).unwrap_or(u8::MAX));
    Ok(match key.is_empty() {
        true => message,
        false => message.key(key),
    })
}

impl Shared {
    async fn script(
        &self,
        script: &Script,
        by: Instant,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, EngineError> {
        // Times are given as microseconds; none: the server's.
        let now = match self.settings.clock {
            QueueClock::Server => String::new(),
            QueueClock::Caller => (self.time.wall().as_nanos() / 1_000).to_string(),
        };
        let answer = script.run(&self.link, by, &self.keys, |command| {
            command.arg(&now).arg(&self.channel);
            arguments(command);
        });
        answer.await
    }

    async fn run(
        &self,
        script: &Script,
        by: Instant,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Reply, EngineError> {
        Reply::new(script.name, self.script(script, by, arguments).await?)
    }

    async fn manage(
        &self,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Reply, EngineError> {
        let by = self.link.deadline();
        self.run(&self.scripts.manage, by, arguments).await
    }

    pub(super) async fn open(&self, config: &Config) -> Result<(), OpenError> {
        let by = self.link.deadline();
        let arguments = |command: &mut Cmd| {
            command.arg(CONSUMER_IDLE.as_secs() * 1_000);
        };
        let answer = self.script(&self.scripts.open, by, arguments).await;
        opened(config, Part::Queue, answer)
    }

    fn add(&self, work: impl FnOnce(&mut Stats)) {
        self.stats.with(work);
    }

    pub(super) async fn send(
        &self,
        batch: &[Message],
        by: Instant,
    ) -> Result<Vec<Result<Sent, SendError>>, EngineError> {
        let QueueSettings {
            messages_max,
            bytes_max,
            dedup_max,
            dedup_window,
            ..
        } = self.settings;
        let now = self.time.wall();
        let bodies: Vec<Bytes> = batch.iter().map(encode).collect();
        let arguments = |command: &mut Cmd| {
            command.arg(messages_max).arg(bytes_max);
            command.arg(dedup_max).arg(micros(dedup_window));
            for (message, body) in batch.iter().zip(&bodies) {
                command.arg(message.get_priority()).arg(size(message));
                command.arg(micros(message.delay_from(now).unwrap_or_default()));
                command.arg(micros(message.get_ttl().unwrap_or_default()));
                command.arg(message.get_key().unwrap_or_default());
                command.arg(message.get_dedup().unwrap_or_default());
                command.arg(&body[..]);
            }
        };
        let mut reply = self.run(&self.scripts.send, by, arguments).await?;
        let full = |field, limit| Err(SendError::Full { field, limit });
        let mut sent = Vec::with_capacity(batch.len());
        for _ in batch {
            let (code, number) = (reply.int()?, reply.number()?);
            sent.push(match code {
                0 => Ok(Sent::new(id(number))),
                1 => Ok(Sent::duplicate(id(number))),
                2 => full("messages_max", messages_max),
                3 => full("bytes_max", bytes_max),
                4 => full("dedup_max", dedup_max),
                _ => return Err(EngineError::unreadable("send")),
            });
        }
        self.add(|stats| {
            for one in sent.iter().flatten() {
                match one.is_duplicate() {
                    true => stats.duplicates += 1,
                    false => stats.sent += 1,
                }
            }
        });
        Ok(sent)
    }

    pub(super) async fn receive(&self, max: usize, by: Instant) -> Result<Received, EngineError> {
        let visibility = self.settings.visibility;
        let arguments = |command: &mut Cmd| {
            command.arg(max).arg(micros(visibility));
            command.arg(self.consumer_name()).arg(RECEIVE_BYTES_MAX);
        };
        let mut reply = self.run(&self.scripts.receive, by, arguments).await?;
        let (lapsed, expired) = (reply.number()?, reply.number()?);
        let next = reply.optional()?.map(Duration::from_micros);
        let more = reply.int()? == 1;
        let mut deliveries = Vec::new();
        while !reply.is_empty() {
            let number = reply.number()?;
            let (count, attempt) = (reply.small()?, reply.small()?);
            let sent_at = wall(reply.number()?);
            let (priority, key) = (reply.small()?, reply.text()?);
            let message = message(number, priority, key, reply.bytes()?)?;
            let token = u128::from(self.consumer) << 64 | u128::from(count);
            let receipt = Receipt::new(id(number), token);
            let mut delivery = Delivery::new(message, receipt, count, sent_at, visibility);
            delivery.attempt = attempt;
            deliveries.push(delivery);
        }
        self.add(|stats| {
            stats.lapsed += lapsed;
            stats.expired += expired;
            stats.delivered += deliveries.len() as u64;
            let again = deliveries.iter().filter(|one| one.count > 1);
            stats.redelivered += again.count() as u64;
        });
        Ok(Received {
            deliveries,
            next,
            more,
        })
    }

    fn consumer_name(&self) -> String {
        consumer_name(self.consumer)
    }

    pub(super) async fn settle(
        &self,
        batch: &[Settlement],
        by: Instant,
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let QueueSettings {
            dead_max,
            dead_bytes_max,
            ..
        } = self.settings;
        let arguments = |command: &mut Cmd| {
            command.arg(dead_max).arg(dead_bytes_max);
            for one in batch {
                receipt(command, one.receipt);
                let (outcome, delay, reason) = match &one.outcome {
                    Outcome::Done => ("done", Duration::ZERO, ""),
                    Outcome::Retry { delay, reason } => ("retry", *delay, cut(reason)),
                    Outcome::Reject { reason } => ("reject", Duration::ZERO, cut(reason)),
                };
                command.arg(outcome).arg(micros(delay)).arg(reason);
            }
        };
        let mut reply = self.run(&self.scripts.settle, by, arguments).await?;
        self.ticked(&mut reply)?;
        let full = |field, limit| Err(SettleError::DeadLettersFull { field, limit });
        let mut settled = Vec::with_capacity(batch.len());
        for _ in batch {
            settled.push(match reply.int()? {
                0 => Ok(()),
                1 => Err(SettleError::Stale),
                2 => full("dead_max", dead_max),
                3 => full("dead_bytes_max", dead_bytes_max),
                _ => return Err(EngineError::unreadable("settle")),
            });
        }
        self.add(|stats| {
            let done = batch
                .iter()
                .zip(&settled)
                .filter(|(_, result)| result.is_ok());
            for (one, _) in done {
                match one.outcome {
                    Outcome::Done => stats.done += 1,
                    Outcome::Retry { .. } => stats.retried += 1,
                    Outcome::Reject { .. } => stats.rejected += 1,
                }
            }
        });
        Ok(settled)
    }

    /// Counts what came due.
    fn ticked(&self, reply: &mut Reply) -> Result<(), EngineError> {
        let (lapsed, expired) = (reply.number()?, reply.number()?);
        self.add(|stats| {
            stats.lapsed += lapsed;
            stats.expired += expired;
        });
        Ok(())
    }

    pub(super) async fn extend(
        &self,
        batch: &[Receipt],
        by_time: Duration,
        by: Instant,
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let arguments = |command: &mut Cmd| {
            command.arg(micros(by_time));
            for one in batch {
                receipt(command, *one);
            }
        };
        let mut reply = self.run(&self.scripts.extend, by, arguments).await?;
        self.ticked(&mut reply)?;
        let mut extended = Vec::with_capacity(batch.len());
        for _ in batch {
            extended.push(match reply.int()? {
                0 => Ok(()),
                _ => Err(SettleError::Stale),
            });
        }
        Ok(extended)
    }

    pub(super) async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, EngineError> {
        let after = after.map_or(0, number);
        let arguments = |command: &mut Cmd| {
            command.arg("letters").arg(after).arg(max);
        };
        let mut reply = self.manage(arguments).await?;
        let mut letters = Vec::new();
        while !reply.is_empty() {
            let (number, count) = (reply.number()?, reply.small()?);
            let (at, sent_at) = (wall(reply.number()?), wall(reply.number()?));
            let (priority, key) = (reply.small()?, reply.text()?);
            let reason = reply.text()?;
            letters.push(DeadLetter {
                id: id(number),
                message: message(number, priority, key, reply.bytes()?)?,
                reason: reason.into(),
                at,
                sent_at,
                count,
            });
        }
        Ok(letters)
    }

    pub(super) async fn replay(&self, letter: MessageId) -> Result<bool, ManageError> {
        let QueueSettings {
            messages_max,
            bytes_max,
            ..
        } = self.settings;
        let arguments = |command: &mut Cmd| {
            command.arg("replay").arg(number(letter));
            command.arg(messages_max).arg(bytes_max);
        };
        let full = |field, limit| Err(ManageError::Full { field, limit });
        match self.manage_code(arguments).await? {
            0 => Ok(true),
            1 => Ok(false),
            2 => full("messages_max", messages_max),
            _ => full("bytes_max", bytes_max),
        }
    }

    async fn manage_code(
        &self,
        arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<i64, dpat_queue::BackendError> {
        Ok(self.manage(arguments).await?.int()?)
    }

    pub(super) async fn discard(&self, letter: MessageId) -> Result<bool, EngineError> {
        let arguments = |command: &mut Cmd| {
            command.arg("discard").arg(number(letter));
        };
        Ok(self.manage(arguments).await?.int()? == 0)
    }

    pub(super) async fn peek(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<Peeked>, EngineError> {
        let after = after.map_or(0, number);
        let arguments = |command: &mut Cmd| {
            command.arg("peek").arg(after).arg(max);
        };
        let mut reply = self.manage(arguments).await?;
        let mut peeked = Vec::new();
        while !reply.is_empty() {
            let (number, count) = (reply.number()?, reply.small()?);
            let leased = reply.int()? == 1;
            let sent_at = wall(reply.number()?);
            let (priority, key) = (reply.small()?, reply.text()?);
            let reason = Some(reply.text()?).filter(|reason| !reason.is_empty());
            peeked.push(Peeked {
                id: id(number),
                message: message(number, priority, key, reply.bytes()?)?,
                sent_at,
                count,
                leased,
                reason: reason.map(Arc::from),
            });
        }
        Ok(peeked)
    }

    /// In steps, up to what was sent last when it began.
    pub(super) async fn purge(&self) -> Result<u64, EngineError> {
        let (mut purged, mut reached, mut last) = (0, 0, None);
        loop {
            let upto = last.map_or_else(String::new, |last: u64| last.to_string());
            let arguments = |command: &mut Cmd| {
                command.arg("purge").arg(reached).arg(&upto).arg(PURGE_STEP);
            };
            let mut reply = self.manage(arguments).await?;
            let step = reply.number()?;
            purged += step;
            self.add(|stats| stats.purged += step);
            let next = reply.optional()?;
            last = Some(reply.number()?);
            match next {
                Some(place) => reached = place,
                None => return Ok(purged),
            }
        }
    }

    pub(super) async fn stats(&self) -> Result<Stats, EngineError> {
        loop {
            let arguments = |command: &mut Cmd| {
                command.arg("stats");
            };
            let mut reply = self.manage(arguments).await?;
            self.ticked(&mut reply)?;
            if reply.int()? == 1 {
                // More has come due than one script moves.
                continue;
            }
            let mut stats = self.stats.with(|stats| *stats);
            stats.ready = reply.number()?;
            stats.leased = reply.number()?;
            let all = reply.number()?;
            stats.waiting = all.saturating_sub(stats.ready).saturating_sub(stats.leased);
            stats.dead = reply.number()?;
            stats.bytes = reply.number()?;
            stats.paused = reply.int()? == 1;
            stats.oldest_ns = reply.optional()?.map(|age| age.saturating_mul(1_000));
            return Ok(stats);
        }
    }

    pub(super) async fn set_paused(&self, paused: bool) -> Result<(), EngineError> {
        let arguments = |command: &mut Cmd| {
            command.arg("pause").arg(u8::from(paused));
        };
        self.manage(arguments).await.map(drop)
    }

    /// Until a lease of this handle ends; none: it has none.
    pub(super) async fn leased(&self) -> Result<Option<Duration>, EngineError> {
        let mut reached = 0;
        loop {
            let arguments = |command: &mut Cmd| {
                command.arg("leased").arg(self.consumer_name()).arg(reached);
            };
            let mut reply = self.manage(arguments).await?;
            let left = reply.optional()?;
            match (left, reply.optional()?) {
                (None, Some(place)) => reached = place,
                (left, _) => return Ok(left.map(Duration::from_micros)),
            }
        }
    }

    /// How many leases were ended, and whether there are more.
    pub(super) async fn release(&self) -> Result<(u64, bool), EngineError> {
        let arguments = |command: &mut Cmd| {
            command.arg("release");
        };
        let mut reply = self.manage(arguments).await?;
        Ok((reply.number()?, reply.int()? == 1))
    }
}

fn consumer_name(consumer: u64) -> String {
    format!("{consumer:016x}")
}

/// No message has an id beyond 64 bits.
fn number(id: MessageId) -> u64 {
    u64::try_from(id.get()).unwrap_or(u64::MAX)
}

/// Message, consumer and count, as the scripts take them.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the halves of a token are two numbers"
)]
fn receipt(command: &mut Cmd, receipt: Receipt) {
    let token = receipt.token();
    command.arg(number(receipt.id()));
    command.arg(consumer_name((token >> 64) as u64));
    command.arg(token as u64);
}
