//! Group commit as a pure machine: what waits, what is under way, and what became of it.

use std::collections::VecDeque;
use std::sync::Arc;

use dpat_storage::StorageError;

use crate::error::AppendError;
use crate::format::Frame;
use crate::position::Position;
use crate::rules::Rules;

/// How many refusals are remembered for callers that ask late.
const REFUSALS_MAX: usize = 64;

/// A number for each frame, in their order, never used again: positions of refused records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// What a caller is given for a frame: the ticket, and the position of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) ticket: Ticket,
    pub(crate) position: Position,
}

/// Frames that are committed together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    frames: u64,
}

/// How far a group came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Frames that are durable.
    pub(crate) frames: u64,
    /// The position behind their last record.
    pub(crate) end: Position,
}

/// Frames that were refused, by their tickets.
#[derive(Debug)]
struct Refusal {
    from: u64,
    to: u64,
    error: AppendError,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pending_bytes_max: u64,
    open: Group,
    /// The frames of the group under way.
    taken: u64,
    /// The next position and ticket to be given.
    next: Position,
    tickets: u64,
    /// Tickets below this have their answer.
    answered: u64,
    durable: Position,
    refusals: VecDeque<Refusal>,
    /// Tickets below this, refused or not, are forgotten.
    forgotten: u64,
    failure: Option<Arc<StorageError>>,
    closed: bool,
    rules: Rules,
}

impl Machine {
    pub(crate) fn new(end: Position, pending_bytes_max: u64, rules: Rules) -> Self {
        Self {
            rules,
            pending_bytes_max,
            open: Group::default(),
            taken: 0,
            next: end,
            tickets: 0,
            answered: 0,
            durable: end,
            refusals: VecDeque::new(),
            forgotten: 0,
            failure: None,
            closed: false,
        }
    }

    pub(crate) const fn durable(&self) -> Position {
        self.durable
    }

    pub(crate) fn failure(&self) -> Option<&Arc<StorageError>> {
        self.failure.as_ref()
    }

    /// Says whether nothing will become durable any more.
    pub(crate) fn is_over(&self) -> bool {
        self.failure.is_some() || (self.closed && self.is_idle())
    }

    /// Says whether every frame has its answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.frames == 0 && self.taken == 0
    }

    pub(crate) fn has_open(&self) -> bool {
        self.open.frames > 0
    }

    /// Lets no more frames in.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Refuses whoever comes after the end.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        match &self.failure {
            Some(failure) => Err(AppendError::Failed(Arc::clone(failure))),
            None if self.closed => Err(AppendError::Closed),
            None => Ok(()),
        }
    }

    /// Takes a frame into the open group. None: no room now.
    pub(crate) fn submit(&mut self, frame: &Frame<'_>) -> Result<Option<Submitted>, AppendError> {
        self.check()?;
        let bytes = self.open.bytes.len() as u64 + frame.bytes();
        if self.has_open() && bytes > self.pending_bytes_max {
            return Ok(None);
        }
        let frames = if self.rules.batch_is_one_frame() {
            frame.push_to(&mut self.open.bytes, self.next.0);
            1
        } else {
            frame.push_split(&mut self.open.bytes, self.next.0)
        };
        self.open.frames += frames;
        self.tickets += frames;
        let submitted = Submitted {
            // That of its last frame.
            ticket: Ticket(self.tickets - 1),
            position: self.next,
        };
        self.next = self.next.after(u64::from(frame.count()));
        Ok(Some(submitted))
    }

    /// Takes the open group; `spare` becomes the next. One group is under way at a time.
    pub(crate) fn take(&mut self, spare: Group) -> Group {
        debug_assert!(self.taken == 0 && spare.frames == 0 && spare.bytes.is_empty());
        let group = std::mem::replace(&mut self.open, spare);
        self.taken = group.frames;
        group
    }

    /// The group under way has come so far.
    pub(crate) fn progress(&mut self, progress: Progress) {
        self.taken -= progress.frames;
        self.answered += progress.frames;
        if progress.frames > 0 {
            self.durable = progress.end;
        }
    }

    /// The rest of the group under way is surely not there, and what waits cannot follow it. The log goes on.
    pub(crate) fn refuse(&mut self, error: Arc<StorageError>) {
        self.answer_rest(AppendError::Refused(error));
        self.next = self.durable;
    }

    /// The rest of the group under way may be there. The log has ended.
    pub(crate) fn fail(&mut self, error: Arc<StorageError>) {
        let under_way = self.answered + self.taken;
        self.answer(under_way, AppendError::InDoubt(Arc::clone(&error)));
        self.answer_rest(AppendError::Failed(Arc::clone(&error)));
        self.failure.get_or_insert(error);
    }

    /// What waits is thrown away.
    pub(crate) fn discard(&mut self) {
        if self.taken == 0 {
            self.answer_rest(AppendError::Closed);
        }
    }

    fn answer_rest(&mut self, error: AppendError) {
        self.answer(self.tickets, error);
        self.taken = 0;
        self.open.bytes.clear();
        self.open.frames = 0;
    }

    fn answer(&mut self, to: u64, error: AppendError) {
        let from = self.answered;
        if from == to {
            return;
        }
        self.refusals.push_back(Refusal { from, to, error });
        self.answered = to;
        if self.refusals.len() > REFUSALS_MAX {
            if let Some(oldest) = self.refusals.pop_front() {
                self.forgotten = oldest.to;
            }
        }
    }

    /// Says whether a frame has its answer.
    pub(crate) const fn has_answer(&self, ticket: Ticket) -> bool {
        ticket.0 < self.answered
    }

    /// What became of a frame; none while it waits or is under way.
    pub(crate) fn answer_of(&self, ticket: Ticket) -> Option<Result<(), AppendError>> {
        if !self.has_answer(ticket) {
            return None;
        }
        if ticket.0 < self.forgotten {
            return Some(Err(AppendError::Forgotten));
        }
        let refusal = self
            .refusals
            .iter()
            .find(|refusal| (refusal.from..refusal.to).contains(&ticket.0));
        Some(refusal.map_or(Ok(()), |refusal| Err(refusal.error.clone())))
    }
}

impl Group {
    /// Makes it an empty group that keeps its memory, unless that is more than `keep`.
    pub(crate) fn recycle(mut self, keep: usize) -> Self {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.frames = 0;
        self
    }
}
