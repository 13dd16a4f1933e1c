//! Send, receive, settle.

use std::time::Duration;

use async_nats::{HeaderMap, Message as Raw};
use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::{Classify as _, Clock as _, Effect, SystemClock};
use dpat_queue::{
    Backend, BackendError, Capabilities, DeadLetter, Delivery, ManageError, Message, MessageId,
    Outcome, Receipt, ReceiveError, SendError, Sent, SettleError, Settlement,
};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::time::Instant;

use crate::answers::Place;
use crate::error::EngineError;
use crate::jetstream::{STORE_FAILED, Success, nanos, published};
use crate::pull::{self, End};
use crate::queue::streams::{CONSUMER, sweep_settled};
use crate::queue::wire::{self, AckForm, Token};
use crate::queue::{Inner, StreamQueue};
use crate::room::{self, UnderWay};

/// The most messages of one receive, and of one group of a larger send.
const BATCH_MAX: usize = 1_000;

/// How many settlements of a batch are under way at once.
const AT_ONCE: usize = 64;

pub(crate) fn failed(error: EngineError) -> BackendError {
    BackendError::new(error.class(), error.effect(), error)
}

/// Whether a refusal is that there is no room, and of which.
pub(crate) fn is_full(error: &EngineError) -> Option<&'static str> {
    match error {
        EngineError::Refused {
            code: STORE_FAILED,
            description,
        } => Some(if description.contains("bytes") {
            "bytes"
        } else {
            "messages"
        }),
        _ => None,
    }
}

impl Inner {
    pub(crate) fn not_sent(&self, error: EngineError) -> SendError {
        match is_full(&error) {
            Some("bytes") => SendError::Full {
                field: "bytes_max",
                limit: self.settings.bytes_max,
            },
            Some(_) => SendError::Full {
                field: "messages_max",
                limit: self.settings.messages_max,
            },
            None => SendError::Backend(failed(error)),
        }
    }

    fn is_drained(&self) -> bool {
        *self.drained.borrow()
    }

    /// Publishes all, in their order, then waits for the answers.
    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        let deadline = self.js.connection().deadline();
        let number = match self.js.connection().ready(deadline).await {
            Ok(number) => number,
            Err(error) => {
                let refused = || Err(SendError::Backend(failed(error.clone())));
                return batch.iter().map(|_| refused()).collect();
            }
        };
        let now = SystemClock.wall();
        let batch: Vec<_> = batch
            .into_iter()
            .map(|message| (wire::sent(&message, now), message.payload().clone()))
            .collect();
        let sizes: Vec<u64> = batch
            .iter()
            .map(|(headers, payload)| room::stored(&self.ready, headers, payload.len()))
            .collect();
        let (admitted, mut under_way) = match self.admit(&sizes).await {
            Ok(admitted) => admitted,
            // Whatever became of the look: nothing was sent.
            Err(error) => {
                let failed = || BackendError::new(error.class(), Effect::NotDone, error.clone());
                let refused = || Err(SendError::Backend(failed()));
                return batch.iter().map(|_| refused()).collect();
            }
        };
        let mut places = Vec::with_capacity(batch.len());
        for (at, (headers, payload)) in batch.into_iter().enumerate() {
            places.push(match at < admitted {
                true => self.publish(headers, payload, number, deadline).await,
                false => Err(room::full()),
            });
        }
        let mut answers = Vec::with_capacity(places.len());
        for place in places {
            let place = match place {
                Ok(place) => place,
                Err(error) => {
                    answers.push(Err(self.not_sent(error)));
                    continue;
                }
            };
            // Trouble of the connection is that of all that wait; what has come is taken all the same.
            let answer = self.js.connection().answer(place, &self.ready, deadline);
            let sent = answer
                .await
                .and_then(|raw| published(&raw, &self.settings.name))
                .inspect(|sent| self.fresh.stored(sent.seq));
            answers.push(
                sent.map(|sent| {
                    let id = MessageId::new(sent.seq.into());
                    match sent.duplicate {
                        true => Sent::duplicate(id),
                        false => Sent::new(id),
                    }
                })
                .map_err(|error| self.not_sent(error)),
            );
        }
        for (sent, size) in answers.iter().zip(&sizes[..admitted]) {
            if !matches!(sent, Err(error) if error.effect() == Effect::Unknown) {
                under_way.answered(*size);
            }
        }
        answers
    }

    /// Lets in what there is room for. Where there is none, first goes what a killed server has forgotten to remove.
    async fn admit(&self, sizes: &[u64]) -> Result<(usize, UnderWay<'_>), EngineError> {
        let room = &self.rooms.ready;
        let admitted = room.admit(&self.js, sizes).await?;
        if admitted.0 == sizes.len() || !self.sweep().await? {
            return Ok(admitted);
        }
        // Nothing of it was sent.
        admitted.1.ended(&Ok(()));
        room.admit(&self.js, sizes).await
    }

    /// Apart, so that calls are small for which there is room.
    fn sweep(&self) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(sweep_settled(&self.js, &self.settings))
    }

    async fn publish(
        &self,
        headers: HeaderMap,
        payload: Bytes,
        number: u64,
        deadline: Instant,
    ) -> Result<Place, EngineError> {
        let connection = self.js.connection();
        let place = connection.place(self.ready.clone(), number);
        connection
            .publish(self.ready.clone(), Some(&place), headers, payload, deadline)
            .await?;
        Ok(place)
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, EngineError> {
        let connection = self.js.connection();
        let now = Instant::now();
        let until = now.checked_add(wait).unwrap_or(now);
        let deadline = until + connection.request_timeout();
        loop {
            let (raw, end) = pull::now(connection, &self.next, max, deadline).await?;
            let mut received = self.deliveries(raw).await;
            let left = until.saturating_duration_since(Instant::now());
            match end {
                _ if !received.is_empty() => return Ok(received),
                End::Empty if left.is_zero() => {
                    if Instant::now() < deadline && self.is_held_back().await {
                        continue;
                    }
                    return Ok(received);
                }
                End::Empty => {}
                // It connects again by itself.
                End::Broken(EngineError::Lost) if !left.is_zero() => continue,
                End::Broken(error) => return Err(error),
                End::TooManyWait => return Err(self.too_many()),
            }
            let (raw, end) = pull::one(connection, &self.next, left, deadline).await?;
            received = self.deliveries(raw).await;
            match end {
                _ if !received.is_empty() => {
                    if max > 1 {
                        // What came with it; whatever goes wrong, this one is here.
                        if let Ok((raw, _)) =
                            pull::now(connection, &self.next, max - 1, deadline).await
                        {
                            received.extend(self.deliveries(raw).await);
                        }
                    }
                    return Ok(received);
                }
                End::Empty if Instant::now() >= until => return Ok(received),
                End::Empty | End::Broken(EngineError::Lost) => {}
                End::Broken(error) => return Err(error),
                End::TooManyWait => return Err(self.too_many()),
            }
        }
    }

    fn too_many(&self) -> EngineError {
        EngineError::Refused {
            code: TOO_MANY_WAIT,
            description: format!("waiters_max: {} wait", self.settings.waiters_max),
        }
    }

    /// Reads what came; what was handed out too often becomes a dead letter instead.
    async fn deliveries(&self, raw: Vec<Raw>) -> Vec<Delivery> {
        let lease = self.settings.visibility;
        let mut all = Vec::with_capacity(raw.len());
        for (form, delivery) in raw.into_iter().filter_map(|raw| wire::delivery(raw, lease)) {
            self.ack_form.with(|last| {
                if *last != form {
                    *last = form;
                }
            });
            self.out.lease(delivery.receipt, lease);
            self.fresh.handed(Token::of(delivery.receipt).stream_seq);
            match self.settings.deliveries_max {
                Some(max) if delivery.attempt > max => {
                    let reason = format!("handed out {max} times");
                    // If that fails it is out, and comes again when its lease ends.
                    drop(self.reject(delivery.receipt, &reason).await);
                }
                _ => all.push(delivery),
            }
        }
        all
    }

    pub(crate) async fn acknowledge(
        &self,
        receipt: Receipt,
        how: Bytes,
    ) -> Result<(), EngineError> {
        let subject = self
            .ack_form
            .with(|form: &mut AckForm| form.subject(receipt));
        let deadline = self.js.connection().deadline();
        self.js.acknowledge(&subject, how, deadline).await
    }

    async fn settle(&self, settlement: Settlement) -> Result<(), SettleError> {
        let Settlement { receipt, outcome } = settlement;
        match outcome {
            Outcome::Done => self.answer(receipt, Bytes::from_static(b"+ACK")).await,
            Outcome::Retry { delay, .. } => self.answer(receipt, again(delay)).await,
            Outcome::Reject { reason } => self.reject(receipt, &reason).await,
        }
    }

    async fn answer(&self, receipt: Receipt, how: Bytes) -> Result<(), SettleError> {
        let answered = self.acknowledge(receipt, how).await;
        answered.map_err(|error| SettleError::Backend(failed(error)))?;
        self.out.settled(receipt);
        Ok(())
    }

    /// A delivery that is to come after a delay is out for so long: that is a lease of another length.
    async fn extend(&self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        let extended = self.acknowledge(receipt, again(by)).await;
        extended.map_err(|error| SettleError::Backend(failed(error)))?;
        self.out.lease(receipt, by);
        Ok(())
    }

    async fn set_paused(&self, paused: bool) -> Result<(), EngineError> {
        let name = &self.settings.name;
        let op = format!("CONSUMER.PAUSE.{name}.{CONSUMER}");
        let body = match paused {
            true => json!({"pause_until": "2200-01-01T00:00:00Z"}),
            false => json!({}),
        };
        self.js
            .ask(&op, &body, (name, CONSUMER))
            .await
            .map(|Success {}| ())
    }
}

/// Our own number of the refusal of one receiver too many.
const TOO_MANY_WAIT: u64 = 409;

fn again(delay: Duration) -> Bytes {
    match nanos(delay) {
        0 => Bytes::from_static(b"-NAK"),
        delay => format!("-NAK {{\"delay\": {delay}}}").into(),
    }
}

#[async_trait]
impl Backend for StreamQueue {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        if self.inner.is_drained() {
            return batch.iter().map(|_| Err(SendError::Closed)).collect();
        }
        let mut answers = Vec::with_capacity(batch.len());
        let mut rest = batch.into_iter();
        loop {
            let group: Vec<Message> = rest.by_ref().take(BATCH_MAX).collect();
            if group.is_empty() {
                return answers;
            }
            answers.extend(self.inner.send(group).await);
        }
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, ReceiveError> {
        let mut drained = self.inner.drained.subscribe();
        if *drained.borrow() {
            return Err(ReceiveError::Closed);
        }
        if max == 0 {
            return Ok(Vec::new());
        }
        let received = tokio::select! {
            biased;
            received = self.inner.receive(max.min(BATCH_MAX), wait) => received,
            _ = drained.wait_for(|drained| *drained) => return Err(ReceiveError::Closed),
        };
        received.map_err(|error| match error {
            EngineError::Refused {
                code: TOO_MANY_WAIT,
                ..
            } => ReceiveError::TooManyWaiters {
                limit: self.inner.settings.waiters_max,
            },
            error => ReceiveError::Backend(failed(error)),
        })
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<(), SettleError>> {
        let settled = batch.into_iter().map(|one| self.inner.settle(one));
        futures_util::stream::iter(settled)
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn drain(&self) {
        self.inner.drained.send_replace(true);
        self.inner.out.empty().await;
    }

    async fn extend(&self, batch: Vec<Receipt>, by: Duration) -> Vec<Result<(), SettleError>> {
        let extended = batch.into_iter().map(|one| self.inner.extend(one, by));
        futures_util::stream::iter(extended)
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        self.inner.dead_letters(after, max).await
    }

    async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        self.inner.replay(id).await
    }

    async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        self.inner.discard(id).await
    }

    async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        let set = self.inner.set_paused(paused).await;
        set.map_err(|error| ManageError::Backend(failed(error)))
    }
}
