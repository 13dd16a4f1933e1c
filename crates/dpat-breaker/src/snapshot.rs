//! The published view of a breaker, readable without a lock.

use crate::MAX_TRIPS;
use crate::machine::WHOLE;
use crate::sync::{AtomicU64, fence};
use crate::window::Sums;
use dpat_core::Instant;
use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The state of a breaker.
///
/// `Open` ends lazily: the first call after the open time turns it into `HalfOpen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Admits and counts every call.
    Closed,
    /// Refuses every call until the open time is over.
    Open,
    /// Admits a few probes.
    HalfOpen,
    /// Admits a growing share of the calls.
    Ramping,
    /// Refuses every call until told otherwise.
    ForcedOpen,
    /// Admits every call and counts none.
    Disabled,
    /// Admits and counts every call, never trips.
    MetricsOnly,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::Ramping,
        Self::ForcedOpen,
        Self::Disabled,
        Self::MetricsOnly,
    ];

    /// Returns the name used in events and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What made a breaker change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The failure rate reached its threshold.
    FailureRate,
    /// The slow-call rate reached its threshold.
    SlowRate,
    /// So many failures came in a row.
    ConsecutiveFailures,
    /// So many of the last calls failed.
    FailuresOfLast,
    /// The probes failed.
    ProbesFailed,
    /// The probes succeeded.
    ProbesSucceeded,
    /// A probe did not return within the maximum half-open wait.
    ProbesOverdue,
    /// The open time is over.
    OpenTimeOver,
    /// The ramp reached full traffic.
    RampDone,
    /// The caller said so.
    Manual,
}

impl Cause {
    const ALL: [Self; 10] = [
        Self::FailureRate,
        Self::SlowRate,
        Self::ConsecutiveFailures,
        Self::FailuresOfLast,
        Self::ProbesFailed,
        Self::ProbesSucceeded,
        Self::ProbesOverdue,
        Self::OpenTimeOver,
        Self::RampDone,
        Self::Manual,
    ];

    /// Returns the name used in events and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailuresOfLast => "failures_of_last",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ProbesOverdue => "probes_overdue",
            Self::OpenTimeOver => "open_time_over",
            Self::RampDone => "ramp_done",
            Self::Manual => "manual",
        }
    }

    pub(crate) const fn code(self) -> u64 {
        self as u64
    }

    pub(crate) fn from_code(code: u64) -> Self {
        decode(&Self::ALL, code)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Looks up a code that `as u64` of one of `all` produced, in the order of declaration.
fn decode<T: Copy>(all: &[T], code: u64) -> T {
    usize::try_from(code)
        .ok()
        .and_then(|index| all.get(index).copied())
        .expect("codes are written from values of the same enum")
}

/// The counts of one trip rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TripStatus {
    /// Calls in the window, or since the breaker closed where the rule has no window.
    pub calls: u32,
    /// Failures (slow calls for a slow rate) in the window, or in a row for consecutive failures.
    pub hits: u32,
    /// Weighted share of hits, 0 to 1.
    pub rate: f64,
}

/// All numbers of a breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// What led to the state.
    pub cause: Cause,
    /// Counts the periods: results of calls admitted in an earlier one change nothing.
    pub epoch: u64,
    /// When an open breaker admits a probe.
    pub retry_at: Option<Instant>,
    /// How many times the breaker has opened since it last recovered.
    pub attempt: u32,
    /// Probes under way.
    pub probes_in_flight: u32,
    /// The share of calls that is admitted, below 1 while ramping only.
    pub share: f64,
    /// Calls refused since the breaker was made.
    pub rejected_total: u64,
    pub(crate) trips: [TripStatus; MAX_TRIPS],
    pub(crate) trip_count: usize,
}

impl Snapshot {
    /// Returns the counts of each trip rule, in the order of [`trip_on`](crate::ConfigBuilder::trip_on).
    #[must_use]
    pub fn trips(&self) -> &[TripStatus] {
        &self.trips[..self.trip_count]
    }
}

/// What the machine shows of itself, apart from the sums of its trip rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) cause: Cause,
    pub(crate) epoch: u64,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) attempt: u32,
    pub(crate) probes_in_flight: u32,
    /// In millionths.
    pub(crate) share: u32,
}

const HEADER: usize = 5;
const CELLS: usize = HEADER + 2 * MAX_TRIPS;

/// The last view in two copies, one of which is always whole.
///
/// The one writer fills the copy that is not current and then makes it current. A reader starts again only if a
/// writer finished meanwhile, so a writer that is stopped half-way stops nobody (Boehm 2012, "Can Seqlocks Get Along
/// With Programming Language Memory Models?", with two buffers).
#[derive(Debug)]
pub(crate) struct Published {
    version: AtomicU64,
    copies: [[AtomicU64; CELLS]; 2],
}

impl Published {
    pub(crate) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            copies: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    /// Replaces the view. Callers hold the machine's lock, so there is one writer.
    pub(crate) fn write(&self, view: &View, trips: impl ExactSizeIterator<Item = Sums>) {
        let version = self.version.load(Relaxed) + 1;
        // A reader that sees one of the stores below also sees that the version before this one was finished, and
        // so that the copy it reads is no longer current.
        fence(Release);
        let copy = self.copy(version);
        copy[0].store(
            view.state as u64 | view.cause.code() << 8 | (trips.len() as u64) << 16,
            Relaxed,
        );
        copy[1].store(view.epoch, Relaxed);
        copy[2].store(view.retry_at.unwrap_or(Instant::MAX).as_nanos(), Relaxed);
        copy[3].store(
            u64::from(view.attempt) << 32 | u64::from(view.probes_in_flight),
            Relaxed,
        );
        copy[4].store(view.share.into(), Relaxed);
        for (trip, sums) in trips.enumerate() {
            let (counts, weights) = pack(&sums);
            copy[HEADER + 2 * trip].store(counts, Relaxed);
            copy[HEADER + 2 * trip + 1].store(weights, Relaxed);
        }
        self.version.store(version, Release);
    }

    pub(crate) fn read(&self, rejected_total: u64) -> Snapshot {
        loop {
            let version = self.version.load(Acquire);
            let cells = std::array::from_fn(|i| self.copy(version)[i].load(Relaxed));
            fence(Acquire);
            if self.version.load(Relaxed) == version {
                return unpack(&cells, rejected_total);
            }
        }
    }

    fn copy(&self, version: u64) -> &[AtomicU64; CELLS] {
        &self.copies[usize::from(version % 2 == 1)]
    }
}

/// Packs calls and hits, and the two weights scaled down together until they fit.
fn pack(sums: &Sums) -> (u64, u64) {
    const HALF: u64 = u32::MAX as u64;
    let counts = sums.calls.min(HALF) << 32 | sums.hits.min(HALF);
    let excess = 32_u32.saturating_sub(sums.weight.leading_zeros());
    let weights = (sums.weight >> excess) << 32 | sums.hit_weight >> excess;
    (counts, weights)
}

#[allow(clippy::cast_possible_truncation)] // takes packed halves apart
fn unpack(cells: &[u64; CELLS], rejected_total: u64) -> Snapshot {
    let trip_count = (cells[0] >> 16 & 0xFF) as usize;
    let until = Instant::from_nanos(cells[2]);
    let mut trips = [TripStatus::default(); MAX_TRIPS];
    for (trip, status) in trips[..trip_count].iter_mut().enumerate() {
        let (counts, weights) = (cells[HEADER + 2 * trip], cells[HEADER + 2 * trip + 1]);
        *status = TripStatus {
            calls: (counts >> 32) as u32,
            hits: counts as u32,
            rate: share(weights as u32, (weights >> 32) as u32),
        };
    }
    Snapshot {
        state: decode(&State::ALL, cells[0] & 0xFF),
        cause: Cause::from_code(cells[0] >> 8 & 0xFF),
        epoch: cells[1],
        retry_at: (until != Instant::MAX).then_some(until),
        attempt: (cells[3] >> 32) as u32,
        probes_in_flight: cells[3] as u32,
        share: share(cells[4] as u32, WHOLE),
        rejected_total,
        trips,
        trip_count,
    }
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        0.0
    } else {
        f64::from(part) / f64::from(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decode_to_the_value_they_were_written_from() {
        for state in State::ALL {
            assert_eq!(decode(&State::ALL, state as u64), state);
        }
        for cause in Cause::ALL {
            assert_eq!(Cause::from_code(cause.code()), cause);
        }
    }
}
