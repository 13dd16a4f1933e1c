//! Settling.

use std::collections::HashSet;
use std::task::Poll;

use bytes::Bytes;

use super::{Embedded, PURGE_STEP, State, Ticket};
use crate::error::{BackendError, SettleError};
use crate::message::{Outcome, Parts, Receipt};

impl Embedded {
    /// Settles, if it is in memory. A lease is as good as its receipt, whatever the time.
    #[inline]
    pub(crate) fn settle_at_once(
        &self,
        receipt: Receipt,
        outcome: &Outcome,
    ) -> Poll<Result<(), SettleError>> {
        if self.journal.is_some() {
            return Poll::Pending;
        }
        if matches!(outcome, Outcome::Done) {
            let settled = self.state.with(|state| self.settle_calmly(state, receipt));
            if settled.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        self.settle_with_care(receipt, outcome)
    }

    #[cold]
    fn settle_with_care(
        &self,
        receipt: Receipt,
        outcome: &Outcome,
    ) -> Poll<Result<(), SettleError>> {
        Poll::Ready(match outcome {
            Outcome::Done => self.settle_done(receipt).map(drop),
            _ => self.write_settlement(receipt, outcome).map(drop),
        })
    }

    /// Settles what is done and nobody waits for.
    #[inline]
    fn settle_calmly(&self, state: &mut State, receipt: Receipt) -> Option<Bytes> {
        if !state.calm {
            return None;
        }
        let payload = state.machine.settle_in_row(receipt)?;
        self.room.add(1, Parts::plain_size(&payload));
        Some(payload)
    }

    pub(crate) async fn settle(
        &self,
        receipt: Receipt,
        outcome: &Outcome,
    ) -> Result<(), SettleError> {
        let ticket = self.write_settlement(receipt, outcome)?;
        Ok(self.answer(ticket).await?)
    }

    /// Settles what is done, in memory, and returns what is to be dropped. Its lease is as good as its receipt, whatever the
    /// time.
    fn settle_done(&self, receipt: Receipt) -> Result<Parts, SettleError> {
        let settled = self.state.with(|state| {
            let calm = state.calm && !state.intake_open;
            calm.then(|| state.machine.settle_done(receipt))
        });
        settled.unwrap_or_else(|| {
            self.with_no_look(|state| {
                state.check()?;
                state.machine.settle_done(receipt)
            })
        })
    }

    #[inline]
    pub(crate) fn write_settlement(
        &self,
        receipt: Receipt,
        outcome: &Outcome,
    ) -> Result<Option<Ticket>, SettleError> {
        self.with(self.now(), |state| self.settle_now(state, receipt, outcome))
    }

    #[inline]
    fn settle_now(
        &self,
        state: &mut State,
        receipt: Receipt,
        outcome: &Outcome,
    ) -> Result<Option<Ticket>, SettleError> {
        state.check()?;
        let record = state.machine.settle(receipt, outcome)?;
        #[cfg(feature = "test-util")]
        if !self.config.rules.reject_at_once() {
            let mut ticket = None;
            for step in state.machine.in_two_steps(record) {
                ticket = self.write(state, step)?;
            }
            return Ok(ticket);
        }
        Ok(self.write(state, record)?)
    }

    /// Settles all, in memory: behind one lock as long as they are done and nobody waits, and the rest at one time.
    fn settle_together<'o>(
        &self,
        batch: impl ExactSizeIterator<Item = (Receipt, &'o Outcome)>,
    ) -> Vec<Result<(), SettleError>> {
        let mut batch = batch.peekable();
        let (mut trash, mut settled) = (Vec::new(), Vec::with_capacity(batch.len()));
        let mut done = Vec::with_capacity(batch.len());
        self.state.with(|state| {
            while let Some((receipt, Outcome::Done)) = batch.peek()
                && let Some(payload) = self.settle_calmly(state, *receipt)
            {
                done.push(payload);
                settled.push(Ok(()));
                batch.next();
            }
        });
        if batch.len() == 0 {
            return settled;
        }
        self.with(self.now(), |state| {
            let failed = state.failed.is_some();
            let settle = |(receipt, outcome): (Receipt, &Outcome)| match outcome {
                Outcome::Done if !failed => {
                    trash.push(state.machine.settle_done(receipt)?);
                    Ok(())
                }
                _ => self.settle_now(state, receipt, outcome).map(drop),
            };
            settled.extend(batch.map(settle));
        });
        settled
    }

    pub(crate) async fn settle_all(
        &self,
        batch: impl ExactSizeIterator<Item = (Receipt, &Outcome)>,
    ) -> Vec<Result<(), SettleError>> {
        if self.journal.is_none() {
            return self.settle_together(batch);
        }
        // All are written before the first is waited for: they share a sync.
        let batch: Vec<_> = batch.collect();
        let mut written = Vec::new();
        let mut rest = batch.as_slice();
        while let Some(&(receipt, outcome)) = rest.first() {
            // Records of one size, so that they fit into a frame. Reasons may be long, and whether there is room for a dead
            // letter depends on those before it.
            let done = |(_, outcome): &&(_, &Outcome)| matches!(outcome, Outcome::Done);
            let together = rest.iter().take(PURGE_STEP).take_while(done).count();
            let (now, later) = rest.split_at(together.max(1));
            written.push(match now {
                [_] => match self.write_settlement(receipt, outcome) {
                    Ok(ticket) => (vec![Ok(())], ticket),
                    Err(error) => (vec![Err(error)], None),
                },
                _ => self.write_done(now),
            });
            rest = later;
        }
        let mut settled = Vec::with_capacity(batch.len());
        for (answers, ticket) in written {
            let durable = self.answer(ticket).await;
            settled.extend(answers.into_iter().map(|answer| match &durable {
                Err(error) => answer.and(Err(error.clone().into())),
                Ok(()) => answer,
            }));
        }
        settled
    }

    /// Writes down as one batch what is done, and returns the answer of each and what they all wait for. What is stale is
    /// left out; what cannot be written is refused as a whole.
    fn write_done(
        &self,
        batch: &[(Receipt, &Outcome)],
    ) -> (Vec<Result<(), SettleError>>, Option<Ticket>) {
        let written = self.with(self.now(), |state| {
            state.check()?;
            let mut known = HashSet::with_capacity(batch.len());
            let mut records = Vec::with_capacity(batch.len());
            let decide = |(receipt, outcome): &(Receipt, &Outcome)| {
                let record = state.machine.settle(*receipt, outcome)?;
                // The second of two for one message comes too late.
                if !known.insert(receipt.id()) {
                    return Err(SettleError::Stale);
                }
                records.push(record);
                Ok(())
            };
            let answers = batch.iter().map(decide).collect();
            let ticket = match &self.journal {
                Some(journal) if !records.is_empty() => Some(journal.submit(&records)?),
                _ => None,
            };
            records
                .into_iter()
                .for_each(|record| state.machine.apply(record));
            Ok::<_, BackendError>((answers, ticket))
        });
        written.unwrap_or_else(|error| {
            let refused = || Err(error.clone().into());
            (batch.iter().map(|_| refused()).collect(), None)
        })
    }
}
