//! The queue in this process: the machine behind a lock, with waiting, time, and perhaps a log.

mod intake;
mod receive;
mod send;
mod settle;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use dpat_core::{AnySleep, AnyTime, Clock, Instant, Sleep, Wall};

use crate::capability::{Capabilities, Capability, OrderScope, Survives};
use crate::config::Config;
use crate::error::{BackendError, ManageError, SettleError};
use crate::machine::{Machine, Record};
use crate::message::{DeadLetter, MessageId, Parts, Peeked, Receipt, Stats};
use crate::sync::Lock;
use crate::trace;
use crate::wait::{Place, WaitList, Wakes};
use intake::{Intake, Room};

/// How many messages a purge removes at once.
pub(crate) const PURGE_STEP: usize = 1_000;

/// Where records are made durable.
pub(crate) trait Journal: Send + Sync {
    /// Takes records in, all or none, behind those taken in before. An error: nothing was taken in.
    fn submit(&self, records: &[Record]) -> Result<Ticket, BackendError>;

    /// Called when nothing is locked: puts a snapshot in the place of records, if that is worth it or forced.
    fn tidy(&self, queue: &Embedded, forced: bool) -> Result<(), BackendError>;
}

/// Completes when what was taken in is durable, and with it everything before.
pub(crate) type Ticket = Pin<Box<dyn Future<Output = Result<(), BackendError>> + Send>>;

pub(crate) struct Embedded {
    name: &'static str,
    survives: Survives,
    config: Config,
    time: AnyTime,
    /// The queue's time is the wall clock as it was at the beginning, and runs on with the monotonic clock.
    began: (Instant, Wall),
    /// In memory alone.
    intake: Lock<Intake>,
    room: Room,
    state: Lock<State>,
    journal: Option<Box<dyn Journal>>,
}

/// The machine comes first: it begins with what changes most. Senders that need nothing of this must not wait for what is
/// written here, so that it is on lines of its own.
#[repr(C, align(128))]
pub(crate) struct State {
    pub(crate) machine: Machine,
    /// In memory: it [is calm](Self::is_calm).
    calm: bool,
    /// The intake is open. While it is closed nothing is in it.
    intake_open: bool,
    receivers: WaitList,
    senders: WaitList,
    /// Some sender waits for bytes: whoever waits behind may need fewer.
    senders_differ: bool,
    drainers: WaitList,
    closed: bool,
    failed: Option<BackendError>,
}

/// What a change leaves to be woken and dropped outside of the lock.
#[must_use]
struct After {
    wakes: Wakes,
    trash: Vec<Parts>,
}

impl After {
    fn finish(self) {
        let Self { wakes, trash } = self;
        wakes.wake();
        drop(trash);
    }
}

/// Where one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Receivers,
    Senders,
    Drainers,
}

impl State {
    fn line(&mut self, line: Line) -> &mut WaitList {
        match line {
            Line::Receivers => &mut self.receivers,
            Line::Senders => &mut self.senders,
            Line::Drainers => &mut self.drainers,
        }
    }

    /// Says whether it takes messages and hands them out.
    #[inline]
    const fn is_open(&self) -> bool {
        self.failed.is_none() && !self.closed
    }

    fn check(&self) -> Result<(), BackendError> {
        self.failed
            .as_ref()
            .map_or(Ok(()), |failed| Err(failed.before()))
    }

    /// Changes it at the time of the last look at the clock.
    #[inline]
    fn change<R>(&mut self, run: impl FnOnce(&mut Self) -> R) -> (R, Option<After>) {
        // While this runs nobody comes to wait.
        let nobody = self.nobody_waits();
        let due_before = match nobody {
            true => None,
            false => self.begin(),
        };
        let result = run(self);
        if nobody && !self.machine.has_trash() {
            return (result, None);
        }
        let wakes = self.wakes(due_before);
        let trash = self.machine.take_trash();
        (result, Some(After { wakes, trash }))
    }

    /// Before a change, where somebody waits: returns when something becomes ready by itself.
    fn begin(&mut self) -> Option<Wall> {
        self.machine.take_made_ready();
        self.machine.take_made_room();
        self.machine.next_due()
    }

    /// Takes out whoever has something to do after a change.
    fn wakes(&mut self, due_before: Option<Wall>) -> Wakes {
        let mut wakes = Wakes::default();
        let ready = self.machine.take_made_ready();
        if !self.receivers.is_empty() {
            let due = self.machine.next_due();
            let earlier = due.is_some() && (due_before.is_none() || due < due_before);
            if ready > 0 {
                wakes.take(&mut self.receivers, ready);
            } else if earlier || due.is_some() && self.receivers.armed() == 0 {
                // Somebody has to look at the clock.
                wakes.take(&mut self.receivers, 1);
            }
        }
        if self.machine.take_made_room() && !self.senders.is_empty() {
            let all = std::mem::take(&mut self.senders_differ);
            let count = if all { usize::MAX } else { 1 };
            wakes.take(&mut self.senders, count);
        }
        if self.closed && self.machine.leased() == 0 {
            wakes.take(&mut self.drainers, usize::MAX);
        }
        wakes
    }

    /// Says whether messages go in and out, and nobody waits for anything: what is done then wakes nobody.
    #[inline]
    fn is_calm(&self) -> bool {
        self.nobody_waits() && self.is_open()
    }

    /// Says whether nobody waits for anything. Who drains waits only once the queue is closed.
    #[inline]
    fn nobody_waits(&self) -> bool {
        self.receivers.is_empty() && self.senders.is_empty() && self.drainers.is_empty()
    }

    fn all_wakes(&mut self) -> Wakes {
        let mut wakes = Wakes::default();
        wakes.take(&mut self.receivers, usize::MAX);
        wakes.take(&mut self.senders, usize::MAX);
        wakes.take(&mut self.drainers, usize::MAX);
        wakes
    }
}

impl Embedded {
    pub(crate) fn new(config: Config, time: AnyTime, machine: Machine) -> Self {
        let state = State {
            machine,
            calm: true,
            intake_open: false,
            receivers: WaitList::default(),
            senders: WaitList::default(),
            senders_differ: false,
            drainers: WaitList::default(),
            closed: false,
            failed: None,
        };
        Self {
            name: "memory",
            survives: Survives::Nothing,
            config,
            began: (time.now(), time.wall()),
            time,
            intake: Lock::new(Intake::default()),
            room: Room::new(),
            state: Lock::new(state),
            journal: None,
        }
    }

    #[cfg(feature = "wal")]
    pub(crate) fn with_journal(mut self, journal: Box<dyn Journal>, survives: Survives) -> Self {
        self.name = "wal";
        self.survives = survives;
        self.journal = Some(journal);
        self
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn capabilities(&self) -> Capabilities {
        Capabilities::of(&[
            Capability::Extend,
            Capability::Delay,
            Capability::Priority,
            Capability::FencedSettle,
            Capability::OrderedKeys,
            Capability::Dedup,
            Capability::Ttl,
            Capability::DeadLetters,
            Capability::Inspect,
            Capability::Pause,
        ])
        .with_order(OrderScope::Queue)
        .with_survival(self.survives)
        .with_message_bytes_max(self.config.message_bytes_max)
    }

    pub(crate) const fn batch_max(&self) -> usize {
        self.config.batch_max
    }

    /// The queue's time.
    #[inline]
    pub(crate) fn now(&self) -> Wall {
        let (instant, wall) = self.began;
        let passed = self
            .time
            .now()
            .as_nanos()
            .saturating_sub(instant.as_nanos());
        Wall::from_nanos(wall.as_nanos().saturating_add(passed))
    }

    fn sleep_until(&self, at: Wall) -> AnySleep {
        let (instant, wall) = self.began;
        self.time.sleep_until(instant + at.since(wall))
    }

    /// Runs alone, and with all that was sent.
    #[inline]
    fn with_all<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        self.state.with(|state| self.joined(state, run))
    }

    /// Runs with all that was sent; the state is locked.
    #[inline]
    fn joined<R>(&self, state: &mut State, run: impl FnOnce(&mut State) -> R) -> R {
        if self.journal.is_some() {
            return run(state);
        }
        if state.intake_open {
            return self.intake.with(|intake| {
                intake.empty_into(&mut state.machine);
                let result = run(state);
                intake.open_if_calm(state, &self.room);
                result
            });
        }
        let result = run(state);
        state.calm = state.is_calm();
        if state.calm && state.machine.is_row_open() {
            self.intake
                .with(|intake| intake.open_if_calm(state, &self.room));
        }
        result
    }

    /// Runs alone at the time `now`; wakes and drops outside of the lock.
    #[inline]
    pub(crate) fn with<R>(&self, now: Wall, run: impl FnOnce(&mut State) -> R) -> R {
        let (result, after) = self.with_all(|state| self.change(state, now, run));
        if let Some(after) = after {
            after.finish();
        }
        result
    }

    /// Changes what is locked, at the time `now`.
    #[inline]
    fn change<R>(
        &self,
        state: &mut State,
        now: Wall,
        run: impl FnOnce(&mut State) -> R,
    ) -> (R, Option<After>) {
        state.change(|state| {
            if state.machine.tick(now) {
                self.expire(state);
            }
            run(state)
        })
    }

    /// Removes what was not delivered in time.
    fn expire(&self, state: &mut State) {
        while let Some(expired) = state.machine.expired() {
            if let Some(journal) = &self.journal {
                // If there is no room for it now, it ends by its own time after a restart.
                let _ = journal.submit(std::slice::from_ref(&expired));
            }
            state.machine.apply(expired);
        }
    }

    /// Runs alone at the time of the last look at the clock; wakes and drops outside of the lock.
    #[inline]
    fn with_no_look<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        let (result, after) = self.with_all(|state| state.change(run));
        if let Some(after) = after {
            after.finish();
        }
        result
    }

    /// Writes a record down and applies it. An error: neither happened.
    #[inline]
    fn write(&self, state: &mut State, record: Record) -> Result<Option<Ticket>, BackendError> {
        let ticket = match &self.journal {
            None => None,
            Some(journal) => Some(journal.submit(std::slice::from_ref(&record))?),
        };
        state.machine.apply(record);
        Ok(ticket)
    }

    /// Waits until what was written is durable. Where that fails, the queue has ended: what it knows and what the log has
    /// may differ.
    #[inline]
    async fn commit(&self, ticket: Option<Ticket>) -> Result<(), BackendError> {
        let (Some(ticket), Some(journal)) = (ticket, &self.journal) else {
            return Ok(());
        };
        let done = ticket.await;
        if let Err(error) = &done {
            self.fail(error);
            return done;
        }
        if let Err(error) = journal.tidy(self, false) {
            // The log is as long as it was, and that is all.
            trace::trouble("snapshot", &error);
        }
        Ok(())
    }

    #[cfg(feature = "wal")]
    pub(crate) fn snapshot(&self) -> Result<(), BackendError> {
        self.journal
            .as_ref()
            .map_or(Ok(()), |journal| journal.tidy(self, true))
    }

    #[cfg(feature = "wal")]
    pub(crate) fn with_machine<R>(&self, run: impl FnOnce(&Machine) -> R) -> R {
        self.state.with(|state| run(&state.machine))
    }

    /// Waits before a send or a settlement is answered.
    #[inline]
    async fn answer(&self, ticket: Option<Ticket>) -> Result<(), BackendError> {
        self.commit_if(self.config.rules.durable_first(), ticket)
            .await
    }

    #[inline]
    async fn commit_if(&self, first: bool, ticket: Option<Ticket>) -> Result<(), BackendError> {
        if first {
            self.commit(ticket).await
        } else {
            Ok(())
        }
    }

    fn fail(&self, error: &BackendError) {
        let wakes = self.with_all(|state| {
            state.failed.get_or_insert_with(|| error.clone());
            state.all_wakes()
        });
        wakes.wake();
    }

    pub(crate) fn extend(&self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        self.with(self.now(), |state| {
            state.check()?;
            state.machine.extend(receipt, by)
        })
    }

    pub(crate) async fn drain(&self) {
        let mut waiting = Waiting::new(self, Line::Drainers);
        let wakes = self.with_all(|state| {
            state.closed = true;
            state.all_wakes()
        });
        wakes.wake();
        loop {
            let leased = self.with(self.now(), |state| {
                let over = state.failed.is_some() || state.machine.leased() == 0;
                (!over).then(|| state.machine.next_due())
            });
            let Some(due) = leased else {
                return;
            };
            let look_at = due.unwrap_or(Wall::MAX);
            let waits = |state: &State| state.failed.is_none() && state.machine.leased() > 0;
            waiting.until(look_at, waits).await;
        }
    }

    /// Decides, writes down and applies one record; false if there was nothing to do.
    async fn manage(
        &self,
        decide: impl FnOnce(&Machine) -> Result<Option<Record>, ManageError>,
    ) -> Result<bool, ManageError> {
        let written = self.with(self.now(), |state| {
            state.check()?;
            match decide(&state.machine)? {
                None => Ok::<_, ManageError>(None),
                Some(record) => Ok(Some(self.write(state, record)?)),
            }
        })?;
        match written {
            None => Ok(false),
            Some(ticket) => {
                self.commit(ticket).await?;
                Ok(true)
            }
        }
    }

    pub(crate) async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        self.manage(|machine| machine.replay(id)).await
    }

    pub(crate) async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        self.manage(|machine| Ok(machine.discard(id))).await
    }

    pub(crate) async fn set_paused(&self, paused: bool) -> Result<(), ManageError> {
        let record = Record::Paused { paused };
        self.manage(|_| Ok(Some(record))).await.map(drop)
    }

    pub(crate) async fn purge(&self) -> Result<u64, ManageError> {
        let mut purged = 0;
        loop {
            let mut tickets = Vec::new();
            let removed = self.with(self.now(), |state| {
                state.check()?;
                let records = state.machine.purge(PURGE_STEP);
                if let Some(journal) = self.journal.as_ref().filter(|_| !records.is_empty()) {
                    tickets.push(journal.submit(&records)?);
                }
                let removed = records.len();
                records
                    .into_iter()
                    .for_each(|record| state.machine.apply(record));
                Ok::<_, BackendError>(removed)
            })?;
            for ticket in tickets {
                self.commit(Some(ticket)).await?;
            }
            purged += removed as u64;
            if removed < PURGE_STEP {
                return Ok(purged);
            }
        }
    }

    pub(crate) fn peek(&self, after: Option<MessageId>, max: usize) -> Vec<Peeked> {
        self.with(self.now(), |state| state.machine.peek(after, max))
    }

    pub(crate) fn dead_letters(&self, after: Option<MessageId>, max: usize) -> Vec<DeadLetter> {
        self.with(self.now(), |state| state.machine.dead(after, max))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.with(self.now(), |state| state.machine.stats())
    }
}

/// Somebody who waits; leaves when dropped, and lets the next one look whether there is something to do.
struct Waiting<'a> {
    queue: &'a Embedded,
    line: Line,
    place: Option<Place>,
    /// It got what it waited for.
    served: bool,
}

impl<'a> Waiting<'a> {
    const fn new(queue: &'a Embedded, line: Line) -> Self {
        Self {
            queue,
            line,
            place: None,
            served: false,
        }
    }

    /// Waits to be woken, or for a time, while `waits` holds; true if it was refused a place.
    async fn until(&mut self, at: Wall, waits: impl Fn(&State) -> bool) -> bool {
        let mut sleeping: Option<AnySleep> = None;
        poll_fn(|cx| {
            match self.register(cx, at, &waits) {
                Registered::Full => return Poll::Ready(true),
                Registered::Served => return Poll::Ready(false),
                Registered::Waits => {}
            }
            if at == Wall::MAX {
                return Poll::Pending;
            }
            let sleeping = sleeping.get_or_insert_with(|| self.queue.sleep_until(at));
            sleeping.as_mut().poll(cx).map(|()| false)
        })
        .await
    }

    fn register(
        &mut self,
        cx: &Context<'_>,
        at: Wall,
        waits: impl Fn(&State) -> bool,
    ) -> Registered {
        let waker = cx.waker().clone();
        let armed = at < Wall::MAX;
        let max = self.queue.config.waiters_max;
        let line = self.line;
        let place = &mut self.place;
        let (registered, _old) = self.queue.with_all(|state| {
            if !waits(state) {
                return (Registered::Served, Some(waker));
            }
            let list = state.line(line);
            let waker = match *place {
                None => waker,
                Some(at) => match list.renew(at, waker, armed) {
                    Ok(old) => return (Registered::Waits, Some(old)),
                    // It was served, and looks whether there is something.
                    Err(waker) => {
                        *place = None;
                        return (Registered::Served, Some(waker));
                    }
                },
            };
            if list.len() >= max {
                return (Registered::Full, Some(waker));
            }
            *place = Some(list.join(waker, armed));
            (Registered::Waits, None)
        });
        registered
    }
}

enum Registered {
    Waits,
    Served,
    Full,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let (place, line, served) = (self.place, self.line, self.served);
        if place.is_none() && served {
            return;
        }
        let (wakes, _left) = self.queue.with_all(|state| {
            let list = state.line(line);
            let left = place.and_then(|place| list.leave(place));
            let mut wakes = Wakes::default();
            if !served {
                wakes.take(list, 1);
            }
            (wakes, left)
        });
        wakes.wake();
    }
}
