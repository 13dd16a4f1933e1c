//! What all handles of a log share, and the commit that whoever leads does for everybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Poll, Waker};

use dpat_storage::{ErrorKind, Operation, Storage, StorageError};

use crate::disk::Disk;
use crate::error::{AppendError, MaintainError, ReadError};
use crate::format::{Frame, NamedPosition};
use crate::machine::{Group, Machine, Submitted};
use crate::position::Position;
use crate::recover::Recovered;
use crate::segments::{Segment, Segments};
use crate::sync::{Guard, Lock};
use crate::trace::Telemetry;
use crate::waiters::{Place, Waiters, Wants};
use crate::writer::{CommitError, Grown, Outcome, Writer};

pub(crate) struct Shared<S: Storage> {
    pub(crate) disk: Disk<S>,
    state: Lock<State<S::File>>,
    /// The storage's lock, until the log is closed.
    guard: Lock<Option<S::Lock>>,
    pub(crate) telemetry: Telemetry,
}

pub(crate) struct State<F> {
    pub(crate) machine: Machine,
    pen: Pen<F>,
    spare: Group,
    waiters: Waiters,
    pub(crate) segments: Segments,
    /// There is a committer; with its waker while it waits.
    committer: Option<Option<Waker>>,
    /// The last sync that was asked for, and the last that was done.
    sync_wanted: u64,
    sync_done: u64,
    pub(crate) snapshots: BTreeSet<NamedPosition>,
    pub(crate) low: NamedPosition,
    pub(crate) compacting: bool,
    pub(crate) snapshotting: bool,
}

/// How much memory is kept from one group to the next.
const SPARE_BYTES: usize = 1 << 20;

/// What is needed to write, and so to lead.
enum Pen<F> {
    Here(Writer<F>),
    /// Somebody leads.
    Away,
    /// The log is closed or has failed.
    Gone,
}

impl<F> Pen<F> {
    const fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    fn take(&mut self) -> Option<Writer<F>> {
        match std::mem::replace(self, Self::Away) {
            Self::Here(writer) => Some(writer),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Who wants to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A thread that waits for its own records.
    Blocking,
    /// A future that waits for its own records: it leads only where there is no committer.
    Future,
    /// The committer: it leads one group at a time.
    Committer,
}

/// How far an append has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    New(Option<Place>),
    Submitted(Submitted, Option<Place>),
    Done,
}

impl<F> State<F> {
    /// Whether there is something to commit.
    fn has_work(&self) -> bool {
        self.machine.has_open() || self.sync_wanted > self.sync_done
    }

    fn can_lead(&self, who: Who) -> bool {
        self.pen.is_here() && (who != Who::Future || self.committer.is_none())
    }

    fn is_crowded(&self, waiters_max: usize) -> bool {
        self.waiters.len() >= waiters_max
    }

    /// Tells what a commit has done. Returns whether the log goes on.
    fn publish(&mut self, outcome: Outcome, sync: u64, wakers: &mut Vec<Waker>) -> bool {
        for grown in outcome.grown {
            match grown {
                Grown::Segment { first } => self.segments.all.push(Segment::new(first)),
                Grown::Index { position, offset } => {
                    if let Some(last) = self.segments.all.last_mut() {
                        last.index.push((position, offset));
                    }
                }
            }
        }
        self.segments.end = outcome.offset;
        self.machine.progress(outcome.progress);
        let goes_on = match outcome.error {
            None => true,
            Some(CommitError::Refused(error)) => {
                self.machine.refuse(Arc::new(error));
                true
            }
            Some(CommitError::Failed(error)) => {
                self.machine.fail(Arc::new(error));
                false
            }
        };
        if goes_on {
            self.sync_done = sync;
        }
        self.waiters
            .take_ready(&self.machine, self.sync_done, wakers);
        goes_on
    }

    /// The committer's waker, if there is work and nobody does it.
    fn idle_committer(&mut self) -> Option<Waker> {
        if self.pen.is_here() && self.has_work() {
            self.committer.as_mut()?.take()
        } else {
            None
        }
    }
}

impl<S: Storage> Shared<S> {
    pub(crate) fn new(
        disk: Disk<S>,
        guard: Option<S::Lock>,
        recovered: Recovered<S::File>,
    ) -> Self {
        let pending = disk.config.pending_bytes_max;
        let state = State {
            machine: Machine::new(recovered.recovery.end, pending, disk.config.rules),
            pen: Pen::Here(recovered.writer),
            spare: Group::default(),
            waiters: Waiters::default(),
            segments: recovered.segments,
            committer: None,
            sync_wanted: 0,
            sync_done: 0,
            snapshots: recovered.snapshots,
            low: recovered.low,
            compacting: false,
            snapshotting: false,
        };
        Self {
            telemetry: Telemetry::new(&disk.config.directory),
            disk,
            state: Lock::new(state),
            guard: Lock::new(guard),
        }
    }

    pub(crate) fn state(&self) -> Guard<'_, State<S::File>> {
        self.state.lock()
    }

    fn waiters_max(&self) -> usize {
        self.disk.config.waiters_max
    }

    fn full(&self) -> AppendError {
        AppendError::Full {
            field: "waiters_max",
            limit: self.waiters_max() as u64,
        }
    }

    /// Takes a frame in, if there is room at once.
    pub(crate) fn submit(&self, frame: &Frame<'_>) -> Result<Submitted, AppendError> {
        let mut state = self.state.lock();
        let submitted = state.machine.submit(frame)?;
        let submitted = submitted.ok_or(AppendError::Full {
            field: "pending_bytes_max",
            limit: self.disk.config.pending_bytes_max,
        })?;
        let committer = state.idle_committer();
        drop(state);
        wake(committer);
        Ok(submitted)
    }

    /// Takes a frame in and waits until it is durable; leads the commit if nobody else does.
    pub(crate) fn poll_append(
        &self,
        phase: &mut Phase,
        frame: Option<&Frame<'_>>,
        waker: &Waker,
        who: Who,
    ) -> Poll<Result<Submitted, AppendError>> {
        loop {
            let mut state = self.state.lock();
            let wants = match (*phase, frame) {
                (Phase::New(place), Some(frame)) => {
                    place.inspect(|place| state.waiters.remove(*place));
                    *phase = Phase::New(None);
                    if state.is_crowded(self.waiters_max()) && !state.can_lead(who) {
                        *phase = Phase::Done;
                        return Poll::Ready(Err(self.full()));
                    }
                    match state.machine.submit(frame) {
                        Err(error) => {
                            *phase = Phase::Done;
                            return Poll::Ready(Err(error));
                        }
                        Ok(Some(submitted)) => {
                            *phase = Phase::Submitted(submitted, None);
                            Wants::Answer(submitted.ticket)
                        }
                        Ok(None) => Wants::Room,
                    }
                }
                (Phase::Submitted(submitted, place), _) => {
                    place.inspect(|place| state.waiters.remove(*place));
                    *phase = Phase::Submitted(submitted, None);
                    if let Some(answer) = state.machine.answer_of(submitted.ticket) {
                        *phase = Phase::Done;
                        return Poll::Ready(answer.map(|()| submitted));
                    }
                    Wants::Answer(submitted.ticket)
                }
                // Polled after its end, or without what it was to append.
                (Phase::Done | Phase::New(_), _) => return Poll::Ready(Err(AppendError::Closed)),
            };
            if state.can_lead(who) {
                self.lead(state, who);
                continue;
            }
            let place = Some(state.waiters.add(wants, waker, who == Who::Blocking));
            match phase {
                Phase::New(none) | Phase::Submitted(_, none) => *none = place,
                Phase::Done => {}
            }
            let committer = state.idle_committer();
            drop(state);
            wake(committer);
            return Poll::Pending;
        }
    }

    /// Forgets whoever waited in this phase.
    pub(crate) fn leave(&self, phase: &Phase) {
        if let Phase::New(Some(place)) | Phase::Submitted(_, Some(place)) = phase {
            self.state.lock().waiters.remove(*place);
        }
    }

    /// Waits until there is a record at `position`, or the log has ended.
    pub(crate) fn poll_beyond(
        &self,
        position: Position,
        place: &mut Option<Place>,
        waker: &Waker,
        who: Who,
    ) -> Poll<Result<bool, ReadError>> {
        let mut state = self.state.lock();
        if let Some(place) = place.take() {
            state.waiters.remove(place);
        }
        if position < state.machine.durable() {
            return Poll::Ready(Ok(true));
        }
        if state.machine.is_over() {
            return Poll::Ready(Ok(false));
        }
        if state.is_crowded(self.waiters_max()) {
            let limit = self.waiters_max() as u64;
            return Poll::Ready(Err(ReadError::TooManyWaiters { limit }));
        }
        let blocks = who == Who::Blocking;
        *place = Some(state.waiters.add(Wants::Beyond(position), waker, blocks));
        Poll::Pending
    }

    pub(crate) fn leave_place(&self, place: Option<Place>) {
        if let Some(place) = place {
            self.state.lock().waiters.remove(place);
        }
    }

    /// Asks for a sync, and returns its number.
    pub(crate) fn want_sync(&self) -> Result<u64, AppendError> {
        let mut state = self.state.lock();
        state.machine.check()?;
        if state.is_crowded(self.waiters_max()) {
            return Err(self.full());
        }
        state.sync_wanted += 1;
        Ok(state.sync_wanted)
    }

    /// Waits for a sync; it covers all that was submitted before it was asked for.
    pub(crate) fn poll_sync(
        &self,
        number: u64,
        place: &mut Option<Place>,
        waker: &Waker,
        who: Who,
    ) -> Poll<Result<(), AppendError>> {
        loop {
            let mut state = self.state.lock();
            if let Some(place) = place.take() {
                state.waiters.remove(place);
            }
            if number <= state.sync_done {
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = state.machine.failure() {
                return Poll::Ready(Err(AppendError::InDoubt(Arc::clone(failure))));
            }
            if matches!(state.pen, Pen::Gone) {
                return Poll::Ready(Err(AppendError::Closed));
            }
            if state.can_lead(who) {
                self.lead(state, who);
                continue;
            }
            let blocks = who == Who::Blocking;
            *place = Some(state.waiters.add(Wants::Sync(number), waker, blocks));
            let committer = state.idle_committer();
            drop(state);
            wake(committer);
            return Poll::Pending;
        }
    }

    /// Attaches the one committer.
    pub(crate) fn attach(&self) -> bool {
        let mut state = self.state.lock();
        let free = state.committer.is_none();
        if free {
            state.committer = Some(None);
        }
        free
    }

    /// The committer goes: those who wait can lead themselves again.
    pub(crate) fn detach(&self) {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        state.committer = None;
        state.waiters.take_all(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Commits a group for the committer. False: there will never be one again.
    pub(crate) fn poll_commit(&self, waker: &Waker) -> Poll<bool> {
        let mut state = self.state.lock();
        if state.machine.is_over() || matches!(state.pen, Pen::Gone) {
            return Poll::Ready(false);
        }
        if state.has_work() && state.can_lead(Who::Committer) {
            self.lead(state, Who::Committer);
            return Poll::Ready(true);
        }
        state.committer = Some(Some(waker.clone()));
        Poll::Pending
    }

    /// Commits what waits, and hands over to somebody who will commit what has come meanwhile.
    fn lead<'a>(&'a self, mut state: Guard<'a, State<S::File>>, who: Who) {
        let mut leading = Leading {
            shared: self,
            writer: state.pen.take(),
        };
        let Some(writer) = &mut leading.writer else {
            return;
        };
        let mut wakers = Vec::new();
        loop {
            let spare = std::mem::take(&mut state.spare);
            let mut group = state.machine.take(spare);
            let sync = state.sync_wanted;
            let forced = sync > state.sync_done;
            state
                .waiters
                .take_all_that(|wants| wants == Wants::Room, &mut wakers);
            drop(state);
            wakers.drain(..).for_each(Waker::wake);

            let outcome = writer.commit(&self.disk, &mut group.bytes, forced);
            self.telemetry.committed(&outcome);

            state = self.state.lock();
            state.spare = group.recycle(SPARE_BYTES);
            let goes_on = state.publish(outcome, sync, &mut wakers);
            if !goes_on {
                leading.writer = None;
                break;
            }
            if !state.has_work() {
                drop(state);
                wakers.drain(..).for_each(Waker::wake);
                writer.mark();
                state = self.state.lock();
            }
            if who == Who::Committer || !state.has_work() {
                break;
            }
            if state.committer.is_some() {
                wakers.extend(state.committer.as_mut().and_then(Option::take));
                break;
            }
            if let Some(next) = state.waiters.take_blocked() {
                wakers.push(next);
                break;
            }
            // Only futures wait, which may never be polled again: nobody else would do it.
        }
        state.pen = leading.writer.take().map_or(Pen::Gone, Pen::Here);
        state
            .waiters
            .take_all_that(|wants| wants == Wants::Rest, &mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets no more records in, and ends what can still be ended.
    pub(crate) fn stop(&self) {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        state.machine.close();
        match &mut state.committer {
            Some(committer) => wakers.extend(committer.take()),
            // Nobody waits for them, and nobody will write them.
            None => state.machine.discard(),
        }
        let state = &mut *state;
        let synced = state.sync_done;
        state
            .waiters
            .take_ready(&state.machine, synced, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Closes: commits what waits, and ends the log in order.
    pub(crate) fn poll_close(
        &self,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Poll<Result<(), MaintainError>> {
        loop {
            let mut state = self.state.lock();
            if let Some(place) = place.take() {
                state.waiters.remove(place);
            }
            if let Some(failure) = state.machine.failure() {
                return Poll::Ready(Err(MaintainError::Failed(Arc::clone(failure))));
            }
            state.machine.close();
            if state.has_work() && state.can_lead(Who::Blocking) {
                self.lead(state, Who::Blocking);
                continue;
            }
            if matches!(state.pen, Pen::Gone) {
                return Poll::Ready(Err(MaintainError::Closed));
            }
            if let Some(mut writer) = state.pen.take() {
                state.pen = Pen::Gone;
                let mut wakers = Vec::new();
                state.waiters.take_all(&mut wakers);
                wakers.extend(state.committer.as_mut().and_then(Option::take));
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
                let closed = writer.close().map_err(MaintainError::Storage);
                drop(writer);
                *self.guard.lock() = None;
                return Poll::Ready(closed);
            }
            *place = Some(state.waiters.add(Wants::Rest, waker, true));
            return Poll::Pending;
        }
    }
}

/// Somebody leads. If the storage panics, the log has failed for everybody.
struct Leading<'a, S: Storage> {
    shared: &'a Shared<S>,
    writer: Option<Writer<S::File>>,
}

impl<S: Storage> Drop for Leading<'_, S> {
    fn drop(&mut self) {
        if self.writer.take().is_none() {
            return;
        }
        let directory = &self.shared.disk.config.directory;
        let error = StorageError::new(Operation::WriteAt, directory, ErrorKind::Closed);
        let mut wakers = Vec::new();
        let mut state = self.shared.state.lock();
        state.pen = Pen::Gone;
        state.machine.fail(Arc::new(error));
        state.waiters.take_all(&mut wakers);
        wakers.extend(state.committer.as_mut().and_then(Option::take));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
