//! Receiving, and waiting for messages.

use std::task::Poll;
use std::time::Duration;

use dpat_core::Wall;

use super::{Embedded, Line, State, Ticket, Waiting};
use crate::error::ReceiveError;
use crate::machine::Record;
use crate::message::Delivery;

impl Embedded {
    /// Hands out a message, if it is in memory and there is one.
    #[inline]
    pub(crate) fn receive_at_once(&self) -> Poll<Result<Delivery, ReceiveError>> {
        if self.journal.is_some() {
            return Poll::Pending;
        }
        let now = self.now();
        let mut state = self.state.lock();
        if state.calm && state.machine.passes(now) {
            if state.intake_open && state.machine.ready_in_row() == 0 {
                self.intake
                    .with(|intake| intake.empty_into(&mut state.machine));
            }
            if let Some(next) = state.machine.next_of_row() {
                return Poll::Ready(Ok(next.delivery()));
            }
        }
        drop(state);
        self.receive_with_care(now)
    }

    #[cold]
    fn receive_with_care(&self, now: Wall) -> Poll<Result<Delivery, ReceiveError>> {
        let delivery = self.state.with(|state| {
            let calm = state.calm && !state.intake_open && state.machine.passes(now);
            calm.then(|| state.machine.hand_out()).flatten()
        });
        let delivery = delivery.or_else(|| {
            self.with(now, |state| {
                let open = state.is_open();
                open.then(|| state.machine.hand_out()).flatten()
            })
        });
        delivery.map_or(Poll::Pending, |delivery| Poll::Ready(Ok(delivery)))
    }

    /// Waits for a message.
    pub(crate) async fn receive_one(&self) -> Result<Delivery, ReceiveError> {
        loop {
            // A wait of this length ends by itself and begins anew.
            let mut received = self.receive(1, Duration::MAX).await?;
            if let Some(delivery) = received.pop() {
                return Ok(delivery);
            }
        }
    }

    pub(crate) async fn receive(
        &self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, ReceiveError> {
        let max = max.min(self.config.batch_max);
        let deadline = self.now() + wait;
        let mut waiting = Waiting::new(self, Line::Receivers);
        loop {
            let now = self.now();
            let (handed_out, ticket) = self.claim(max, now)?;
            if !handed_out.deliveries.is_empty() {
                waiting.served = true;
                drop(waiting);
                self.commit_if(self.config.rules.claim_first(), ticket)
                    .await?;
                return Ok(handed_out.keep());
            }
            if now >= deadline || max == 0 {
                return Ok(Vec::new());
            }
            let visibility = self.config.visibility;
            let due = self.with(now, |state| state.machine.next_due());
            let mut look_at = due.unwrap_or(Wall::MAX).min(deadline);
            if look_at < Wall::MAX {
                // A lease that is given meanwhile ends no earlier than this.
                look_at = look_at.min(now + visibility);
            }
            let idle = |state: &State| {
                !state.closed && state.failed.is_none() && !state.machine.has_ready()
            };
            if waiting.until(look_at, idle).await {
                let limit = self.config.waiters_max as u64;
                return Err(ReceiveError::TooManyWaiters { limit });
            }
        }
    }

    /// Claims up to so many messages, if nobody waits.
    fn claim_calmly(&self, max: usize, now: Wall, into: &mut Vec<Delivery>) {
        self.state.with(|state| {
            if !state.calm || !state.machine.passes(now) {
                return;
            }
            if state.intake_open && state.machine.ready() < max {
                self.intake
                    .with(|intake| intake.empty_into(&mut state.machine));
            }
            match state.intake_open {
                true => state.machine.hand_out_row(max, into),
                false => state.machine.hand_out_many(max, into),
            }
        });
    }

    fn claim(
        &self,
        max: usize,
        now: Wall,
    ) -> Result<(HandedOut<'_>, Option<Ticket>), ReceiveError> {
        let mut handed_out = HandedOut {
            queue: self,
            deliveries: Vec::new(),
        };
        if self.journal.is_none() && max > 0 {
            self.claim_calmly(max, now, &mut handed_out.deliveries);
            if !handed_out.deliveries.is_empty() {
                return Ok((handed_out, None));
            }
        }
        let ticket = self.with(now, |state| {
            open(state)?;
            let mut records = Vec::new();
            if self.journal.is_none() {
                state.machine.hand_out_many(max, &mut handed_out.deliveries);
                return Ok(None);
            }
            let ready = state.machine.ready().min(max);
            handed_out.deliveries.reserve_exact(ready);
            while handed_out.deliveries.len() < max {
                let Some((record, id)) = claim(state) else {
                    break;
                };
                records.push(record);
                handed_out.deliveries.extend(state.machine.delivery(id));
            }
            match &self.journal {
                Some(journal) if !records.is_empty() => Ok(Some(journal.submit(&records)?)),
                _ => Ok::<_, ReceiveError>(None),
            }
        })?;
        Ok((handed_out, ticket))
    }
}

#[inline]
fn open(state: &State) -> Result<(), ReceiveError> {
    state.check()?;
    if state.closed {
        return Err(ReceiveError::Closed);
    }
    Ok(())
}

/// Claims the next message, and returns its record and id.
#[inline]
fn claim(state: &mut State) -> Option<(Record, u64)> {
    let record = state.machine.claim()?;
    let Record::Claimed { id, .. } = record else {
        return None;
    };
    state.machine.apply(record.clone());
    Some((record, id))
}

/// Deliveries on their way out. Dropped before they are kept, they are free at once.
struct HandedOut<'a> {
    queue: &'a Embedded,
    deliveries: Vec<Delivery>,
}

impl HandedOut<'_> {
    fn keep(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for HandedOut<'_> {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        self.queue.with(self.queue.now(), |state| {
            for delivery in &self.deliveries {
                state.machine.give_back(delivery.receipt);
            }
        });
    }
}
