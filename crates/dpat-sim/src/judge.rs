//! What a run is judged by.

use serde::{Deserialize, Serialize};

use crate::Coverage;

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The name of the property.
    pub property: String,
    /// The event of the run after which it was seen, counted from 0.
    pub at_event: u64,
    /// What was seen.
    pub message: String,
}

/// Collects what properties say during a run; the first that fails is the run's violation.
///
/// # Examples
/// ```
/// use dpat_sim::Judge;
///
/// let mut judge = Judge::default();
/// judge.at_event(41);
/// judge.always("one-leader", false, || "two leaders".to_owned());
/// judge.always("one-leader", false, || unreachable!("only the first is kept"));
/// assert_eq!(judge.violation().unwrap().at_event, 41);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Judge {
    event: u64,
    violation: Option<Violation>,
    sometimes: Vec<(&'static str, u64)>,
    compared: u64,
}

impl Judge {
    /// Says which event is under way; for executors.
    #[inline]
    pub const fn at_event(&mut self, event: u64) {
        self.event = event;
    }

    /// Demands that something holds whenever it is looked at.
    #[inline]
    pub fn always(
        &mut self,
        property: &'static str,
        holds: bool,
        message: impl FnOnce() -> String,
    ) {
        if !holds && self.violation.is_none() {
            self.fail(property, message());
        }
    }

    /// Reports that a property does not hold.
    #[cold]
    pub fn fail(&mut self, property: &str, message: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation {
                property: property.to_owned(),
                at_event: self.event,
                message: message.into(),
            });
        }
    }

    /// Reports a place that must not be reached.
    #[cold]
    pub fn unreachable(&mut self, property: &str) {
        self.fail(property, "reached a place that must not be reached");
    }

    /// Demands that something holds at least once in many runs; a batch in which it never does is vacuous.
    pub fn sometimes(&mut self, name: &'static str, holds: bool) {
        let times = u64::from(holds);
        match self.sometimes.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += times,
            None => self.sometimes.push((name, times)),
        }
    }

    /// Counts operations that a checker has compared; a batch without any is vacuous.
    pub const fn compared(&mut self, operations: u64) {
        self.compared += operations;
    }

    /// Returns the first property that failed.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Adds what was seen to a table and returns the violation; for executors, at the end of a run.
    #[must_use]
    pub fn finish(self, coverage: &mut Coverage) -> Option<Violation> {
        for (name, times) in self.sometimes {
            coverage.note_sometimes(name, times);
        }
        coverage.note_compared(self.compared);
        self.violation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts() {
        let mut judge = Judge::default();
        judge.always("a", true, || unreachable!("it holds"));
        assert_eq!(judge.violation(), None);
        judge.at_event(3);
        judge.unreachable("b");
        judge.at_event(4);
        judge.fail("c", "later");
        let violation = judge.finish(&mut Coverage::new(&[], &[])).unwrap();
        assert_eq!((violation.property.as_str(), violation.at_event), ("b", 3));
    }

    #[test]
    fn what_never_happened_is_known_too() {
        let mut judge = Judge::default();
        judge.sometimes("seen", false);
        judge.sometimes("seen", true);
        judge.sometimes("unseen", false);
        judge.compared(2);
        let mut coverage = Coverage::new(&[], &[]);
        assert_eq!(judge.finish(&mut coverage), None);
        let seen: Vec<_> = coverage
            .sometimes()
            .iter()
            .map(|(name, n)| (*name, *n))
            .collect();
        assert_eq!(seen, [("seen", 1), ("unseen", 0)]);
        assert_eq!(coverage.compared(), 2);
    }
}
