//! What one trip rule remembers.

use super::Report;
use crate::backlog::CAPACITY;
use crate::config::{Rule, Trip, Window};
use crate::snapshot::Cause;
use crate::verdict::Outcome;
use crate::window::{CountWindow, Sample, Sums, TimeWindow};
use dpat_core::Instant;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Memory {
    Count(CountWindow),
    Time(TimeWindow),
    /// Failures in a row.
    Streak(u32),
}

#[derive(Clone, Debug)]
pub(super) struct Tracker {
    trip: Trip,
    memory: Memory,
    /// Calls since the breaker closed, counted up to the minimum.
    calls: u32,
}

impl Tracker {
    pub(super) fn new(trip: &Trip) -> Self {
        let memory = match trip.rule {
            Rule::FailureRate { .. } | Rule::SlowRate { .. } => match trip.rate_window() {
                Window::Count(calls) => Memory::Count(CountWindow::new(calls)),
                Window::Time { length, buckets } => Memory::Time(TimeWindow::new(length, buckets)),
            },
            Rule::OfLast { calls, .. } => Memory::Count(CountWindow::new(calls)),
            Rule::Consecutive { .. } => Memory::Streak(0),
        };
        Self {
            trip: *trip,
            memory,
            calls: 0,
        }
    }

    /// Returns whether anything has changed that can be seen.
    #[inline]
    pub(super) fn record(&mut self, report: &Report, now: Instant) -> bool {
        let sample = self.sample(report);
        let below_minimum = self.calls < self.trip.minimum_calls;
        if below_minimum {
            self.calls += 1;
        }
        let changed = match &mut self.memory {
            Memory::Count(window) => window.push(sample),
            Memory::Time(window) => {
                window.push(now, sample);
                true
            }
            Memory::Streak(failures) => {
                let before = *failures;
                *failures = if sample.hit {
                    before.saturating_add(1)
                } else {
                    0
                };
                *failures != before
            }
        };
        changed || below_minimum
    }

    /// Says whether the rule opens the breaker now that such a call was recorded.
    pub(super) fn trips(&self, failed: bool, elapsed: Duration) -> Option<Cause> {
        let sums = self.sums();
        match self.trip.rule {
            Rule::FailureRate { threshold } => {
                (failed && self.has_minimum(&sums) && sums.rate() >= threshold)
                    .then_some(Cause::FailureRate)
            }
            Rule::SlowRate {
                threshold,
                longer_than,
            } => (elapsed > longer_than && self.has_minimum(&sums) && sums.rate() >= threshold)
                .then_some(Cause::SlowRate),
            Rule::Consecutive { failures } => {
                (failed && self.has_minimum(&sums) && sums.hits >= u64::from(failures))
                    .then_some(Cause::ConsecutiveFailures)
            }
            Rule::OfLast { failures, .. } => {
                (failed && self.has_minimum(&sums) && sums.hits >= u64::from(failures))
                    .then_some(Cause::FailuresOfLast)
            }
        }
    }

    /// Says whether another quick plain success would change nothing that can be seen.
    pub(super) fn is_idle(&self) -> bool {
        match &self.memory {
            Memory::Count(window) => {
                window.is_full_of_plain_successes() && self.calls == self.trip.minimum_calls
            }
            Memory::Time(_) => false,
            Memory::Streak(failures) => *failures == 0 && self.calls == self.trip.minimum_calls,
        }
    }

    /// Returns how many more failures surely do not trip, among any number of successes up to the backlog's capacity.
    pub(super) fn slack(&self) -> u32 {
        let sums = self.sums();
        match self.trip.rule {
            Rule::FailureRate { threshold } => {
                if sums.calls + u64::from(CAPACITY) < u64::from(self.trip.minimum_calls) {
                    u32::MAX
                } else if sums.hit_weight == sums.hits {
                    // Calls only become more, and weigh at least one each; one hit below the rounded-down reach is a
                    // whole call below the threshold.
                    let reach = threshold * narrowed(sums.calls);
                    below(reach.floor(), sums.hits)
                } else {
                    // Heavy failures have used up more than their number.
                    0
                }
            }
            Rule::SlowRate { .. } => u32::MAX,
            Rule::Consecutive { failures } | Rule::OfLast { failures, .. } => {
                below(failures.into(), sums.hits)
            }
        }
    }

    /// Returns until when results count alike, whatever their time.
    pub(super) fn until(&self) -> Instant {
        match &self.memory {
            Memory::Time(window) => window.until(),
            Memory::Count(_) | Memory::Streak(_) => Instant::MAX,
        }
    }

    pub(super) fn needs_now(&self) -> bool {
        matches!(self.memory, Memory::Time(_))
    }

    pub(super) fn slow_above(&self) -> Option<Duration> {
        match self.trip.rule {
            Rule::SlowRate { longer_than, .. } => Some(longer_than),
            _ => None,
        }
    }

    pub(super) fn sums(&self) -> Sums {
        match &self.memory {
            Memory::Count(window) => window.sums(),
            Memory::Time(window) => window.sums(),
            Memory::Streak(failures) => Sums {
                calls: self.calls.into(),
                hits: (*failures).into(),
                ..Sums::default()
            },
        }
    }

    pub(super) fn clear(&mut self) {
        self.calls = 0;
        match &mut self.memory {
            Memory::Count(window) => window.clear(),
            Memory::Time(window) => window.clear(),
            Memory::Streak(failures) => *failures = 0,
        }
    }

    /// Takes over what `old` remembers, if both look for the same and the windows are of one kind.
    pub(super) fn adopt(&mut self, old: &Self) {
        if !self.looks_for_the_same(old) {
            return;
        }
        match (&mut self.memory, &old.memory) {
            (Memory::Count(new), Memory::Count(old)) => new.adopt(old),
            (Memory::Time(new), Memory::Time(old)) => new.adopt(old),
            (Memory::Streak(new), Memory::Streak(old)) => *new = *old,
            _ => return,
        }
        self.calls = old.calls.min(self.trip.minimum_calls);
    }

    fn looks_for_the_same(&self, old: &Self) -> bool {
        match (self.trip.rule, old.trip.rule) {
            (Rule::SlowRate { longer_than: a, .. }, Rule::SlowRate { longer_than: b, .. }) => {
                a == b
            }
            (a, b) => std::mem::discriminant(&a) == std::mem::discriminant(&b),
        }
    }

    /// Rates count their minimum in the window, the others since the breaker closed.
    fn has_minimum(&self, sums: &Sums) -> bool {
        let calls = match self.trip.rule {
            Rule::FailureRate { .. } | Rule::SlowRate { .. } => sums.calls,
            Rule::Consecutive { .. } | Rule::OfLast { .. } => self.calls.into(),
        };
        calls >= u64::from(self.trip.minimum_calls)
    }

    fn sample(&self, report: &Report) -> Sample {
        let failed = report.verdict.outcome() == Outcome::Failure;
        let (hit, weight) = match self.trip.rule {
            Rule::FailureRate { .. } => (failed, report.verdict.weight()),
            Rule::SlowRate { longer_than, .. } => {
                (report.elapsed > longer_than, report.verdict.weight())
            }
            Rule::Consecutive { .. } | Rule::OfLast { .. } => (failed, 1),
        };
        Sample { hit, weight }
    }
}

/// Returns how many hits may be added and stay below `reach`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a float to integer cast saturates
fn below(reach: f64, hits: u64) -> u32 {
    (reach - 1.0 - narrowed(hits)) as u32
}

#[allow(clippy::cast_precision_loss)] // count windows hold at most a million calls
fn narrowed(calls: u64) -> f64 {
    calls as f64
}
