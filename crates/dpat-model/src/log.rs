//! A log in memory that loses what a crash would lose.

use std::collections::VecDeque;
use std::fmt;

use crate::{Digest, Limits, Lsn, Node, Output, Peer, Process};

/// The log of one node in memory: a snapshot, records, and how far they are durable.
///
/// Unbounded by itself: a process bounds it by asking for snapshots.
///
/// # Examples
/// ```
/// # use dpat_model::{Cx, Digest, Input, Limits, Lsn, MemLog, Output, Peer, Process};
/// # #[derive(Clone, Debug)]
/// # struct Sum(u64);
/// # impl Process for Sum {
/// #     type Config = (); type Snapshot = u64; type Req = (); type Rep = (); type Msg = ();
/// #     type Rec = u64; type Timer = (); type Work = (); type Done = ();
/// #     fn boot(_: Peer, _: &(), snapshot: Option<&u64>) -> Self { Self(snapshot.copied().unwrap_or(0)) }
/// #     fn apply(&mut self, _: Lsn, record: &u64) { self.0 += record; }
/// #     fn snapshot(&self) -> u64 { self.0 }
/// #     fn step(&mut self, _: Input<Self>, _: &mut Cx<'_, Self>) {}
/// #     fn digest(&self, digest: &mut Digest) { digest.durable(&self.0); }
/// # }
/// let mut log = MemLog::<Sum>::default();
/// log.append(3);
/// log.append(4);
/// log.sync(Lsn(1));
/// log.crash(Lsn(1)); // the unsynced record is lost
/// let node = log.boot(Peer::default(), &(), Limits::default());
/// assert_eq!(node.process().0, 3);
/// ```
#[derive(Clone, Debug)]
pub struct MemLog<P: Process> {
    snapshot: Option<(Lsn, P::Snapshot)>,
    unsynced: Option<(Lsn, P::Snapshot)>,
    /// The records after `snapshot`.
    records: VecDeque<P::Rec>,
    durable: Lsn,
}

/// Durable state that was changed without a record, or a replay that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// The position up to which the log was replayed.
    pub at: Lsn,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.0;
        write!(f, "durable state differs from a replay up to {at}")
    }
}

impl std::error::Error for Diverged {}

impl<P: Process> Default for MemLog<P> {
    fn default() -> Self {
        Self {
            snapshot: None,
            unsynced: None,
            records: VecDeque::new(),
            durable: Lsn::ZERO,
        }
    }
}

impl<P: Process> MemLog<P> {
    /// Takes records and snapshots; gives every other output back.
    pub fn take(&mut self, output: Output<P>) -> Option<Output<P>> {
        match output {
            Output::Log { record, .. } => {
                self.append(record);
            }
            Output::Snapshot { at, snapshot } => self.unsynced = Some((at, snapshot)),
            other => return Some(other),
        }
        None
    }

    /// Appends a record and returns its position.
    pub fn append(&mut self, record: P::Rec) -> Lsn {
        self.records.push_back(record);
        self.last()
    }

    /// Makes everything up to a position durable, and a snapshot of that position or an earlier one.
    pub fn sync(&mut self, upto: Lsn) {
        self.durable = self.durable.max(upto.min(self.last()));
        if let Some((at, snapshot)) = self.unsynced.take_if(|(at, _)| *at <= self.durable) {
            let covered = at.0.saturating_sub(self.base().0);
            let covered = usize::try_from(covered).unwrap_or(usize::MAX);
            self.records.drain(..covered.min(self.records.len()));
            self.snapshot = Some((at, snapshot));
        }
    }

    /// Loses the records after `kept`, but none that is durable. What is left is durable.
    pub fn crash(&mut self, kept: Lsn) {
        let kept = kept.clamp(self.durable, self.last());
        let left = usize::try_from(kept.0 - self.base().0).unwrap_or(usize::MAX);
        self.records.truncate(left);
        self.unsynced = None;
        self.durable = kept;
    }

    /// Recovers a node from everything in the log. After a crash nothing else is there.
    pub fn boot(&self, me: Peer, config: &P::Config, limits: Limits) -> Node<P> {
        let snapshot = self.snapshot.as_ref().map(|(at, state)| (*at, state));
        Node::boot(me, config, snapshot, &self.records, limits)
    }

    /// Replays the log and compares durable state with that of the running node.
    ///
    /// # Errors
    /// [`Diverged`] if the process changed durable state outside [`Process::apply`].
    pub fn audit(&self, config: &P::Config, node: &Node<P>) -> Result<(), Diverged> {
        let hash = |process: &P| {
            let mut digest = Digest::new();
            process.digest(&mut digest);
            digest.finish_durable()
        };
        let replayed = self.boot(node.me(), config, Limits::default());
        if hash(replayed.process()) == hash(node.process()) {
            Ok(())
        } else {
            Err(Diverged { at: self.last() })
        }
    }

    /// Returns the records after the durable snapshot.
    pub fn records(&self) -> impl Iterator<Item = &P::Rec> {
        self.records.iter()
    }

    /// Returns the position of the last record.
    #[must_use]
    pub fn last(&self) -> Lsn {
        Lsn(self.base().0 + self.records.len() as u64)
    }

    /// Returns the position up to which the log is durable.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    fn base(&self) -> Lsn {
        self.snapshot.as_ref().map_or(Lsn::ZERO, |(at, _)| *at)
    }
}
