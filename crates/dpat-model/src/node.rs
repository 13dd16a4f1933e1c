//! The part of an executor that simulator, network and tests share.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash};
use std::time::Duration;

use dpat_core::{Instant, Wall};

use crate::cx::Shared;
use crate::{
    Admit, Answer, Choose, Cx, Digest, Input, Lsn, Output, Peer, Process, Refusal, ReqId, Token,
};

/// The clocks of a node at one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Monotonic time.
    pub now: Instant,
    /// Wall clock.
    pub wall: Wall,
}

/// Bounds of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Requests without an answer; more are refused as busy. 1024 by default.
    pub requests_max: usize,
    /// Outputs that wait for the log; at the limit requests are refused. 65 536 by default.
    pub held_max: usize,
    /// Armed timers; more is a breach. 4096 by default.
    pub timers_max: usize,
    /// Pieces of work without a result; more is a breach. 4096 by default.
    pub works_max: usize,
    /// What a refused caller is told to wait. 10 ms by default.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 1024,
            held_max: 65_536,
            timers_max: 4096,
            works_max: 4096,
            retry_after: Duration::from_millis(10),
        }
    }
}

/// A rule that a process or its executor broke. The offending effect or input was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// The process answered a request that never was, or whose answer has left.
    NoSuchRequest(ReqId),
    /// The process answered a request whose answer waits for the log.
    AnsweredTwice(ReqId),
    /// The process armed more timers than the limit.
    TooManyTimers(usize),
    /// The process started more work than the limit.
    TooMuchWork(usize),
    /// The executor used the id of an open request again.
    DuplicateRequest(ReqId),
    /// The executor gave a result that nothing waits for.
    NoSuchWork(Token),
    /// The executor called a position durable that was never logged.
    NotLogged(Lsn),
    /// The executor did not begin with [`Input::Start`], or repeated it.
    Start,
    /// The node has halted.
    Halted,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchRequest(id) => write!(f, "answered request {}, which is not open", id.0),
            Self::AnsweredTwice(id) => write!(f, "answered request {} twice", id.0),
            Self::TooManyTimers(max) => write!(f, "armed more than timers_max = {max} timers"),
            Self::TooMuchWork(max) => {
                write!(f, "started more than works_max = {max} pieces of work")
            }
            Self::DuplicateRequest(id) => write!(f, "request {} is already open", id.0),
            Self::NoSuchWork(token) => write!(f, "nothing waits for work {}", token.number),
            Self::NotLogged(at) => write!(f, "position {} was never logged", at.0),
            Self::Start => f.write_str("start must be the first input and come once"),
            Self::Halted => f.write_str("the node has halted"),
        }
    }
}

impl std::error::Error for Breach {}

/// What an output waits for. Wrong rules exist to show that tests find them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "test-util"), allow(dead_code, unreachable_pub))] // the mutants
pub enum CommitRule {
    /// Every record logged before it, in any step.
    #[default]
    ByPosition,
    /// Mutant: only records of its own step, so that a read shows an unsynced write.
    ByStep,
    /// Mutant: nothing.
    Never,
}

type Table<K, V> = HashMap<K, V, BuildHasherDefault<Digest>>;

#[derive(Clone, Debug)]
struct Armed<T> {
    key: T,
    at: Instant,
    seq: u64,
}

/// A process with its executor's duties: requests, timers, work, and output commit.
///
/// The executor feeds inputs to [`step`](Self::step) and carries out the outputs; everything that comes out may be
/// done at once. It appends [`Output::Log`] in order, and tells with [`Input::Durable`] how far the log is durable.
/// An I/O error of the log [`halt`](Self::halt)s the node.
///
/// Complexity: a step costs the step of the process plus O(1) per effect; arming a timer is linear in the armed
/// timers, so a process with thousands keeps its own queue behind one key.
#[derive(Clone, Debug)]
pub struct Node<P: Process> {
    process: P,
    shared: Shared,
    limits: Limits,
    rule: CommitRule,
    started: bool,
    draining: bool,
    halted: bool,
    durable: Lsn,
    effects: Vec<Output<P>>,
    held: VecDeque<(Lsn, Output<P>)>,
    /// False: no answer yet. True: the answer waits for the log.
    requests: Table<ReqId, bool>,
    works: Table<Token, ()>,
    /// Sorted by key.
    timers: Vec<Armed<P::Timer>>,
}

impl<P: Process> Node<P> {
    /// Recovers a node from a snapshot and the records after it; all of them are durable.
    ///
    /// `snapshot` comes with the position of the last record that it contains.
    pub fn boot<'r>(
        me: Peer,
        config: &P::Config,
        snapshot: Option<(Lsn, &P::Snapshot)>,
        records: impl IntoIterator<Item = &'r P::Rec>,
        limits: Limits,
    ) -> Self
    where
        P::Rec: 'r,
    {
        let mut process = P::boot(me, config, snapshot.map(|(_, state)| state));
        let mut last = snapshot.map_or(Lsn::ZERO, |(at, _)| at);
        for record in records {
            last = last.next();
            process.apply(last, record);
        }
        Self {
            process,
            shared: Shared {
                me,
                reading: Reading::default(),
                last,
                works: 0,
                arms: 0,
                snapshot: false,
            },
            limits,
            rule: CommitRule::default(),
            started: false,
            draining: false,
            halted: false,
            durable: last,
            effects: Vec::new(),
            held: VecDeque::new(),
            requests: Table::default(),
            works: Table::default(),
            timers: Vec::new(),
        }
    }

    /// Feeds one input and appends to `out` what must be done; false if the process was not stepped.
    ///
    /// Not stepped: a refused or expired request (its answer is in `out`), a cancel after the answer, a timer that is
    /// no longer armed, a result asked for by an earlier life, a position that was durable already.
    ///
    /// # Errors
    /// The first [`Breach`] of the step. Other effects of the step are in `out`.
    pub fn step(
        &mut self,
        reading: Reading,
        input: Input<P>,
        choose: &mut dyn Choose,
        out: &mut Vec<Output<P>>,
    ) -> Result<bool, Breach> {
        if !self.enter(reading, &input, out)? {
            return Ok(false);
        }
        let before = self.shared.last;
        self.shared.reading = reading;
        self.process.step(
            input,
            &mut Cx {
                shared: &mut self.shared,
                choose,
                out: &mut self.effects,
            },
        );
        self.leave(before, out).map(|()| true)
    }

    /// Ends this life: answers every open request with [`Answer::Unknown`] and drops what was held.
    ///
    /// For crashes and for I/O errors of the log. Answers come in order of request ids.
    pub fn halt(&mut self, out: &mut Vec<Output<P>>) {
        self.halted = true;
        self.held.clear();
        self.timers.clear();
        self.works.clear();
        let mut open: Vec<ReqId> = self.requests.drain().map(|(id, _)| id).collect();
        open.sort_unstable();
        let answer = |id| Output::Reply {
            id,
            answer: Answer::Unknown,
        };
        out.extend(open.into_iter().map(answer));
    }

    /// Decides whether the process sees the input.
    fn enter(
        &mut self,
        reading: Reading,
        input: &Input<P>,
        out: &mut Vec<Output<P>>,
    ) -> Result<bool, Breach> {
        if self.halted {
            return Err(Breach::Halted);
        }
        if matches!(input, Input::Start) == self.started {
            return Err(Breach::Start);
        }
        match input {
            Input::Start => self.started = true,
            Input::Req { id, deadline, req } => {
                if self.requests.contains_key(id) {
                    return Err(Breach::DuplicateRequest(*id));
                }
                let refusal = if self.draining {
                    Some(Refusal::Draining)
                } else if deadline.is_past(reading.now) {
                    Some(Refusal::Expired)
                } else {
                    self.busy(req)
                        .map(|retry_after| Refusal::Busy { retry_after })
                };
                if let Some(refusal) = refusal {
                    let answer = Answer::NotDone(refusal);
                    out.push(Output::Reply { id: *id, answer });
                    return Ok(false);
                }
                self.requests.insert(*id, false);
            }
            Input::Cancel(id) => return Ok(self.requests.get(id) == Some(&false)),
            Input::Timer(key) => return Ok(self.forget(*key)),
            Input::Done { token, .. } => {
                if token.incarnation != self.shared.me.incarnation {
                    return Ok(false);
                }
                if self.works.remove(token).is_none() {
                    return Err(Breach::NoSuchWork(*token));
                }
            }
            Input::Durable(at) => {
                if *at > self.shared.last {
                    return Err(Breach::NotLogged(*at));
                }
                if *at <= self.durable {
                    return Ok(false);
                }
                self.durable = *at;
                while let Some((at, _)) = self.held.front() {
                    if *at > self.durable {
                        break;
                    }
                    if let Some((_, output)) = self.held.pop_front() {
                        self.emit(output, out);
                    }
                }
            }
            Input::Drain { .. } => self.draining = true,
            Input::Msg { .. } | Input::PeerUp(_) | Input::PeerDown(_) => {}
        }
        Ok(true)
    }

    /// Checks, holds and passes on the effects of a step.
    fn leave(&mut self, before: Lsn, out: &mut Vec<Output<P>>) -> Result<(), Breach> {
        let mut breach = None;
        let mut position = before;
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match &effect {
                Output::Log { at, .. } => position = *at,
                Output::Reply { id, .. } => match self.requests.get_mut(id) {
                    Some(answered) if !*answered => *answered = true,
                    Some(_) => {
                        breach.get_or_insert(Breach::AnsweredTwice(*id));
                        continue;
                    }
                    None => {
                        breach.get_or_insert(Breach::NoSuchRequest(*id));
                        continue;
                    }
                },
                Output::Work { token, .. } => {
                    if self.works.len() >= self.limits.works_max {
                        breach.get_or_insert(Breach::TooMuchWork(self.limits.works_max));
                        continue;
                    }
                    self.works.insert(*token, ());
                }
                Output::Arm { key, at, seq } => {
                    if !self.remember(*key, *at, *seq) {
                        breach.get_or_insert(Breach::TooManyTimers(self.limits.timers_max));
                        continue;
                    }
                }
                Output::Disarm { key } => {
                    if !self.forget(*key) {
                        continue;
                    }
                }
                Output::Send { .. } | Output::Snapshot { .. } => {}
            }
            let waits = match &effect {
                Output::Send { early, .. } | Output::Work { early, .. } => !early,
                Output::Reply { .. } => true,
                _ => false,
            };
            let uncommitted = position > self.durable
                && match self.rule {
                    CommitRule::ByPosition => true,
                    CommitRule::ByStep => position > before,
                    CommitRule::Never => false,
                };
            if waits && uncommitted {
                self.held.push_back((position, effect));
            } else {
                self.emit(effect, out);
            }
        }
        self.effects = effects;
        if std::mem::take(&mut self.shared.snapshot) {
            let snapshot = self.process.snapshot();
            let at = self.shared.last;
            out.push(Output::Snapshot { at, snapshot });
        }
        breach.map_or(Ok(()), Err)
    }

    fn emit(&mut self, output: Output<P>, out: &mut Vec<Output<P>>) {
        if let Output::Reply { id, .. } = &output {
            self.requests.remove(id);
        }
        out.push(output);
    }

    fn busy(&self, req: &P::Req) -> Option<Duration> {
        if self.requests.len() >= self.limits.requests_max || self.is_backlogged() {
            return Some(self.limits.retry_after);
        }
        match self.process.admit(req) {
            Admit::Yes => None,
            Admit::Busy { retry_after } => Some(retry_after),
        }
    }

    fn remember(&mut self, key: P::Timer, at: Instant, seq: u64) -> bool {
        let armed = Armed { key, at, seq };
        match self.timers.binary_search_by_key(&key, |timer| timer.key) {
            Ok(index) => self.timers[index] = armed,
            Err(_) if self.timers.len() >= self.limits.timers_max => return false,
            Err(index) => self.timers.insert(index, armed),
        }
        true
    }

    fn forget(&mut self, key: P::Timer) -> bool {
        let found = self.timers.binary_search_by_key(&key, |timer| timer.key);
        found.map(|index| self.timers.remove(index)).is_ok()
    }

    /// Says whether this arming still stands: neither fired, nor disarmed, nor replaced.
    #[must_use]
    pub fn is_armed(&self, key: P::Timer, seq: u64) -> bool {
        let found = self.timers.binary_search_by_key(&key, |timer| timer.key);
        found.is_ok_and(|index| self.timers[index].seq == seq)
    }

    /// Returns the timer that is due first; of equal times the one armed first. Linear.
    #[must_use]
    pub fn next_timer(&self) -> Option<(Instant, P::Timer)> {
        let first = self.timers.iter().min_by_key(|timer| (timer.at, timer.seq));
        first.map(|timer| (timer.at, timer.key))
    }

    /// Returns the armed timers in order of their keys.
    pub fn timers(&self) -> impl Iterator<Item = P::Timer> + '_ {
        self.timers.iter().map(|timer| timer.key)
    }

    /// Returns the outputs that wait for the log, with the position that each waits for.
    pub fn held(&self) -> impl Iterator<Item = (Lsn, &Output<P>)> {
        self.held.iter().map(|(at, output)| (*at, output))
    }

    /// Says whether so much is held that the executor should stop reading messages.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        self.held.len() >= self.limits.held_max
    }

    /// Says whether a draining node has nothing left to do.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining
            && self.requests.is_empty()
            && self.works.is_empty()
            && self.held.is_empty()
            && self.durable == self.shared.last
    }

    /// Says whether this life is over.
    #[must_use]
    pub const fn is_halted(&self) -> bool {
        self.halted
    }

    /// Returns how many requests have no released answer.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// Returns the process, for properties and views.
    #[must_use]
    pub const fn process(&self) -> &P {
        &self.process
    }

    /// Returns this life.
    #[must_use]
    pub const fn me(&self) -> Peer {
        self.shared.me
    }

    /// Returns the position of the last record.
    #[must_use]
    pub const fn last(&self) -> Lsn {
        self.shared.last
    }

    /// Returns the position up to which the log is durable.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    /// Replaces the commit rule by a wrong one, to show that a test finds it.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub const fn with_rule(mut self, rule: CommitRule) -> Self {
        self.rule = rule;
        self
    }

    /// Feeds what the node holds, apart from times, to a digest.
    pub fn digest(&self, digest: &mut Digest)
    where
        P::Msg: Hash,
        P::Rep: Hash,
        P::Work: Hash,
        P::Timer: Hash,
    {
        self.process.digest(digest);
        digest.volatile(&(self.shared.me, self.shared.last, self.durable));
        digest.volatile(&(self.started, self.draining, self.halted));
        for timer in &self.timers {
            digest.volatile(&timer.key);
        }
        let mut works: Vec<Token> = self.works.keys().copied().collect();
        works.sort_unstable();
        digest.volatile(&works);
        let mut requests: Vec<ReqId> = self.requests.keys().copied().collect();
        requests.sort_unstable();
        digest.volatile(&requests);
        for (at, output) in &self.held {
            digest.volatile(at);
            match output {
                Output::Send { to, msg, .. } => digest.volatile(&(to, msg)),
                Output::Reply { id, answer } => digest.volatile(&(id, answer)),
                Output::Work { token, work, .. } => digest.volatile(&(token, work)),
                _ => {}
            }
        }
    }
}
