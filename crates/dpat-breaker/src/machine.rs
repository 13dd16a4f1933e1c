//! The breaker as a pure state machine: (state, now, input) → decision.
//!
//! No clock, lock, thread or async. This is the specification and the implementation: the handle puts it behind a
//! lock and skips the lock only where [`Machine::gate`] proves that the answer is known without it.

#[cfg(test)]
mod tests;
mod tracker;

use crate::config::{
    AfterMaxWait, Config, MAX_OPEN_TIME, OpenContext, OpenFunction, OpenRule, Ramp,
};
use crate::snapshot::{Cause, State, View};
use crate::verdict::{Outcome, Verdict};
use crate::window::Sums;
use dpat_core::{Delays, Instant, SplitMix64};
use std::sync::Arc;
use std::time::Duration;
use tracker::Tracker;

/// How long a breaker is open until its [`OpenTime::function`](crate::OpenTime::function) has answered.
const UNTIL_ANSWERED: Duration = Duration::from_secs(5);

/// The right to make one call, tagged with the period in which it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) epoch: u64,
    /// Whether it holds a probe permit, which has to go back.
    pub(crate) probe: bool,
}

/// Why a call is refused, and until when if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Open { cause: Cause, until: Instant },
    ProbesBusy,
    Ramping { until: Instant },
    ForcedOpen,
}

/// One result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    /// Zero if nobody measured.
    pub(crate) elapsed: Duration,
}

/// A change of state, to be announced after the lock is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) cause: Cause,
    pub(crate) epoch: u64,
}

/// A function that has to be asked how long the breaker stays open, outside the lock.
pub(crate) struct Question {
    pub(crate) function: OpenFunction,
    pub(crate) context: OpenContext,
}

/// What the handle may decide without asking the machine, until the next input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) epoch: u64,
    pub(crate) entry: Entry,
    /// A quick plain success changes nothing.
    pub(crate) success_is_idle: bool,
    /// Calls have to be measured.
    pub(crate) timed: bool,
    /// Every counted result depends on the time.
    pub(crate) needs_now: bool,
    /// Calls that took longer are slow for at least one rule. [`u64::MAX`] if there is none.
    pub(crate) slow_above_nanos: u64,
}

/// What the gate does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Admit.
    Pass,
    /// Admit, and count nothing.
    Off,
    /// Refuse before `until`, ask the machine from then on.
    Open { cause: Cause, until: Instant },
    /// Refuse before `until`, ask the machine from then on.
    ProbesBusy { until: Instant },
    /// Refuse.
    ForcedOpen,
    /// Ask the machine.
    Ask,
}

/// A state that the caller chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Closed,
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed,
    Open {
        since: Instant,
        until: Instant,
        /// What the last result asked for.
        requested: Option<Duration>,
    },
    HalfOpen(Probes),
    Ramping(Climb),
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

/// The half-open state.
#[derive(Clone, Debug)]
struct Probes {
    in_flight: u32,
    successes: u32,
    failures: u32,
    waiting_since: Instant,
}

impl Probes {
    fn results(&self) -> u32 {
        self.successes + self.failures
    }
}

/// The ramp under way.
#[derive(Clone, Debug)]
struct Climb {
    /// Out of [`WHOLE`], so that sums are exact.
    share: u32,
    /// Grows by the share with every call; a whole one buys an admission, so admissions are spread evenly.
    credit: u32,
    next_step: Instant,
}

/// All of the traffic, in millionths.
pub(crate) const WHOLE: u32 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Machine {
    config: Config,
    trackers: Vec<Tracker>,
    phase: Phase,
    cause: Cause,
    epoch: u64,
    attempt: u32,
    delays: Option<Delays>,
    entropy: SplitMix64,
    /// Readings of several threads arrive out of order; an older one counts as the newest seen.
    latest: Instant,
    limits: Limits,
}

/// What the trackers need to know of each call, found once a configuration.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The shortest limit of the slow-call rules; [`Duration::MAX`] if there is none.
    slow_above: Duration,
    slow_above_nanos: u64,
    needs_now: bool,
}

impl Limits {
    fn of(trackers: &[Tracker]) -> Self {
        let slow_above = trackers
            .iter()
            .filter_map(Tracker::slow_above)
            .min()
            .unwrap_or(Duration::MAX);
        Self {
            slow_above,
            slow_above_nanos: u64::try_from(slow_above.as_nanos()).unwrap_or(u64::MAX),
            needs_now: trackers.iter().any(Tracker::needs_now),
        }
    }
}

impl Machine {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let trackers = trackers(&config);
        Self {
            limits: Limits::of(&trackers),
            trackers,
            delays: delays(&config),
            config,
            phase: Phase::Closed,
            cause: Cause::Manual,
            epoch: 0,
            attempt: 0,
            entropy: SplitMix64::new(seed),
            latest: Instant::MIN,
        }
    }

    /// Decides about one call.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
    ) -> (Result<Admission, Refusal>, Option<Transition>) {
        let now = self.observe(now);
        let transition = self.wake(now);
        (self.decide(now), transition)
    }

    /// Makes the change of state that is due, if one is.
    fn wake(&mut self, now: Instant) -> Option<Transition> {
        match &mut self.phase {
            Phase::Open { until, .. } if now >= *until => {
                let probes = Probes {
                    in_flight: 0,
                    successes: 0,
                    failures: 0,
                    waiting_since: now,
                };
                Some(self.enter(Phase::HalfOpen(probes), Cause::OpenTimeOver))
            }
            Phase::HalfOpen(probes) => {
                let (wait, then) = self.config.max_wait?;
                if probes.in_flight == 0 || now.since(probes.waiting_since) < wait {
                    return None;
                }
                Some(match then {
                    AfterMaxWait::Open => self.open(now, Cause::ProbesOverdue, None),
                    AfterMaxWait::Close => self.recover(now, Cause::ProbesOverdue),
                })
            }
            Phase::Ramping(climb) => {
                let ramp = self.config.ramp?;
                climb.advance(&ramp, now);
                (climb.share == WHOLE).then(|| self.ramp_done())
            }
            _ => None,
        }
    }

    fn decide(&mut self, now: Instant) -> Result<Admission, Refusal> {
        let admission = Admission {
            epoch: self.epoch,
            probe: false,
        };
        match &mut self.phase {
            Phase::Closed | Phase::Disabled | Phase::MetricsOnly => Ok(admission),
            Phase::Open { until, .. } => Err(Refusal::Open {
                cause: self.cause,
                until: *until,
            }),
            Phase::ForcedOpen => Err(Refusal::ForcedOpen),
            Phase::HalfOpen(probes) => {
                if !has_room(&self.config, probes) {
                    return Err(Refusal::ProbesBusy);
                }
                if probes.in_flight == 0 {
                    probes.waiting_since = now;
                }
                probes.in_flight += 1;
                Ok(Admission {
                    probe: true,
                    ..admission
                })
            }
            Phase::Ramping(climb) => {
                climb.credit += climb.share;
                if climb.credit < WHOLE {
                    return Err(Refusal::Ramping {
                        until: climb.next_step,
                    });
                }
                climb.credit -= WHOLE;
                Ok(admission)
            }
        }
    }

    /// Counts one result. Returns false if it came too late to count.
    ///
    /// `now` may be [`Instant::MIN`] for a result that is a quick success while [`Gate::needs_now`] is off.
    pub(crate) fn settle(
        &mut self,
        admission: Admission,
        report: &Report,
        now: Instant,
    ) -> (bool, Option<Transition>) {
        let now = self.observe(now);
        if admission.epoch != self.epoch {
            return (false, None);
        }
        let failed = match report.verdict.outcome() {
            Outcome::Ignored => {
                self.release(admission);
                return (true, None);
            }
            Outcome::Success => false,
            Outcome::Failure => true,
        };
        let transition = match &mut self.phase {
            Phase::Closed => self.count(report, now),
            Phase::MetricsOnly => {
                self.count_without_tripping(report, now);
                None
            }
            Phase::Ramping(climb) => {
                if failed && let Some(ramp) = &self.config.ramp {
                    climb.advance(ramp, now);
                    climb.back_off(ramp, now);
                }
                self.count(report, now)
            }
            Phase::HalfOpen(_) => self.judge(failed, report, now),
            // The epoch of these states admits nothing, or counts nothing.
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => None,
        };
        (true, transition)
    }

    /// Takes back a permit whose call was given up. Decides nothing.
    pub(crate) fn release(&mut self, admission: Admission) {
        if admission.epoch == self.epoch
            && admission.probe
            && let Phase::HalfOpen(probes) = &mut self.phase
        {
            probes.in_flight -= 1;
        }
    }

    /// Changes the state by hand.
    pub(crate) fn choose(&mut self, choice: Choice) -> Transition {
        self.attempt = 0;
        self.delays = delays(&self.config);
        self.clear();
        let phase = match choice {
            Choice::Closed => Phase::Closed,
            Choice::ForcedOpen => Phase::ForcedOpen,
            Choice::Disabled => Phase::Disabled,
            Choice::MetricsOnly => Phase::MetricsOnly,
        };
        self.enter(phase, Cause::Manual)
    }

    /// Sets how long the open state of `epoch` lasts, if it still does.
    pub(crate) fn set_open_time(&mut self, epoch: u64, time: Duration) {
        if self.epoch == epoch
            && let Phase::Open { since, until, .. } = &mut self.phase
        {
            *until = *since + time.min(MAX_OPEN_TIME);
        }
    }

    /// Replaces the limits and keeps the state and, where the windows allow it, the counts.
    ///
    /// Fewer permits than probes under way are a debt: none is admitted until enough of them have returned. Returns
    /// what was replaced, to be dropped outside the lock.
    pub(crate) fn reconfigure(
        &mut self,
        mut prepared: Prepared,
        now: Instant,
    ) -> (Prepared, Option<Transition>) {
        let now = self.observe(now);
        for (new, old) in prepared.trackers.iter_mut().zip(&self.trackers) {
            new.adopt(old);
        }
        std::mem::swap(&mut self.config, &mut prepared.config);
        std::mem::swap(&mut self.trackers, &mut prepared.trackers);
        self.limits = Limits::of(&self.trackers);
        self.delays = delays(&self.config);
        let transition = match &self.phase {
            Phase::Ramping(_) if self.config.ramp.is_none() => Some(self.ramp_done()),
            // Fewer probes may be enough now.
            Phase::HalfOpen(_) => self.conclude(None, now),
            _ => None,
        };
        (prepared, transition)
    }

    /// Returns what the handle may decide by itself.
    pub(crate) fn gate(&self) -> Gate {
        let counting = matches!(self.phase, Phase::Closed | Phase::MetricsOnly);
        Gate {
            epoch: self.epoch,
            entry: self.entry(),
            success_is_idle: counting && self.trackers.iter().all(Tracker::is_idle),
            timed: self.limits.slow_above_nanos != u64::MAX
                && !matches!(self.phase, Phase::Disabled),
            needs_now: !counting || self.limits.needs_now,
            slow_above_nanos: self.limits.slow_above_nanos,
        }
    }

    fn entry(&self) -> Entry {
        match &self.phase {
            Phase::Closed | Phase::MetricsOnly => Entry::Pass,
            Phase::Disabled => Entry::Off,
            Phase::Open { until, .. } => Entry::Open {
                cause: self.cause,
                until: *until,
            },
            Phase::HalfOpen(probes) if !has_room(&self.config, probes) => Entry::ProbesBusy {
                until: match self.config.max_wait {
                    Some((wait, _)) => probes.waiting_since + wait,
                    None => Instant::MAX,
                },
            },
            Phase::HalfOpen(_) | Phase::Ramping(_) => Entry::Ask,
            Phase::ForcedOpen => Entry::ForcedOpen,
        }
    }

    pub(crate) fn view(&self) -> View {
        View {
            state: self.state(),
            cause: self.cause,
            epoch: self.epoch,
            retry_at: match &self.phase {
                Phase::Open { until, .. } => Some(*until),
                _ => None,
            },
            attempt: self.attempt,
            probes_in_flight: match &self.phase {
                Phase::HalfOpen(probes) => probes.in_flight,
                _ => 0,
            },
            share: match &self.phase {
                Phase::Ramping(climb) => climb.share,
                _ => WHOLE,
            },
        }
    }

    /// Returns the sums of each trip rule.
    pub(crate) fn sums(&self) -> impl ExactSizeIterator<Item = Sums> + '_ {
        self.trackers.iter().map(Tracker::sums)
    }

    fn state(&self) -> State {
        match &self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
            Phase::Ramping(_) => State::Ramping,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::Disabled => State::Disabled,
            Phase::MetricsOnly => State::MetricsOnly,
        }
    }

    fn observe(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn count(&mut self, report: &Report, now: Instant) -> Option<Transition> {
        self.count_without_tripping(report, now);
        let failed = report.verdict.outcome() == Outcome::Failure;
        if !failed && report.elapsed <= self.limits.slow_above {
            return None; // a quick success never trips
        }
        let cause = self
            .trackers
            .iter()
            .find_map(|tracker| tracker.trips(failed, report.elapsed))?;
        Some(self.open(now, cause, report.verdict.requested_delay()))
    }

    fn count_without_tripping(&mut self, report: &Report, now: Instant) {
        for tracker in &mut self.trackers {
            tracker.record(report, now);
        }
    }

    /// Counts a probe.
    fn judge(&mut self, failed: bool, report: &Report, now: Instant) -> Option<Transition> {
        let failed = failed || report.elapsed > self.limits.slow_above;
        let Phase::HalfOpen(probes) = &mut self.phase else {
            return None;
        };
        probes.in_flight -= 1;
        probes.waiting_since = now;
        if failed {
            probes.failures += 1;
        } else {
            probes.successes += 1;
        }
        self.conclude(report.verdict.requested_delay(), now)
    }

    /// Decides as soon as the remaining probes could not change the verdict.
    fn conclude(&mut self, requested: Option<Duration>, now: Instant) -> Option<Transition> {
        let Phase::HalfOpen(probes) = &self.phase else {
            return None;
        };
        let needed = self.config.probes.max(probes.results());
        let rate = |failures: u32| f64::from(failures) / f64::from(needed);
        let still_out = needed - probes.results();
        if rate(probes.failures) >= self.config.probe_failure_rate {
            Some(self.open(now, Cause::ProbesFailed, requested))
        } else if rate(probes.failures + still_out) < self.config.probe_failure_rate {
            Some(self.recover(now, Cause::ProbesSucceeded))
        } else {
            None
        }
    }

    fn open(&mut self, now: Instant, cause: Cause, requested: Option<Duration>) -> Transition {
        self.attempt = self.attempt.saturating_add(1);
        let mut time = match (&self.config.open_time.rule, &mut self.delays) {
            (OpenRule::Fixed(time), _) => *time,
            (OpenRule::Backoff(_), Some(delays)) => delays.next_delay(&self.entropy),
            _ => UNTIL_ANSWERED,
        };
        if let Some(requested) = requested {
            time = time.max(requested.min(self.config.open_time.retry_after_max));
        }
        let phase = Phase::Open {
            since: now,
            until: now + time.min(MAX_OPEN_TIME),
            requested,
        };
        self.enter(phase, cause)
    }

    /// Returns the question that the present open state raises, if its length comes from a function.
    pub(crate) fn question(&self) -> Option<Question> {
        let (
            OpenRule::Function(function),
            Phase::Open {
                since, requested, ..
            },
        ) = (&self.config.open_time.rule, &self.phase)
        else {
            return None;
        };
        Some(Question {
            function: Arc::clone(function),
            context: OpenContext {
                attempt: self.attempt,
                cause: self.cause,
                retry_after: *requested,
                opened_at: *since,
            },
        })
    }

    /// Leaves the half-open state for full traffic, at once or step by step.
    fn recover(&mut self, now: Instant, cause: Cause) -> Transition {
        self.clear();
        match self.config.ramp {
            Some(ramp) if ramp.start < 1.0 => {
                let share = millionths(ramp.start);
                let climb = Climb {
                    share,
                    credit: WHOLE - share, // the first call is admitted
                    next_step: now + ramp.interval,
                };
                self.enter(Phase::Ramping(climb), cause)
            }
            _ => {
                self.recovered();
                self.enter(Phase::Closed, cause)
            }
        }
    }

    /// Ends the ramp. The epoch stays: the counts of the ramp are those of the closed state.
    fn ramp_done(&mut self) -> Transition {
        self.recovered();
        let epoch = self.epoch;
        let transition = self.enter(Phase::Closed, Cause::RampDone);
        self.epoch = epoch;
        Transition {
            epoch,
            ..transition
        }
    }

    fn recovered(&mut self) {
        self.attempt = 0;
        self.delays = delays(&self.config);
    }

    fn clear(&mut self) {
        for tracker in &mut self.trackers {
            tracker.clear();
        }
    }

    fn enter(&mut self, phase: Phase, cause: Cause) -> Transition {
        let from = self.state();
        self.phase = phase;
        self.cause = cause;
        self.epoch += 1;
        Transition {
            from,
            to: self.state(),
            cause,
            epoch: self.epoch,
        }
    }
}

impl Climb {
    fn advance(&mut self, ramp: &Ramp, now: Instant) {
        // Each step adds at least a millionth and at least 5 %, so there are fewer than 300 of them.
        while self.share < WHOLE && now >= self.next_step {
            self.share = scaled(self.share, ramp.factor);
            self.next_step = self.next_step + ramp.interval;
        }
    }

    fn back_off(&mut self, ramp: &Ramp, now: Instant) {
        self.share = scaled(self.share, 1.0 / ramp.factor).max(millionths(ramp.start));
        self.next_step = now + ramp.interval;
    }
}

fn millionths(share: f64) -> u32 {
    scaled(WHOLE, share)
}

/// Multiplies, rounding up to a whole millionth and down to the whole.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a float to integer cast saturates
fn scaled(share: u32, factor: f64) -> u32 {
    // Products such as 50 000 × 1.1 that are whole in decimal must not be rounded up for their last binary digit.
    let product = f64::from(share) * factor;
    ((product - 1e-6).ceil() as u32).clamp(1, WHOLE)
}

/// New limits with their windows, allocated before the lock is taken.
#[derive(Debug)]
pub(crate) struct Prepared {
    config: Config,
    trackers: Vec<Tracker>,
}

impl Prepared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            trackers: trackers(&config),
            config,
        }
    }
}

/// Says whether one more probe may start: at most `permits` at once, and not more than the verdict still needs.
fn has_room(config: &Config, probes: &Probes) -> bool {
    let needed = config.probes.saturating_sub(probes.results());
    probes.in_flight < config.permits.min(needed)
}

fn trackers(config: &Config) -> Vec<Tracker> {
    config.trips.iter().map(Tracker::new).collect()
}

fn delays(config: &Config) -> Option<Delays> {
    match &config.open_time.rule {
        OpenRule::Backoff(backoff) => Some(backoff.delays()),
        OpenRule::Fixed(_) | OpenRule::Function(_) => None,
    }
}
