//! What a process can ask for during a step.

use std::time::Duration;

use dpat_core::{Instant, Wall};

use crate::node::Reading;
use crate::{Answer, Choose, Lsn, NodeIx, Output, Peer, Process, ReqId, Token};

/// What a node and all processes on it share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) me: Peer,
    pub(crate) reading: Reading,
    pub(crate) last: Lsn,
    pub(crate) works: u64,
    pub(crate) arms: u64,
    pub(crate) snapshot: bool,
}

/// The surroundings of one step: time, choices, and a buffer for effects.
///
/// The buffer is reused, so a step in steady state allocates nothing.
///
/// Output commit: what [`send`](Self::send), [`reply`](Self::reply) and [`work`](Self::work) emit leaves the node
/// only when every record logged before the call, in this or an earlier step, is durable (Strom and Yemini 1985,
/// "Optimistic Recovery in Distributed Systems"). Only the `_early` calls overtake the log.
pub struct Cx<'a, P: Process> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) choose: &'a mut dyn Choose,
    pub(crate) out: &'a mut Vec<Output<P>>,
}

impl<P: Process> std::fmt::Debug for Cx<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx")
            .field("shared", &self.shared)
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}

impl<P: Process> Cx<'_, P> {
    /// Returns this life of this node.
    #[must_use]
    pub const fn me(&self) -> Peer {
        self.shared.me
    }

    /// Returns the node's monotonic time at the step.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.shared.reading.now
    }

    /// Returns the node's wall clock at the step; it may be wrong and may step back.
    #[must_use]
    pub const fn wall(&self) -> Wall {
        self.shared.reading.wall
    }

    /// Returns a value in `0..n`, or 0 if `n` is 0 or 1. Drawn in runs, branched on by a model checker.
    ///
    /// Compiles only if [`Process::CHOOSES`] is true.
    pub fn choose(&mut self, n: u32) -> u32 {
        const {
            assert!(P::CHOOSES, "set Process::CHOOSES to call Cx::choose");
        };
        if n < 2 {
            return 0;
        }
        self.choose.choose(n).min(n - 1)
    }

    /// Appends a record to the node's log and applies it to the process.
    pub fn log(&mut self, process: &mut P, record: P::Rec) -> Lsn {
        let at = self.shared.last.next();
        self.shared.last = at;
        process.apply(at, &record);
        self.out.push(Output::Log { at, record });
        at
    }

    /// Asks for a snapshot, taken after this step, that replaces the log so far.
    pub const fn snapshot(&mut self) {
        self.shared.snapshot = true;
    }

    /// Returns the position of the last record; a reply given now waits for it.
    #[must_use]
    pub const fn position(&self) -> Lsn {
        self.shared.last
    }

    /// Sends a message once everything logged so far is durable.
    pub fn send(&mut self, to: NodeIx, msg: P::Msg) {
        let early = false;
        self.out.push(Output::Send { to, msg, early });
    }

    /// Sends a message at once, before the log is durable. It must not tell what a crash could undo.
    pub fn send_early(&mut self, to: NodeIx, msg: P::Msg) {
        let early = true;
        self.out.push(Output::Send { to, msg, early });
    }

    /// Answers a request once everything logged so far is durable.
    pub fn reply(&mut self, id: ReqId, reply: P::Rep) {
        let answer = Answer::Reply(reply);
        self.out.push(Output::Reply { id, answer });
    }

    /// Starts outside work once everything logged so far is durable.
    pub fn work(&mut self, work: P::Work) -> Token {
        self.start(work, false)
    }

    /// Starts outside work at once: for reads, and whatever a crash may forget.
    pub fn work_early(&mut self, work: P::Work) -> Token {
        self.start(work, true)
    }

    /// Arms a timer after a delay; re-arming a key replaces it.
    pub fn arm(&mut self, key: P::Timer, after: Duration) {
        self.arm_at(key, self.now() + after);
    }

    /// Arms a timer for an instant of this node's clock; re-arming a key replaces it.
    pub fn arm_at(&mut self, key: P::Timer, at: Instant) {
        self.shared.arms += 1;
        let seq = self.shared.arms;
        self.out.push(Output::Arm { key, at, seq });
    }

    /// Forgets a timer; nothing happens if it is not armed.
    pub fn disarm(&mut self, key: P::Timer) {
        self.out.push(Output::Disarm { key });
    }

    /// Runs a child process inside this step and lifts its effects in order.
    ///
    /// `buffer` is the child's reusable buffer; `lift` is usually [`Output::lift`] with the parent's constructors.
    pub fn child<C: Process, R>(
        &mut self,
        buffer: &mut Vec<Output<C>>,
        lift: impl FnMut(Output<C>) -> Option<Output<P>>,
        step: impl FnOnce(&mut Cx<'_, C>) -> R,
    ) -> R {
        const {
            assert!(
                P::CHOOSES || !C::CHOOSES,
                "the child chooses, so must the parent"
            );
        };
        let result = step(&mut Cx {
            shared: self.shared,
            choose: self.choose,
            out: buffer,
        });
        self.out.extend(buffer.drain(..).filter_map(lift));
        result
    }

    fn start(&mut self, work: P::Work, early: bool) -> Token {
        self.shared.works += 1;
        let token = Token {
            incarnation: self.shared.me.incarnation,
            number: self.shared.works,
        };
        self.out.push(Output::Work { token, work, early });
        token
    }
}
