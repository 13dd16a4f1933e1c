//! Sending, and waiting for room.

use std::task::Poll;
use std::vec;

use bytes::Bytes;
use dpat_core::Wall;

use super::{Embedded, Line, State, Ticket, Waiting};
use crate::config::WhenFull;
use crate::error::SendError;
use crate::machine::{Plan, Record, Why};
use crate::message::{Message, MessageId, Sent};

impl Embedded {
    /// Takes the message and sends it, if it is in memory and does not have to wait for room.
    #[inline]
    pub(crate) fn send_at_once(
        &self,
        message: &mut Option<Message>,
    ) -> Poll<Result<Sent, SendError>> {
        if self.journal.is_some() {
            return Poll::Pending;
        }
        let Some(size) = self.plain_size(message.as_ref()) else {
            return self.send_any(message);
        };
        match self.leave(size, message) {
            Some(id) => Poll::Ready(Ok(taken_in(id))),
            None => self.send_any_soon(size, message),
        }
    }

    /// The size of a message, if it has nothing but a payload.
    #[inline]
    fn plain_size(&self, message: Option<&Message>) -> Option<u64> {
        message?.plain_size(self.config.message_bytes_max)
    }

    /// Leaves a message of this size that has nothing but a payload at the intake, and returns its id.
    #[inline]
    fn leave(&self, size: u64, message: &mut Option<Message>) -> Option<u64> {
        let now = self.now();
        let mut intake = self.intake.lock();
        let has_room = intake.has_room_for(size, &self.room);
        has_room.then(|| intake.leave(now, size, || taken(message)))
    }

    /// Sends what has nothing but a payload, if it does not have to wait for room for more than a moment.
    #[cold]
    fn send_any_soon(
        &self,
        size: u64,
        message: &mut Option<Message>,
    ) -> Poll<Result<Sent, SendError>> {
        if self.config.when_full == WhenFull::Wait
            && self.room_comes(size)
            && let Some(id) = self.leave(size, message)
        {
            return Poll::Ready(Ok(taken_in(id)));
        }
        self.send_any(message)
    }

    /// Sends, in memory, whatever it is, if it does not have to wait for room.
    #[cold]
    fn send_any(&self, message: &mut Option<Message>) -> Poll<Result<Sent, SendError>> {
        let bytes_max = self.config.message_bytes_max;
        let sent = match message.as_ref().map(|message| message.check(bytes_max)) {
            // It was polled after its end.
            None => return Poll::Pending,
            Some(Err(invalid)) => Err(invalid.into()),
            Some(Ok(())) => self.try_send(message).map(|(sent, _)| sent),
        };
        if matches!(sent, Err(SendError::Full { .. })) && self.config.when_full == WhenFull::Wait {
            return Poll::Pending;
        }
        Poll::Ready(sent)
    }

    pub(crate) async fn send(&self, message: Message) -> Result<Sent, SendError> {
        let (sent, ticket) = self.take_in(message).await?;
        self.answer(ticket).await?;
        Ok(sent)
    }

    pub(crate) async fn send_all(&self, batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        // All are taken in before the first is waited for: they share a sync.
        let mut sent = Vec::with_capacity(batch.len());
        if self.journal.is_none() {
            let mut batch = batch.into_iter();
            let waits = self.send_together(&mut batch, &mut sent);
            for message in waits.into_iter().chain(batch) {
                sent.push(self.take_in(message).await.map(|(sent, _)| sent));
            }
            return sent;
        }
        let mut taken = Vec::with_capacity(batch.len());
        for message in batch {
            taken.push(self.take_in(message).await);
        }
        for one in taken {
            sent.push(match one {
                Ok((one, ticket)) => match self.answer(ticket).await {
                    Ok(()) => Ok(one),
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error),
            });
        }
        sent
    }

    /// Takes in, in memory and at one time, as many as there is room for. Returns the first that has to wait.
    fn send_together(
        &self,
        batch: &mut vec::IntoIter<Message>,
        sent: &mut Vec<Result<Sent, SendError>>,
    ) -> Option<Message> {
        let bytes_max = self.config.message_bytes_max;
        let waits = self.config.when_full == WhenFull::Wait;
        let now = self.now();
        let ids = self.intake.with(|intake| {
            let first = intake.next_id();
            while let Some(size) = self.plain_size(batch.as_slice().first())
                && intake.has_room_for(size, &self.room)
            {
                let payload = || batch.next().map_or(Bytes::new(), payload);
                intake.leave(now, size, payload);
            }
            first..intake.next_id()
        });
        // In one go: each answer is made where it stays.
        sent.extend(ids.map(|id| Ok(taken_in(id))));
        if batch.as_slice().is_empty() {
            return None;
        }
        self.with(now, |state| {
            loop {
                let message = batch.next()?;
                let checked = message.check(bytes_max).map_err(SendError::from);
                let mut one = Some(message);
                match checked.and_then(|()| self.send_now(state, &mut one)) {
                    Err(SendError::Full { .. }) if waits => return one,
                    answer => sent.push(answer.map(|(sent, _)| sent)),
                }
            }
        })
    }

    async fn take_in(&self, message: Message) -> Result<(Sent, Option<Ticket>), SendError> {
        message.check(self.config.message_bytes_max)?;
        let mut message = Some(message);
        let refused = match self.try_send(&mut message) {
            Err(full @ SendError::Full { .. }) if self.config.when_full == WhenFull::Wait => full,
            other => return other,
        };
        self.wait_for_room(message, refused).await
    }

    async fn wait_for_room(
        &self,
        mut message: Option<Message>,
        mut refused: SendError,
    ) -> Result<(Sent, Option<Ticket>), SendError> {
        let mut waiting = Waiting::new(self, Line::Senders);
        loop {
            let SendError::Full { field, .. } = refused else {
                return Err(refused);
            };
            // What is larger than the queue never fits, and a deduplication key is no room.
            let size = message.as_ref().map_or(0, |message| message.parts.size());
            if size > self.config.bytes_max || field == "dedup_max" {
                return Err(refused);
            }
            let by_bytes = field == "bytes_max";
            let look_at = self.with(self.now(), |state| {
                state.senders_differ |= by_bytes;
                state.machine.next_expiry().unwrap_or(Wall::MAX)
            });
            let full = |state: &State| {
                !state.closed && state.failed.is_none() && !state.machine.has_room(size)
            };
            if waiting.until(look_at, full).await {
                let field = "waiters_max";
                let limit = self.config.waiters_max as u64;
                return Err(SendError::Full { field, limit });
            }
            match self.try_send(&mut message) {
                Err(full @ SendError::Full { .. }) => refused = full,
                Ok(sent) => {
                    // There may be room for more than one.
                    waiting.served = !self.with(self.now(), |state| state.machine.has_room(0));
                    return Ok(sent);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the message, if it can be sent now.
    fn try_send(&self, message: &mut Option<Message>) -> Result<(Sent, Option<Ticket>), SendError> {
        self.with(self.now(), |state| self.send_now(state, message))
    }

    /// Takes the message, if it can be sent now.
    fn send_now(
        &self,
        state: &mut State,
        message: &mut Option<Message>,
    ) -> Result<(Sent, Option<Ticket>), SendError> {
        open(state)?;
        if self.journal.is_none()
            && let Some(size) = self.plain_size(message.as_ref())
            && let Some(id) = state.machine.join_row(size, || taken(message))
        {
            return Ok((taken_in(id), None));
        }
        let Some(wanted) = &*message else {
            return Err(SendError::Closed);
        };
        let (id, victims) = match state.machine.send(wanted)? {
            Plan::Duplicate(id) => {
                // The first one may not be durable yet: the answer waits for it.
                let ticket = self.write(state, Record::Noted)?;
                state.machine.count_duplicate();
                return Ok((Sent::duplicate(MessageId::new(id.into())), ticket));
            }
            Plan::Take { victims, id } => (id, victims),
        };
        let sent = taken_in(id);
        if self.journal.is_none() && victims.is_empty() {
            if let Some(message) = message.take() {
                state.machine.take_in(id, message);
            }
            return Ok((sent, None));
        }
        // On a log that has no room just now, nothing is done and the message is kept.
        let record = match &self.journal {
            None => message
                .take()
                .map(|message| state.machine.sent(id, message)),
            Some(_) => Some(state.machine.sent(id, wanted.clone())),
        };
        let Some(record) = record else {
            return Err(SendError::Closed);
        };
        if victims.is_empty() {
            return Ok((sent, self.write(state, record)?));
        }
        let why = Why::Dropped;
        let victims = victims.into_iter().map(|id| Record::Removed { id, why });
        let records: Vec<Record> = victims.chain([record]).collect();
        let ticket = match &self.journal {
            None => None,
            Some(journal) => Some(journal.submit(&records)?),
        };
        records
            .into_iter()
            .for_each(|record| state.machine.apply(record));
        Ok((sent, ticket))
    }
}

/// What a send returns that took a message in.
#[inline]
fn taken_in(id: u64) -> Sent {
    Sent::new(MessageId::new(id.into()))
}

/// Takes the payload of what is there.
#[inline]
fn taken(message: &mut Option<Message>) -> Bytes {
    message.take().map_or(Bytes::new(), payload)
}

#[inline]
fn payload(message: Message) -> Bytes {
    message.parts.payload
}

#[inline]
fn open(state: &State) -> Result<(), SendError> {
    state.check()?;
    if state.closed {
        return Err(SendError::Closed);
    }
    Ok(())
}
