//! The cloneable handle and its permits; the only place that synchronises.

use crate::machine::{
    Admission, Choice, Entry, Gate, Machine, Prepared, Question, Refusal, Report, Transition,
};
use crate::snapshot::{Cause, Published};
use crate::sync::{AtomicU64, Lock, Padded};
use crate::trace::Telemetry;
use crate::verdict::Outcome;
use crate::{Config, Reason, Rejected, Snapshot, State, Verdict};
use dpat_core::{Clock, Entropy, Instant, SystemClock, SystemEntropy};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use std::time::Duration;

/// A circuit breaker. Cloning is cheap and shares the state.
///
/// `C` is the clock; [`ManualTime`](https://docs.rs/dpat-core) makes tests run in virtual time.
///
/// # Examples
/// ```
/// use dpat_breaker::{Breaker, CallError};
///
/// let breaker = Breaker::default();
/// let answer: Result<u32, CallError<std::io::Error>> = breaker.call_sync(|| Ok(42));
/// assert_eq!(answer.unwrap(), 42);
/// ```
pub struct Breaker<C = SystemClock> {
    inner: Arc<Inner<C>>,
}

struct Inner<C> {
    gate: Padded<SharedGate>,
    rejected: Padded<AtomicU64>,
    machine: Lock<Machine>,
    published: Published,
    telemetry: Telemetry,
    clock: C,
}

/// The machine's [`Gate`], readable without the lock.
///
/// `until` and `slow_above` are stored before `word`, so that whoever sees a word sees values at least as new.
struct SharedGate {
    word: AtomicU64,
    until: AtomicU64,
    slow_above: AtomicU64,
}

/// Epoch and flags in one word, so that one load sees both.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    const PASS: u64 = 0;
    const OFF: u64 = 1;
    const OPEN: u64 = 2;
    const PROBES_BUSY: u64 = 3;
    const FORCED_OPEN: u64 = 4;
    const ASK: u64 = 5;
    const ENTRY: u64 = 0b111;
    const SUCCESS_IS_IDLE: u64 = 1 << 3;
    const TIMED: u64 = 1 << 4;
    const NEEDS_NOW: u64 = 1 << 5;
    const CAUSE_SHIFT: u32 = 8;
    const CAUSE: u64 = 0xFF;
    const EPOCH_SHIFT: u32 = 16;

    fn new(gate: &Gate) -> Self {
        let entry = match gate.entry {
            Entry::Pass => Self::PASS,
            Entry::Off => Self::OFF,
            Entry::Open { cause, .. } => Self::OPEN | cause.code() << Self::CAUSE_SHIFT,
            Entry::ProbesBusy { .. } => Self::PROBES_BUSY,
            Entry::ForcedOpen => Self::FORCED_OPEN,
            Entry::Ask => Self::ASK,
        };
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        Self(
            entry
                | flag(gate.success_is_idle, Self::SUCCESS_IS_IDLE)
                | flag(gate.timed, Self::TIMED)
                | flag(gate.needs_now, Self::NEEDS_NOW)
                | gate.epoch << Self::EPOCH_SHIFT,
        )
    }

    const fn entry(self) -> u64 {
        self.0 & Self::ENTRY
    }

    const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    const fn epoch(self) -> u64 {
        self.0 >> Self::EPOCH_SHIFT
    }

    fn cause(self) -> Cause {
        Cause::from_code(self.0 >> Self::CAUSE_SHIFT & Self::CAUSE)
    }
}

impl Breaker {
    /// Makes a breaker on the system's clock.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, SystemClock)
    }
}

impl Default for Breaker {
    /// A breaker that opens at 50 % failures of the last 100 calls; see [`Config`].
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl<C: Clock> Breaker<C> {
    /// Makes a breaker on `clock`.
    #[must_use]
    pub fn with_clock(config: Config, clock: C) -> Self {
        let seed = config.seed.unwrap_or_else(|| SystemEntropy.next_u64());
        let telemetry = Telemetry::new(Arc::clone(&config.name));
        let machine = Machine::new(config, seed);
        let inner = Inner {
            gate: Padded(SharedGate {
                word: AtomicU64::new(0),
                until: AtomicU64::new(0),
                slow_above: AtomicU64::new(0),
            }),
            rejected: Padded(AtomicU64::new(0)),
            published: Published::new(),
            telemetry,
            clock,
            machine: Lock::new(machine),
        };
        inner.publish(&inner.machine.lock());
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Asks for the right to make one call. Never waits.
    ///
    /// A closed breaker answers with one atomic load and no lock; an open one with two and a clock reading.
    ///
    /// # Errors
    /// [`Rejected`] says why and when to ask again.
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_, C>, Rejected> {
        Ok(Permit {
            ticket: self.inner.acquire()?,
            breaker: self,
        })
    }

    /// Asks for the right to make one call, as a permit that can be sent anywhere.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_owned(&self) -> Result<OwnedPermit<C>, Rejected> {
        Ok(OwnedPermit {
            ticket: self.inner.acquire()?,
            breaker: self.clone(),
        })
    }

    /// Returns all numbers at one moment, without a lock.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.inner.published.read(self.inner.rejected.load(Relaxed))
    }

    /// Returns the state, without a lock.
    #[must_use]
    pub fn state(&self) -> State {
        self.snapshot().state
    }

    /// Returns the name used in events and counters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.telemetry.name
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> &C {
        &self.inner.clock
    }

    /// Closes the breaker and forgets all counts.
    pub fn reset(&self) {
        self.choose(Choice::Closed);
    }

    /// Refuses every call until another state is chosen.
    pub fn force_open(&self) {
        self.choose(Choice::ForcedOpen);
    }

    /// Admits every call and counts none until another state is chosen.
    pub fn disable(&self) {
        self.choose(Choice::Disabled);
    }

    /// Admits and counts every call, and never trips, until another state is chosen.
    pub fn metrics_only(&self) {
        self.choose(Choice::MetricsOnly);
    }

    /// Replaces the limits while calls go on. The name and the seed stay.
    ///
    /// The state stays, and so do the most recent counts of each rule of the same kind at the same place. Fewer
    /// half-open permits than probes under way are paid back as those return. Holds the lock for as long as it takes
    /// to copy the counts; windows are allocated and freed outside it.
    pub fn reconfigure(&self, config: Config) {
        let prepared = Prepared::new(config);
        let now = self.inner.clock.now();
        let replaced = self
            .inner
            .with_machine(|machine| machine.reconfigure(prepared, now));
        drop(replaced);
    }

    fn choose(&self, choice: Choice) {
        self.inner
            .with_machine(|machine| ((), Some(machine.choose(choice))));
    }

    /// Says whether this is the only handle.
    pub(crate) fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }
}

impl<C: Clock> Inner<C> {
    #[inline]
    fn acquire(&self) -> Result<Ticket, Rejected> {
        let word = Word(self.gate.word.load(Acquire));
        if matches!(word.entry(), Word::PASS | Word::OFF) {
            let admission = Admission {
                epoch: word.epoch(),
                probe: false,
            };
            Ok(self.ticket(admission, word.has(Word::TIMED)))
        } else {
            self.acquire_not_closed(word)
        }
    }

    #[inline]
    fn ticket(&self, admission: Admission, timed: bool) -> Ticket {
        let started = if timed {
            self.clock.now()
        } else {
            Instant::MAX
        };
        Ticket::new(admission, started)
    }

    #[cold]
    fn acquire_not_closed(&self, word: Word) -> Result<Ticket, Rejected> {
        let now = self.clock.now();
        let until = Instant::from_nanos(self.gate.until.load(Relaxed));
        let refusal = match word.entry() {
            Word::FORCED_OPEN => Refusal::ForcedOpen,
            Word::OPEN if now < until => Refusal::Open {
                cause: word.cause(),
                until,
            },
            Word::PROBES_BUSY if now < until => Refusal::ProbesBusy,
            _ => match self.with_machine(|machine| machine.admit(now)) {
                Ok(admission) => {
                    let timed = Word(self.gate.word.load(Relaxed)).has(Word::TIMED);
                    return Ok(self.ticket(admission, timed));
                }
                Err(refusal) => refusal,
            },
        };
        self.rejected.fetch_add(1, Relaxed);
        self.telemetry.rejected();
        Err(match refusal {
            Refusal::Open { cause, until } => Rejected::new(Reason::Open(cause), Some(until), now),
            Refusal::ProbesBusy => Rejected::new(Reason::ProbesBusy, None, now),
            Refusal::Ramping { until } => Rejected::new(Reason::Ramping, Some(until), now),
            Refusal::ForcedOpen => Rejected::new(Reason::ForcedOpen, None, now),
        })
    }

    #[inline]
    fn settle(&self, ticket: Ticket, verdict: Verdict, measured: Option<Duration>) {
        self.telemetry.returned(verdict.outcome());
        let word = Word(self.gate.word.load(Acquire));
        let admission = ticket.admission();
        if word.epoch() != admission.epoch || word.entry() == Word::OFF {
            return;
        }
        let (now, elapsed) = match measured {
            Some(elapsed) => (Instant::MIN, elapsed),
            None if ticket.started == Instant::MAX => (Instant::MIN, Duration::ZERO),
            None => {
                let now = self.clock.now();
                (now, now.since(ticket.started))
            }
        };
        let quick = elapsed.is_zero()
            || elapsed.as_nanos() <= u128::from(self.gate.slow_above.load(Relaxed));
        if quick && verdict.is_plain_success() && word.has(Word::SUCCESS_IS_IDLE) {
            // The machine would not change: counted at the moment of the load above.
            return;
        }
        let untimed = quick && verdict.outcome() == Outcome::Success && !word.has(Word::NEEDS_NOW);
        let now = if untimed || now > Instant::MIN {
            now
        } else {
            self.clock.now()
        };
        self.settle_counted(admission, &Report { verdict, elapsed }, now);
    }

    #[inline(never)]
    fn settle_counted(&self, admission: Admission, report: &Report, now: Instant) {
        self.with_machine(|machine| machine.settle(admission, report, now));
    }

    #[cold]
    fn release(&self, admission: Admission) {
        self.with_machine(|machine| {
            machine.release(admission);
            ((), None)
        });
    }

    /// Runs one step of the machine, publishes, unlocks, and only then announces.
    ///
    /// `step` is ours: no code of the caller (clock, entropy, subscriber, open-time function) runs under the lock.
    #[inline]
    fn with_machine<R>(&self, step: impl FnOnce(&mut Machine) -> (R, Option<Transition>)) -> R {
        let (result, transition, question) = {
            let mut machine = self.machine.lock();
            let (result, transition) = step(&mut machine);
            self.publish(&machine);
            let question = match &transition {
                Some(transition) if transition.to == State::Open => machine.question(),
                _ => None,
            };
            (result, transition, question)
        };
        if let Some(transition) = transition {
            self.announce(&transition, question);
        }
        result
    }

    #[cold]
    fn announce(&self, transition: &Transition, question: Option<Question>) {
        self.telemetry.state_changed(transition);
        if let Some(Question { function, context }) = question {
            let time = function(&context);
            let mut machine = self.machine.lock();
            machine.set_open_time(transition.epoch, time);
            self.publish(&machine);
        }
    }

    /// Shows the machine to those who do not lock. The caller holds the lock.
    #[inline]
    fn publish(&self, machine: &Machine) {
        let gate = machine.gate();
        let until = match gate.entry {
            Entry::Open { until, .. } | Entry::ProbesBusy { until } => until,
            _ => Instant::MIN,
        };
        self.published.write(&machine.view(), machine.sums());
        set(&self.gate.until, until.as_nanos(), Relaxed);
        set(&self.gate.slow_above, gate.slow_above_nanos, Relaxed);
        set(&self.gate.word, Word::new(&gate).0, Release);
    }
}

/// Stores only what is new, so that the line stays shared among the threads that read it. There is one writer.
#[inline]
fn set(cell: &AtomicU64, value: u64, order: Ordering) {
    if cell.load(Relaxed) != value {
        cell.store(value, order);
    }
}

/// What a permit holds: an admission and its start, in two words so that a call keeps them in registers.
#[derive(Clone, Copy)]
struct Ticket {
    /// The epoch, and in the lowest bit whether a probe's place has to go back.
    tag: u64,
    /// [`Instant::MAX`] if the call is not measured.
    started: Instant,
}

impl Ticket {
    const PROBE: u64 = 1;

    #[inline]
    fn new(admission: Admission, started: Instant) -> Self {
        Self {
            tag: admission.epoch << 1 | u64::from(admission.probe),
            started,
        }
    }

    const fn admission(self) -> Admission {
        Admission {
            epoch: self.tag >> 1,
            probe: self.is_probe(),
        }
    }

    const fn is_probe(self) -> bool {
        self.tag & Self::PROBE != 0
    }

    /// Leaves nothing to give back.
    fn take(&mut self) -> Self {
        let taken = *self;
        self.tag &= !Self::PROBE;
        taken
    }
}

macro_rules! permit_methods {
    () => {
        /// Reports that the other side did its work.
        #[inline]
        pub fn success(self) {
            self.record(Verdict::success());
        }

        /// Reports that the other side failed.
        pub fn failure(self) {
            self.record(Verdict::failure());
        }

        /// Gives the permit back without a result, as dropping it does.
        pub fn ignore(self) {
            self.record(Verdict::ignored());
        }

        /// Reports a verdict; the time since the permit was given is taken from the clock where a rule needs it.
        #[inline]
        pub fn record(mut self, verdict: impl Into<Verdict>) {
            self.settle(verdict.into(), None);
        }

        /// Reports a verdict on a call that took `elapsed`.
        pub fn record_elapsed(mut self, verdict: impl Into<Verdict>, elapsed: Duration) {
            self.settle(verdict.into(), Some(elapsed));
        }

        #[inline]
        fn settle(&mut self, verdict: Verdict, elapsed: Option<Duration>) {
            if verdict.outcome() == Outcome::Ignored {
                // Dropping gives it back.
                self.breaker.inner.telemetry.returned(Outcome::Ignored);
                return;
            }
            let ticket = self.ticket.take();
            self.breaker.inner.settle(ticket, verdict, elapsed);
        }
    };
}

/// The right to make one call. Report the result, or drop it to give it back.
///
/// Dropping it (cancellation, panic, time-out) returns a probe's place exactly once and counts nothing. A result that
/// arrives after the breaker has changed its period changes nothing.
#[must_use = "dropping a permit gives it back without a result"]
pub struct Permit<'a, C: Clock = SystemClock> {
    ticket: Ticket,
    breaker: &'a Breaker<C>,
}

impl<C: Clock> Permit<'_, C> {
    permit_methods!();
}

impl<C: Clock> Drop for Permit<'_, C> {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.is_probe() {
            self.breaker.inner.release(self.ticket.admission());
        }
    }
}

/// A [`Permit`] that owns a handle of its breaker.
#[must_use = "dropping a permit gives it back without a result"]
pub struct OwnedPermit<C: Clock = SystemClock> {
    ticket: Ticket,
    breaker: Breaker<C>,
}

impl<C: Clock> OwnedPermit<C> {
    permit_methods!();
}

impl<C: Clock> Drop for OwnedPermit<C> {
    fn drop(&mut self) {
        if self.ticket.is_probe() {
            self.breaker.inner.release(self.ticket.admission());
        }
    }
}

impl<C> Clone for Breaker<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<C: Clock> fmt::Debug for Breaker<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("name", &self.inner.telemetry.name)
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

impl<C: Clock> fmt::Debug for Permit<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("breaker", &self.breaker.inner.telemetry.name)
            .field("probe", &self.ticket.is_probe())
            .finish_non_exhaustive()
    }
}

impl<C: Clock> fmt::Debug for OwnedPermit<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedPermit")
            .field("breaker", &self.breaker.inner.telemetry.name)
            .field("probe", &self.ticket.is_probe())
            .finish_non_exhaustive()
    }
}
