//! What a relay does next: (state, now, what happened) → actions. No clock, store, sink or future.
//!
//! The machine holds the events that are claimed, in lanes: one lane a key, one lane an event without a key. Of each lane
//! at most one event is on its way. The shell does what [`Machine::next`] says and tells how it ended; whatever is lost
//! between the two is found again when the lease ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dpat_core::{Class, Classify, Entropy, Instant, Wall};

use crate::config::{OnPoison, RelayConfig};
use crate::error::{PublishError, StoreError};
use crate::row::{Lane, Outcome, Settled, Settlement, Token};
use crate::signal::Ticket;
use crate::store::{Batch, Claim, Claimed, Lag};

/// The two clocks: one for what lasts, one for what is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) wall: Wall,
}

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Claim, and tell [`Machine::claimed`].
    Claim(Claim),
    /// Publish, and tell [`Machine::published`].
    Publish(Held),
    /// Settle, and tell [`Machine::settled`].
    Settle(Vec<Settlement>),
    /// Look at the lag and remove what was sent before, and tell [`Machine::kept`].
    Housekeep { sent_before: Wall },
    /// Everything is done that was to be done.
    Stop,
}

/// An event in the hands of this relay.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) row: Claimed,
    pub(crate) token: Token,
}

impl Held {
    fn settle(&self, outcome: Outcome) -> Settlement {
        Settlement {
            position: self.row.position,
            token: self.token,
            outcome,
        }
    }
}

/// What happened to one event, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Sent,
    Retry,
    Parked,
}

#[derive(Debug)]
struct Waiting {
    rows: VecDeque<Held>,
    /// One of the lane is on its way.
    busy: bool,
    /// Until when the claim surely holds, by our clock: counted from before it was asked for.
    held_until: Instant,
}

#[derive(Debug)]
pub(crate) struct Machine {
    config: RelayConfig,
    lanes: BTreeMap<Lane, Waiting>,
    /// Lanes that have an event and none on its way, in the order in which they came.
    ready: VecDeque<Lane>,
    /// Events in lanes or on their way, and their bytes.
    held: usize,
    held_bytes: usize,
    publishing: usize,
    settlements: Vec<Settlement>,
    settling: Vec<Settlement>,
    /// Since when a claim is under way, and whose.
    claiming: Option<(Instant, Token)>,
    seen: Option<Ticket>,
    claim_at: Instant,
    settle_at: Instant,
    housekeep_at: Instant,
    housekeeping: bool,
    /// Nothing is published before.
    paused_until: Instant,
    failures: u32,
    store_failures: u32,
    draining: bool,
    stopped: bool,
}

impl Machine {
    pub(crate) fn new(config: RelayConfig) -> Self {
        Self {
            config,
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            held: 0,
            held_bytes: 0,
            publishing: 0,
            settlements: Vec::new(),
            settling: Vec::new(),
            claiming: None,
            seen: None,
            claim_at: Instant::MIN,
            settle_at: Instant::MIN,
            housekeep_at: Instant::MIN,
            housekeeping: false,
            paused_until: Instant::MIN,
            failures: 0,
            store_failures: 0,
            draining: false,
            stopped: false,
        }
    }

    /// No more is claimed; what is on its way is finished, and the rest given back.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        let lanes: Vec<Lane> = self.lanes.keys().cloned().collect();
        lanes.iter().for_each(|lane| self.release(lane));
    }

    /// Something may have been appended.
    pub(crate) fn woken(&mut self, now: Instant) {
        self.seen = None;
        self.claim_at = self.claim_at.min(now);
    }

    /// The count of changes that the last claim saw, if waiting for another change makes sense.
    pub(crate) const fn waits_for(&self) -> Option<Ticket> {
        match (self.draining, self.claiming) {
            (false, None) => self.seen,
            _ => None,
        }
    }

    /// When to ask again, if nothing happens before.
    pub(crate) fn wake_at(&self) -> Instant {
        let mut at = Instant::MAX;
        if !self.housekeeping && !self.draining {
            at = at.min(self.housekeep_at);
        }
        if !self.settlements.is_empty() && self.settling.is_empty() {
            at = at.min(self.settle_at);
        }
        if self.may_claim() {
            at = at.min(self.claim_at.max(self.paused_until));
        }
        if !self.ready.is_empty() && self.publishing < self.config.in_flight_max {
            at = at.min(self.paused_until);
        }
        at
    }

    fn may_claim(&self) -> bool {
        // In steps of a quarter, so that the store is not asked for one event at a time.
        let step = (self.config.held_rows_max / 4).max(1);
        !self.draining
            && self.claiming.is_none()
            && self.held + step <= self.config.held_rows_max
            && self.held_bytes < self.config.held_bytes_max
    }

    /// Returns the next thing to do; none, if something must happen first.
    pub(crate) fn next(&mut self, now: Now, entropy: &dyn Entropy) -> Option<Action> {
        if self.stopped {
            return None;
        }
        let due = |at: Instant| at <= now.instant;
        if !self.settlements.is_empty() && self.settling.is_empty() && due(self.settle_at) {
            self.settling = std::mem::take(&mut self.settlements);
            return Some(Action::Settle(self.settling.clone()));
        }
        if due(self.paused_until) {
            if let Some(held) = self.publish(now) {
                return Some(Action::Publish(held));
            }
            // Giving up lanes whose claims are too old leaves settlements.
            if !self.settlements.is_empty() && self.settling.is_empty() && due(self.settle_at) {
                return self.next(now, entropy);
            }
            if self.may_claim() && due(self.claim_at) {
                return Some(Action::Claim(self.claim(now, entropy)));
            }
        }
        if !self.housekeeping && !self.draining && due(self.housekeep_at) {
            self.housekeeping = true;
            return Some(Action::Housekeep {
                sent_before: now.wall - self.config.retention,
            });
        }
        let idle = self.publishing == 0 && self.claiming.is_none() && !self.housekeeping;
        if self.draining && idle && self.settlements.is_empty() && self.settling.is_empty() {
            self.stopped = true;
            return Some(Action::Stop);
        }
        None
    }

    fn claim(&mut self, now: Now, entropy: &dyn Entropy) -> Claim {
        let token = Token::draw(entropy);
        self.claiming = Some((now.instant, token));
        Claim {
            token,
            now: now.wall,
            lease: self.config.lease,
            rows_max: self.config.held_rows_max - self.held,
            bytes_max: self.config.held_bytes_max - self.held_bytes,
            lane_rows_max: self.config.lane_rows_max,
        }
    }

    /// Takes the next event to publish, and gives up lanes whose claims would end before its time limit.
    fn publish(&mut self, now: Now) -> Option<Held> {
        while self.publishing < self.config.in_flight_max {
            let lane = self.ready.pop_front()?;
            let Some(waiting) = self.lanes.get_mut(&lane) else {
                continue;
            };
            if now.instant + self.config.publish_timeout > waiting.held_until {
                self.release(&lane);
                continue;
            }
            let Some(held) = waiting.rows.pop_front() else {
                continue;
            };
            // Beyond the horizon, receivers may have forgotten that they had it.
            let since = now.wall.since(held.row.first_claim);
            if since > self.config.give_up_after {
                let reason = format!("not acknowledged within {:?}", self.config.give_up_after);
                self.park(&lane, &held, reason);
                continue;
            }
            waiting.busy = true;
            self.publishing += 1;
            return Some(held);
        }
        None
    }

    /// A claim has ended.
    ///
    /// # Errors
    /// The store's, if it will not pass by itself.
    pub(crate) fn claimed(
        &mut self,
        now: Now,
        result: Result<Batch, StoreError>,
        entropy: &dyn Entropy,
    ) -> Result<(), StoreError> {
        let Some((asked_at, token)) = self.claiming.take() else {
            return Ok(());
        };
        let batch = match result {
            Ok(batch) => batch,
            Err(error) => {
                self.claim_at = now.instant + self.store_failed(error, entropy)?;
                return Ok(());
            }
        };
        self.store_failures = 0;
        // Nothing, or only little: the rest is claimed by others or not due.
        self.claim_at = match (batch.rows.is_empty(), batch.next_due) {
            (false, _) => now.instant,
            (true, None) => now.instant + self.config.poll,
            (true, Some(due)) => {
                now.instant + due.since(now.wall).clamp(MIN_WAIT, self.config.poll)
            }
        };
        self.seen = batch.rows.is_empty().then_some(batch.seen);
        let held_until = asked_at + self.config.lease;
        let (mut fresh, mut lanes) = (Vec::new(), BTreeSet::new());
        for row in batch.rows {
            let lane = Lane::of(&row.event, row.position);
            if lanes.insert(lane.clone()) {
                self.forget(&lane);
                fresh.push(lane.clone());
            }
            let waiting = self.lanes.entry(lane).or_insert_with(|| Waiting {
                rows: VecDeque::new(),
                busy: false,
                held_until,
            });
            waiting.held_until = held_until;
            self.held += 1;
            self.held_bytes += row.event.size();
            waiting.rows.push_back(Held { row, token });
        }
        for lane in fresh {
            if self.lanes.get(&lane).is_some_and(|waiting| !waiting.busy) {
                self.ready.push_back(lane);
            }
        }
        if self.draining {
            self.drain();
        }
        Ok(())
    }

    /// A publishing has ended, or was cut at its time limit.
    pub(crate) fn published(
        &mut self,
        now: Now,
        held: &Held,
        result: Result<(), PublishError>,
        entropy: &dyn Entropy,
    ) -> Fate {
        let lane = Lane::of(&held.row.event, held.row.position);
        self.publishing -= 1;
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            waiting.busy = false;
        }
        let error = match result {
            Ok(()) => {
                self.drop_one(held);
                self.failures = 0;
                self.paused_until = now.instant;
                self.settlements.push(held.settle(Outcome::Sent));
                self.go_on(&lane);
                return Fate::Sent;
            }
            Err(error) => error,
        };
        let attempts = held.row.attempts.saturating_add(1);
        let too_long = now.wall.since(held.row.first_claim) > self.config.give_up_after;
        if error.is_refusal() && attempts >= self.config.refusals_max || too_long {
            self.park(&lane, held, error.to_string());
            return Fate::Parked;
        }
        let delay = self.delay(attempts - 1, error.retry_after(), entropy);
        if !error.is_refusal() {
            // The other side may be down: nobody hurries, until something succeeds.
            self.failures = self.failures.saturating_add(1);
            let pause = self.delay(self.failures - 1, error.retry_after(), entropy);
            self.paused_until = self.paused_until.max(now.instant + pause);
        }
        self.drop_one(held);
        self.settlements.push(held.settle(Outcome::Retry {
            not_before: now.wall + delay,
        }));
        // The later ones of the key wait with it.
        self.release(&lane);
        Fate::Retry
    }

    /// A settlement has ended; returns how many claims were lost.
    ///
    /// # Errors
    /// The store's, if it will not pass by itself.
    pub(crate) fn settled(
        &mut self,
        now: Now,
        result: Result<Vec<Settled>, StoreError>,
        entropy: &dyn Entropy,
    ) -> Result<u64, StoreError> {
        let mut settling = std::mem::take(&mut self.settling);
        match result {
            Ok(settled) => {
                self.store_failures = 0;
                // What was settled can make room for others: look again.
                if !self.draining {
                    self.claim_at = self.claim_at.min(now.instant);
                }
                Ok(settled
                    .iter()
                    .filter(|settled| **settled == Settled::Lost)
                    .count() as u64)
            }
            Err(error) => {
                settling.append(&mut self.settlements);
                self.settlements = settling;
                self.settle_at = now.instant + self.store_failed(error, entropy)?;
                Ok(0)
            }
        }
    }

    /// The housekeeping has ended: the lag, and how many rows were removed.
    ///
    /// # Errors
    /// The store's, if it will not pass by itself.
    pub(crate) fn kept(
        &mut self,
        now: Now,
        result: Result<(Lag, usize), StoreError>,
        entropy: &dyn Entropy,
    ) -> Result<Option<Lag>, StoreError> {
        self.housekeeping = false;
        match result {
            Ok((lag, purged)) => {
                self.store_failures = 0;
                let more = purged >= self.config.purge_rows;
                self.housekeep_at = match more {
                    true => now.instant,
                    false => now.instant + self.config.housekeeping,
                };
                Ok(Some(lag))
            }
            Err(error) => {
                self.housekeep_at = now.instant + self.store_failed(error, entropy)?;
                Ok(None)
            }
        }
    }

    /// Returns how long to leave the store alone.
    fn store_failed(
        &mut self,
        error: StoreError,
        entropy: &dyn Entropy,
    ) -> Result<Duration, StoreError> {
        let passes = error.class().is_retryable()
            || matches!(error.class(), Class::Conflict | Class::Cancelled);
        if !passes {
            return Err(error);
        }
        self.store_failures = self.store_failures.saturating_add(1);
        Ok(self.delay(self.store_failures - 1, error.retry_after(), entropy))
    }

    /// The wait before a retry: the upper half random, or as long as the other side wants, up to the maximum.
    fn delay(&self, retry: u32, asked: Option<Duration>, entropy: &dyn Entropy) -> Duration {
        let backoff = &self.config.backoff;
        let nominal = backoff.nominal(retry);
        let half = nominal / 2;
        let random = entropy.below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX));
        let delay = half + Duration::from_nanos(random);
        delay
            .max(asked.unwrap_or_default().min(backoff.max()))
            .max(MIN_WAIT)
    }

    fn park(&mut self, lane: &Lane, held: &Held, reason: String) {
        let blocks = self.config.on_poison == OnPoison::Block;
        self.drop_one(held);
        self.settlements
            .push(held.settle(Outcome::Park { blocks, reason }));
        match blocks {
            true => self.release(lane),
            false => self.go_on(lane),
        }
    }

    /// Lets the next event of a lane come to its turn.
    fn go_on(&mut self, lane: &Lane) {
        match self.lanes.get(lane) {
            Some(waiting) if waiting.rows.is_empty() => drop(self.lanes.remove(lane)),
            Some(_) if self.draining => self.release(lane),
            Some(_) => self.ready.push_back(lane.clone()),
            None => {}
        }
    }

    /// Gives back what waits in a lane.
    fn release(&mut self, lane: &Lane) {
        let Some(waiting) = self.lanes.get_mut(lane) else {
            return;
        };
        let rows = std::mem::take(&mut waiting.rows);
        if !waiting.busy {
            self.lanes.remove(lane);
        }
        rows.iter().for_each(|held| self.drop_one(held));
        let released = rows.iter().map(|held| held.settle(Outcome::Release));
        self.settlements.extend(released);
    }

    /// Drops what waits in a lane under an earlier claim, which is over: the store gave the lane out anew.
    fn forget(&mut self, lane: &Lane) {
        if let Some(waiting) = self.lanes.get_mut(lane) {
            let rows = std::mem::take(&mut waiting.rows);
            rows.iter().for_each(|held| self.drop_one(held));
            self.ready.retain(|ready| ready != lane);
        }
    }

    /// Counts an event that is no longer held.
    fn drop_one(&mut self, held: &Held) {
        self.held -= 1;
        self.held_bytes -= held.row.event.size();
    }

    /// How many events this relay holds.
    #[cfg(test)]
    pub(crate) const fn held(&self) -> usize {
        self.held
    }
}

/// No wait is shorter, so that nothing turns in circles.
const MIN_WAIT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
