//! The queue alone: (state, now, command) → records, and `apply`, the only writer of what a record says.
//!
//! No lock, no clock, no log. What is not in records is of this process only: leases and their ends, and which messages have
//! come due. After a restart nobody holds a lease.

mod apply;
mod heap;
mod places;
mod read;
mod record;
mod row;
mod turn;

#[cfg(test)]
mod tests;

#[cfg(any(feature = "wal", feature = "test-util", test))]
use record::Buried;
#[cfg(any(feature = "wal", test))]
use record::Kept;
pub(crate) use record::{Record, Why};

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dpat_core::Wall;

use crate::config::{Config, Order, WhenFull};
use crate::error::{ManageError, SendError, SettleError};
use crate::message::{
    Delivery, Message, MessageId, Outcome, PRIORITY_MAX, Parts, Receipt, Stats, When, reason,
};
use heap::InOrder;
use places::Places;
pub(crate) use row::Left;
use row::Row;
use turn::Turn;

/// The place of a message among those that are ready: its rank, and its place.
type Key = (u64, u64);

/// No slot.
const NONE: u32 = u32::MAX;

/// What changes with every message comes first and stands together: it goes from core to core.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Machine {
    /// The latest time that it was told.
    clock: Wall,
    /// Before this nothing comes due and nothing ends.
    quiet_until: Wall,
    /// The next id, and the next place in the order.
    next: u64,
    bytes: u64,
    leased: u64,
    /// How long a lease is, in nanoseconds.
    lease_ns: u64,
    /// Messages of which nothing is asked but to go out in the order of their ids.
    row: Row,
    /// What is in turn: the messages that nobody was given yet, in the order of their places, and their leases.
    turn: Turn,
    /// How many messages have become ready since this was last asked.
    made_ready: usize,
    /// Room was made since this was last asked.
    made_room: bool,
    paused: bool,
    /// All messages that are not in the row. The place of one is its id, but for those that were replayed.
    places: Places,
    free: Vec<u32>,
    /// A slot that is free holds [`Entry::NEW`].
    slots: Vec<Entry>,
    counts: Stats,
    config: Config,
    /// What else can be handed out, by rank.
    ready: InOrder<Key>,
    /// What waits for its time, and other leases, by when that ends.
    due: InOrder<(Wall, u64)>,
    /// What is not leased and ends, by when.
    expiry: InOrder<(Wall, u64)>,
    /// What is not leased, the one that goes first first; only where messages make room for others.
    victims: InOrder<(u8, u64)>,
    /// Those that were replayed, by their ids.
    replayed: HashMap<u64, u32>,
    lanes: HashMap<Arc<str>, Ends>,
    dead: BTreeMap<u64, Dead>,
    dead_bytes: u64,
    dedup: HashMap<Arc<str>, (u64, Wall)>,
    dedup_ends: VecDeque<(Wall, Arc<str>)>,
    /// The slots that one call hands out; kept for its memory.
    handed_out: Vec<u32>,
    /// What is to be dropped outside of the lock.
    trash: Vec<Parts>,
}

/// The ends of a list through the slots.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

/// The neighbours in a list.
#[derive(Clone, Copy, Debug)]
struct Links {
    before: u32,
    after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is here.
    Free,
    /// Ready, and in turn.
    InTurn,
    Ready,
    /// Waits for its time.
    Due,
    Leased,
    /// Leased when its turn came, until [`Entry::until`].
    LeasedInTurn,
    /// Waits for the one before it of its key.
    Behind,
}

impl State {
    const fn is_leased(self) -> bool {
        matches!(self, Self::Leased | Self::LeasedInTurn)
    }
}

#[derive(Debug)]
struct Entry {
    id: u64,
    place: u64,
    parts: Parts,
    size: u64,
    sent_at: Wall,
    not_before: Wall,
    expires: Wall,
    /// The end of a lease in turn.
    until: Wall,
    count: u32,
    base: u32,
    /// The receipt of this count may settle it: since it was handed out it was neither settled nor given back.
    held: bool,
    state: State,
    reason: Option<Arc<str>>,
    in_lane: Links,
}

impl Entry {
    #[inline]
    fn delivery(&self, lease: Duration) -> Delivery {
        Delivery {
            parts: self.parts.clone(),
            receipt: Receipt::new(MessageId::new(self.id.into()), self.count.into()),
            count: self.count,
            attempt: self.count - self.base,
            sent_at: self.sent_at,
            lease,
        }
    }
}

#[derive(Debug)]
struct Dead {
    parts: Parts,
    size: u64,
    reason: Arc<str>,
    at: Wall,
    sent_at: Wall,
    count: u32,
}

/// What a send leads to.
#[derive(Debug)]
pub(crate) enum Plan {
    /// It is there already.
    Duplicate(u64),
    /// These go, and then it is taken in.
    Take { victims: Vec<u64>, id: u64 },
}

impl Machine {
    pub(crate) fn new(config: Config) -> Self {
        let lease_ns = u64::try_from(config.visibility.as_nanos()).unwrap_or(u64::MAX);
        Self {
            config,
            lease_ns,
            clock: Wall::MIN,
            quiet_until: Wall::MAX,
            next: 1,
            slots: Vec::new(),
            free: Vec::new(),
            places: Places::new(),
            replayed: HashMap::new(),
            bytes: 0,
            row: Row::new(),
            turn: Turn::default(),
            ready: InOrder::new(),
            due: InOrder::new(),
            leased: 0,
            expiry: InOrder::new(),
            victims: InOrder::new(),
            lanes: HashMap::new(),
            dead: BTreeMap::new(),
            dead_bytes: 0,
            dedup: HashMap::new(),
            dedup_ends: VecDeque::new(),
            paused: false,
            counts: Stats::default(),
            made_ready: 0,
            made_room: false,
            handed_out: Vec::new(),
            trash: Vec::new(),
        }
    }

    /// Tells the time: what is due becomes ready, leases end, old deduplication keys go. True: perhaps something has
    /// [expired](Self::expired).
    #[inline]
    pub(crate) fn tick(&mut self, now: Wall) -> bool {
        self.clock = self.clock.max(now);
        if self.clock < self.quiet_until {
            return false;
        }
        self.time_has_come();
        true
    }

    /// Tells the time, where nothing comes due and nothing ends. False: something does, and nothing was told.
    #[inline]
    pub(crate) fn passes(&mut self, now: Wall) -> bool {
        let passes = now < self.quiet_until;
        if passes {
            self.clock = self.clock.max(now);
        }
        passes
    }

    #[cold]
    fn time_has_come(&mut self) {
        if self.row.first_lease().is_some_and(|at| at <= self.clock) {
            self.end_row();
        }
        while let Some((at, slot)) = self.first_lease() {
            if at > self.clock {
                break;
            }
            self.come_due(slot);
        }
        self.due_come();
        self.forget_keys();
        let key = self.dedup_ends.front().map(|(until, _)| *until);
        let next = [self.next_due(), self.next_expiry(), key];
        self.quiet_until = next.into_iter().flatten().min().unwrap_or(Wall::MAX);
    }

    /// Something comes due, or ends, at that time.
    #[inline]
    fn look_at(&mut self, time: Wall) {
        self.quiet_until = self.quiet_until.min(time);
    }

    fn due_come(&mut self) {
        while let Some(((at, _), slot)) = self.due.first() {
            if at > self.clock {
                break;
            }
            self.come_due(slot);
        }
    }

    fn forget_keys(&mut self) {
        while let Some((until, key)) = self.dedup_ends.front() {
            if *until > self.clock {
                break;
            }
            let stale = self.dedup.get(key).is_some_and(|(_, at)| at == until);
            if stale {
                self.dedup.remove(key);
            }
            self.dedup_ends.pop_front();
        }
    }

    /// A message that was not delivered in time, as the record that removes it.
    #[inline]
    pub(crate) fn expired(&self) -> Option<Record> {
        let ((at, _), slot) = self.expiry.first()?;
        let id = self.entry(slot)?.id;
        let why = Why::Expired;
        (at <= self.clock).then_some(Record::Removed { id, why })
    }

    /// When something may become ready without a command.
    pub(crate) fn next_due(&self) -> Option<Wall> {
        let due = self.due.first().map(|((at, _), _)| at);
        let lease = self.first_lease().map(|(at, _)| at);
        let times = [due, lease, self.row.first_lease()];
        times.into_iter().flatten().min()
    }

    /// When the next message ends that is not delivered by then.
    pub(crate) fn next_expiry(&self) -> Option<Wall> {
        self.expiry.first().map(|((at, _), _)| at)
    }

    /// Decides about a send.
    pub(crate) fn send(&mut self, message: &Message) -> Result<Plan, SendError> {
        if let Some(key) = message.parts.dedup() {
            if let Some((id, _)) = self.dedup.get(key) {
                return Ok(Plan::Duplicate(*id));
            }
            let limit = self.config.dedup_max;
            if self.dedup.len() as u64 >= limit {
                let field = "dedup_max";
                return Err(SendError::Full { field, limit });
            }
        }
        let id = self.next;
        let victims = match self.full(message.parts.size()) {
            None => Vec::new(),
            Some(full) => self.make_room(message.parts.size()).ok_or(full)?,
        };
        Ok(Plan::Take { victims, id })
    }

    /// The record of a message that is taken in.
    pub(crate) fn sent(&self, id: u64, message: Message) -> Record {
        let (not_before, expires) = self.times(&message);
        Record::Sent {
            id,
            at: self.clock.as_nanos(),
            not_before: not_before.as_nanos(),
            expires: expires.as_nanos(),
            parts: message.parts,
        }
    }

    /// Takes a message in, as its record would, without one.
    #[inline]
    pub(crate) fn take_in(&mut self, id: u64, message: Message) {
        let times = self.times(&message);
        self.apply_sent(id, self.clock, times, message.parts);
    }

    /// From when on a message that is sent now may be delivered, and when it ends.
    #[inline]
    fn times(&self, message: &Message) -> (Wall, Wall) {
        let Some(times) = &message.times else {
            return (Wall::MIN, Wall::MAX);
        };
        let now = self.clock;
        let not_before = match times.when {
            When::Now => Wall::MIN,
            When::After(delay) if delay.is_zero() => Wall::MIN,
            When::After(delay) => now + delay,
            When::At(at) if at <= now => Wall::MIN,
            When::At(at) => at,
        };
        let expires = times.ttl.map_or(Wall::MAX, |ttl| not_before.max(now) + ttl);
        (not_before, expires)
    }

    /// Which limit a message of this size would pass.
    #[inline]
    fn full(&self, size: u64) -> Option<SendError> {
        if self.has_room(size) {
            return None;
        }
        let many = self.len() >= self.config.messages_max;
        let (field, limit) = match many {
            true => ("messages_max", self.config.messages_max),
            false => ("bytes_max", self.config.bytes_max),
        };
        Some(SendError::Full { field, limit })
    }

    /// How many messages there are, those that were given up left out.
    #[inline]
    fn len(&self) -> u64 {
        self.places.len() as u64 + self.row.len()
    }

    /// Whether a message of this size would fit.
    #[inline]
    pub(crate) fn has_room(&self, size: u64) -> bool {
        let messages = self.len();
        let bytes = self.bytes.saturating_add(size);
        messages < self.config.messages_max && bytes <= self.config.bytes_max
    }

    /// How many messages more have room, and how many bytes.
    #[inline]
    pub(crate) fn room(&self) -> (u64, u64) {
        let messages = self.config.messages_max.saturating_sub(self.len());
        (messages, self.config.bytes_max.saturating_sub(self.bytes))
    }

    /// When a lease ends that is given now.
    #[inline]
    const fn lease_end(&self) -> Wall {
        Wall::from_nanos(self.clock.as_nanos().saturating_add(self.lease_ns))
    }

    /// The id of the next message.
    #[inline]
    pub(crate) const fn next_id(&self) -> u64 {
        self.next
    }

    /// The latest time that it was told.
    #[inline]
    pub(crate) const fn clock(&self) -> Wall {
        self.clock
    }

    /// Finds messages that have to go; none if that is not the policy, or does not help.
    fn make_room(&mut self, size: u64) -> Option<Vec<u64>> {
        if self.config.when_full != WhenFull::DropOldest {
            return None;
        }
        let (mut messages, mut bytes) = (self.len(), self.bytes);
        let mut chosen = Vec::new();
        let fits = loop {
            let room = bytes.saturating_add(size) <= self.config.bytes_max;
            if room && messages < self.config.messages_max {
                break true;
            }
            let Some((key, slot)) = self.victims.first() else {
                break false;
            };
            self.victims.remove(slot);
            messages -= 1;
            bytes -= self.entry(slot).map_or(0, |entry| entry.size);
            chosen.push((key, slot));
        };
        // They go when their records are applied.
        for (key, slot) in &chosen {
            self.victims.insert(*slot, *key);
        }
        let ids = chosen
            .iter()
            .filter_map(|(_, slot)| Some(self.entry(*slot)?.id));
        let ids = ids.collect();
        fits.then_some(ids)
    }

    /// Decides what is handed out next.
    #[inline]
    pub(crate) fn claim(&mut self) -> Option<Record> {
        self.end_row();
        let (slot, count) = self.next_out()?;
        Some(Record::Claimed {
            id: self.entry(slot)?.id,
            count,
            until: self.lease_end().as_nanos(),
        })
    }

    /// Hands out the next message, as its record would, without one.
    pub(crate) fn hand_out(&mut self) -> Option<Delivery> {
        if let Some(next) = self.next_of_row() {
            return Some(next.delivery());
        }
        let slot = self.hand_out_by_rank()?;
        Some(self.slots[slot as usize].delivery(self.config.visibility))
    }

    /// Hands out up to so many messages, as their records would, without them.
    pub(crate) fn hand_out_many(&mut self, max: usize, into: &mut Vec<Delivery>) {
        self.hand_out_row(max, into);
        let mut slots = std::mem::take(&mut self.handed_out);
        slots.clear();
        while into.len() + slots.len() < max
            && let Some(slot) = self.hand_out_by_rank()
        {
            slots.push(slot);
        }
        // In one go: each delivery is made where it stays.
        let lease = self.config.visibility;
        let delivery = |slot: &u32| self.slots[*slot as usize].delivery(lease);
        into.reserve_exact(slots.len());
        into.extend(slots.iter().map(delivery));
        self.handed_out = slots;
    }

    /// Hands out the next message that is in a slot.
    fn hand_out_by_rank(&mut self) -> Option<u32> {
        let (slot, count) = self.next_out()?;
        let until = self.lease_end();
        self.claim_slot(slot, count, until);
        Some(slot)
    }

    /// The slot of what is handed out next, and its count then.
    #[inline]
    fn next_out(&mut self) -> Option<(u32, u32)> {
        if self.paused {
            return None;
        }
        let slot = match (self.ready.first(), self.first_in_turn()) {
            (None, slot) => slot?,
            (Some((_, slot)), None) => slot,
            (Some((key, slot)), Some(other)) => {
                let before = key < self.rank(&self.slots[other as usize]);
                if before { slot } else { other }
            }
        };
        let count = self.slots[slot as usize].count;
        let rises = self.config.rules.count_at_claim() || count == 0;
        Some((slot, count.saturating_add(u32::from(rises))))
    }

    /// What is handed out, once its claim is applied.
    pub(crate) fn delivery(&self, id: u64) -> Option<Delivery> {
        let entry = self.by_id(id)?;
        Some(entry.delivery(self.config.visibility))
    }

    /// Decides about a settlement.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        receipt: Receipt,
        outcome: &Outcome,
    ) -> Result<Record, SettleError> {
        self.end_row_with(receipt.id());
        let entry = self.held(receipt)?;
        let id = entry.id;
        Ok(match outcome {
            Outcome::Done => Record::Done { id },
            Outcome::Retry {
                delay,
                reason: text,
            } => {
                let at_once = delay.is_zero() || !self.config.rules.wait_for_time();
                let not_before = match at_once {
                    true => Wall::MIN,
                    false => self.clock + *delay,
                };
                Record::Retried {
                    id,
                    not_before: not_before.as_nanos(),
                    reason: (!text.is_empty()).then(|| reason(text)),
                }
            }
            Outcome::Reject { reason: text } => {
                let full = |field, limit| Err(SettleError::DeadLettersFull { field, limit });
                let config = &self.config;
                if self.dead.len() as u64 >= config.dead_max {
                    return full("dead_max", config.dead_max);
                }
                if self.dead_bytes.saturating_add(entry.size) > config.dead_bytes_max {
                    return full("dead_bytes_max", config.dead_bytes_max);
                }
                Record::Rejected {
                    id,
                    at: self.clock.as_nanos(),
                    reason: reason(text),
                }
            }
        })
    }

    /// Settles what is done, as its record would, without one; returns what is to be dropped outside of the lock.
    #[inline]
    pub(crate) fn settle_done(&mut self, receipt: Receipt) -> Result<Parts, SettleError> {
        if let Some(payload) = self.settle_in_row(receipt) {
            return Ok(Parts::plain(payload));
        }
        let slot = self.held_slot(receipt).ok_or(SettleError::Stale)?;
        self.counts.done += 1;
        Ok(self.take(slot))
    }

    /// Makes a lease end so long from now. Of this process only: no record.
    pub(crate) fn extend(&mut self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        self.end_row_with(receipt.id());
        let slot = self.held_slot(receipt).ok_or(SettleError::Stale)?;
        self.lease(slot, self.clock + by);
        Ok(())
    }

    /// Takes a lease back from one who never got the message. Of this process only: no record.
    pub(crate) fn give_back(&mut self, receipt: Receipt) {
        self.end_row_with(receipt.id());
        if let Some(slot) = self.held_slot(receipt) {
            self.free_lease(slot);
        }
    }

    /// Decides about the replay of a dead letter; none if there is no such.
    pub(crate) fn replay(&self, id: MessageId) -> Result<Option<Record>, ManageError> {
        let Some((id, dead)) = self.dead_by_id(id) else {
            return Ok(None);
        };
        if let Some(SendError::Full { field, limit }) = self.full(dead.size) {
            return Err(ManageError::Full { field, limit });
        }
        let place = self.next;
        Ok(Some(Record::Replayed { id, place }))
    }

    /// Decides about the removal of a dead letter; none if there is no such.
    pub(crate) fn discard(&self, id: MessageId) -> Option<Record> {
        let (id, _) = self.dead_by_id(id)?;
        Some(Record::Discarded { id })
    }

    /// The messages that a purge removes: those that are not out, at most so many.
    pub(crate) fn purge(&mut self, max: usize) -> Vec<Record> {
        self.end_row();
        let why = Why::Purged;
        let free = self.entries().filter(|entry| !entry.state.is_leased());
        let free = free.take(max);
        free.map(|entry| Record::Removed { id: entry.id, why })
            .collect()
    }

    /// How many messages have become ready since this was last asked; none while delivery is stopped.
    #[inline]
    pub(crate) fn take_made_ready(&mut self) -> usize {
        let made = std::mem::take(&mut self.made_ready);
        if self.paused { 0 } else { made }
    }

    /// Whether room was made since this was last asked.
    #[inline]
    pub(crate) fn take_made_room(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
    }

    /// What is to be dropped outside of the lock.
    #[inline]
    pub(crate) fn take_trash(&mut self) -> Vec<Parts> {
        std::mem::take(&mut self.trash)
    }

    /// Says whether there is something to be dropped outside of the lock.
    #[inline]
    pub(crate) fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        !self.paused && self.ready() > 0
    }

    /// How many are ready.
    pub(crate) fn ready(&self) -> usize {
        let row = usize::try_from(self.row.ready()).unwrap_or(usize::MAX);
        self.turn.ready + self.ready.len() + row
    }

    pub(crate) const fn leased(&self) -> u64 {
        self.leased
    }

    fn held(&self, receipt: Receipt) -> Result<&Entry, SettleError> {
        let slot = self.held_slot(receipt).ok_or(SettleError::Stale)?;
        self.entry(slot).ok_or(SettleError::Stale)
    }

    /// The slot of what a receipt may settle.
    #[inline]
    fn held_slot(&self, receipt: Receipt) -> Option<u32> {
        let slot = self.slot_of(u64::try_from(receipt.id().get()).ok()?)?;
        let entry = &self.slots[slot as usize];
        let held = entry.held && u128::from(entry.count) == receipt.token();
        (held || !self.config.rules.fence()).then_some(slot)
    }

    #[inline]
    fn by_id(&self, id: u64) -> Option<&Entry> {
        self.entry(self.slot_of(id)?)
    }

    #[inline]
    fn slot_of(&self, id: u64) -> Option<u32> {
        let slot = self.places.get(id);
        match slot.filter(|slot| self.slots[*slot as usize].id == id) {
            None if self.replayed.is_empty() => None,
            None => self.replayed.get(&id).copied(),
            slot => slot,
        }
    }

    fn dead_by_id(&self, id: MessageId) -> Option<(u64, &Dead)> {
        let id = u64::try_from(id.get()).ok()?;
        Some((id, self.dead.get(&id)?))
    }

    #[inline]
    fn entry(&self, slot: u32) -> Option<&Entry> {
        let entry = self.slots.get(slot as usize)?;
        (entry.state != State::Free).then_some(entry)
    }

    #[inline]
    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        let entry = self.slots.get_mut(slot as usize)?;
        (entry.state != State::Free).then_some(entry)
    }

    /// The place of a message among those that are ready: the lowest comes first.
    #[inline]
    fn rank(&self, entry: &Entry) -> Key {
        let below = u64::from(PRIORITY_MAX.saturating_sub(entry.parts.priority()));
        let rank = match self.config.order {
            Order::Strict => below,
            Order::Aged(step) => {
                // To gain one priority a step is to have come a step earlier.
                let from = entry.sent_at.max(entry.not_before);
                let steps = u32::try_from(below).unwrap_or(0);
                (from + step.saturating_mul(steps)).as_nanos()
            }
        };
        (rank, entry.place)
    }
}
