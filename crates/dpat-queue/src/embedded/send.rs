//! Sending, and waiting for room.

use std::mem;

use dpat_core::Wall;

use super::{Embedded, Line, State, Ticket, Waiting};
use crate::config::WhenFull;
use crate::error::SendError;
use crate::machine::{Plan, Record, Why};
use crate::message::{Message, Sent};

impl Embedded {
    #[inline]
    pub(crate) async fn send(&self, mut message: Message) -> Result<Sent, SendError> {
        message.check(self.config.message_bytes_max)?;
        if self.journal.is_none() {
            if let Some(sent) = self.send_plain(&mut message)? {
                return Ok(sent);
            }
        }
        let (sent, ticket) = self.take_in(message).await?;
        self.answer(ticket).await?;
        Ok(sent)
    }

    pub(crate) async fn send_all(&self, mut batch: Vec<Message>) -> Vec<Result<Sent, SendError>> {
        // All are taken in before the first is waited for: they share a sync.
        let mut sent = Vec::with_capacity(batch.len());
        if self.journal.is_none() {
            self.send_together(&mut batch, &mut sent);
            for message in batch.drain(sent.len()..) {
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

    /// Sends, in memory, what needs no more than room.
    #[inline]
    fn send_plain(&self, message: &mut Message) -> Result<Option<Sent>, SendError> {
        self.with(self.now(), |state| {
            open(state)?;
            Ok(state.machine.take_in_turn(message).map(Sent::new))
        })
    }

    /// Takes in, in memory, at one time and behind one lock, as many as there is room for. The first that has no answer has to
    /// wait.
    fn send_together(&self, batch: &mut [Message], sent: &mut Vec<Result<Sent, SendError>>) {
        let bytes_max = self.config.message_bytes_max;
        let waits = self.config.when_full == WhenFull::Wait;
        self.with(self.now(), |state| {
            let is_open = open(state).is_ok();
            loop {
                // Their ids are in a row.
                let rest = batch.iter_mut().skip(sent.len());
                let mut ids = rest.map_while(|message| {
                    let valid = is_open && message.check(bytes_max).is_ok();
                    valid.then(|| state.machine.take_in_turn(message))?
                });
                if let Some(first) = ids.next() {
                    let run = first..first + 1 + ids.count() as u64;
                    sent.extend(run.map(|id| Ok(Sent::new(id))));
                }
                let Some(message) = batch.get_mut(sent.len()) else {
                    return;
                };
                let checked = message.check(bytes_max).map_err(SendError::from);
                let mut one = Some(mem::replace(message, Message::EMPTY));
                match checked.and_then(|()| self.send_now(state, &mut one)) {
                    Err(SendError::Full { .. }) if waits => {
                        *message = one.unwrap_or(Message::EMPTY);
                        return;
                    }
                    answer => sent.push(answer.map(|(sent, _)| sent)),
                }
            }
        });
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
        let Some(wanted) = &*message else {
            return Err(SendError::Closed);
        };
        let plan = state.machine.send(wanted)?;
        let (id, duplicate) = match &plan {
            Plan::Duplicate(id) => (*id, true),
            Plan::Take { id, .. } => (*id, false),
        };
        let sent = Sent {
            duplicate,
            ..Sent::new(id)
        };
        let victims = match plan {
            Plan::Duplicate(_) => {
                // The first one may not be durable yet: the answer waits for it.
                let ticket = self.write(state, Record::Noted)?;
                state.machine.count_duplicate();
                return Ok((sent, ticket));
            }
            Plan::Take { victims, .. } => victims,
        };
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

#[inline]
fn open(state: &State) -> Result<(), SendError> {
    state.check()?;
    if state.closed {
        return Err(SendError::Closed);
    }
    Ok(())
}
