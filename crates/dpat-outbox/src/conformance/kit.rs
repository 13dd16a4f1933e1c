//! What the laws say again and again.

use std::time::Duration;

use dpat_core::{Uuid7, Wall};

use super::{End, Harness, Violation};
use crate::event::{Event, EventError};
use crate::row::{Outcome, Position, Settled, Settlement, Token};
use crate::store::{Appended, Claim, Claimed, Limits, Store};

pub(super) const LEASE: Duration = Duration::from_nanos(100);

pub(super) fn at(nanos: u64) -> Wall {
    Wall::from_nanos(nanos)
}

pub(super) fn id(number: u64) -> Uuid7 {
    // Version 7, variant 2.
    let low = 0x8000_0000_0000_0000 | u128::from(number);
    Uuid7::from_bytes((0x0000_0000_0000_7000_u128 << 64 | low).to_be_bytes()).expect("version 7")
}

/// An event with a number as its id and payload; the key may be empty, which is none.
pub(super) fn event(number: u64, key: &str) -> Result<Event, EventError> {
    let event = Event::builder(id(number), "topic").payload(number.to_string());
    match key {
        "" => event.build(),
        key => event.key(key).build(),
    }
}

/// The number of an event that [`event`] made.
pub(super) fn number(event: &Event) -> u64 {
    std::str::from_utf8(event.payload())
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX)
}

/// An outbox, and what is done to it.
pub(super) struct Kit<'h, H: Harness> {
    pub(super) harness: &'h H,
    pub(super) outbox: H::Outbox,
    pub(super) now: u64,
    tokens: u8,
}

/// Events that were claimed together.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    pub(super) token: Token,
    pub(super) rows: Vec<Claimed>,
}

impl Hand {
    /// Which events, by number, in the order in which they were claimed.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.rows.iter().map(|row| number(&row.event)).collect()
    }

    /// Which events, by number, in order.
    pub(super) fn sorted(&self) -> Vec<u64> {
        let mut numbers = self.numbers();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn position(&self, number: u64) -> Result<Position, Violation> {
        let mut rows = self.rows.iter();
        match rows.find(|row| self::number(&row.event) == number) {
            Some(row) => Ok(row.position),
            None => Err(Violation::new(format!("event {number} was not claimed"))),
        }
    }

    pub(super) fn settlement(
        &self,
        number: u64,
        outcome: Outcome,
    ) -> Result<Settlement, Violation> {
        Ok(Settlement {
            position: self.position(number)?,
            token: self.token,
            outcome,
        })
    }
}

impl<'h, H: Harness> Kit<'h, H> {
    pub(super) fn new(harness: &'h H) -> Self {
        Self::with_limits(harness, Limits::DEFAULT)
    }

    pub(super) fn with_limits(harness: &'h H, limits: Limits) -> Self {
        Self {
            harness,
            outbox: harness.fresh(limits),
            now: 1_000,
            tokens: 0,
        }
    }

    /// Appends events in one transaction, and asserts that they are new.
    pub(super) fn append(&self, events: &[Event]) -> Result<Vec<Position>, Violation> {
        let appended = self
            .harness
            .in_tx(&self.outbox, at(self.now), events, End::Commit)?;
        let position = |appended: Appended| match appended {
            Appended::New(position) => Ok(position),
            Appended::Duplicate(id) => Err(Violation::new(format!("{id} is there already"))),
        };
        appended.into_iter().map(position).collect()
    }

    /// Appends events, each a number and a key, in a transaction each.
    pub(super) fn append_all(&self, events: &[(u64, &str)]) -> Result<(), Violation> {
        for (number, key) in events {
            self.append(&[event(*number, key)?])?;
        }
        Ok(())
    }

    pub(super) fn ask(&mut self) -> Claim {
        self.tokens += 1;
        Claim {
            token: Token::from_bytes([self.tokens; 16]),
            now: at(self.now),
            lease: LEASE,
            rows_max: 1_000,
            bytes_max: usize::MAX,
            lane_rows_max: 100,
        }
    }

    pub(super) fn claim(&mut self) -> Result<Hand, Violation> {
        let claim = self.ask();
        self.claim_as(&claim)
    }

    pub(super) fn claim_as(&self, claim: &Claim) -> Result<Hand, Violation> {
        let batch = self.harness.run(self.outbox.claim(claim))?;
        Ok(Hand {
            token: claim.token,
            rows: batch.rows,
        })
    }

    pub(super) fn settle_all(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, Violation> {
        let settled = self.outbox.settle(at(self.now), settlements);
        let settled = self.harness.run(settled)?;
        if settled.len() != settlements.len() {
            return Err(Violation::new("a settlement without an answer"));
        }
        Ok(settled)
    }

    pub(super) fn settle(
        &self,
        hand: &Hand,
        number: u64,
        outcome: Outcome,
    ) -> Result<Settled, Violation> {
        let settled = self.settle_all(&[hand.settlement(number, outcome)?])?;
        Ok(settled[0])
    }

    /// Claims and sends everything that can be claimed now, and returns the numbers.
    pub(super) fn send_all(&mut self) -> Result<Vec<u64>, Violation> {
        let mut sent = Vec::new();
        loop {
            let hand = self.claim()?;
            if hand.rows.is_empty() {
                return Ok(sent);
            }
            for number in hand.numbers() {
                self.settle(&hand, number, Outcome::Sent)?;
                sent.push(number);
            }
            if sent.len() > 1_000 {
                return Err(Violation::new("sent events are claimed again and again"));
            }
        }
    }

    pub(super) fn reopened(self) -> Self {
        Self {
            outbox: self.harness.reopen(self.outbox),
            ..self
        }
    }
}

pub(super) fn park(blocks: bool) -> Outcome {
    Outcome::Park {
        blocks,
        reason: "no such topic".to_owned(),
    }
}

pub(super) fn retry(not_before: u64) -> Outcome {
    Outcome::Retry {
        not_before: at(not_before),
    }
}
