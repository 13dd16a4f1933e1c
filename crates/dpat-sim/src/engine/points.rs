//! Faults that strike at an event or at a named point.

use dpat_model::{Fault, Script, Trigger};

use crate::SpecError;

/// A place that the engine passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Just before a message of a kind leaves.
    Send(usize),
    /// Just before a message of a kind arrives.
    Deliver(usize),
    /// Just before a record is written.
    Log,
    /// Just before the process hears that its log is durable.
    Durable,
}

impl Point {
    /// Finds a point by its name in scripts.
    fn find(name: &str, kinds: &[&str]) -> Option<Self> {
        let kind = |name| kinds.iter().position(|kind| *kind == name);
        match name.split_once('.') {
            Some(("send", name)) => kind(name).map(Self::Send),
            Some(("deliver", name)) => kind(name).map(Self::Deliver),
            None if name == "log" => Some(Self::Log),
            None if name == "durable" => Some(Self::Durable),
            _ => None,
        }
    }
}

/// The operations of a script that wait for an event or a point.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// By event, the first one last.
    events: Vec<(u64, usize)>,
    /// With how many passings are left.
    named: Vec<(Point, u64, usize)>,
}

impl Points {
    pub(super) fn of(script: &Script, kinds: &[&str]) -> Result<Self, SpecError> {
        let mut points = Self::default();
        for (index, op) in script.ops.iter().enumerate() {
            if matches!(op.fault, Fault::Calls { .. }) {
                continue; // holds from the start
            }
            match &op.when {
                Trigger::At(_) => {}
                Trigger::Event(event) => points.events.push((*event, index)),
                Trigger::Point { name, nth } => {
                    let point = Point::find(name, kinds).ok_or(SpecError::Refused {
                        op: index,
                        fault: op.fault.name(),
                        reason: "waits for a point that there is not",
                    })?;
                    points.named.push((point, *nth, index));
                }
            }
        }
        points.events.sort_unstable();
        points.events.reverse();
        Ok(points)
    }

    /// Says whether anything waits for a named point.
    #[inline]
    pub(super) fn any(&self) -> bool {
        !self.named.is_empty()
    }

    /// Returns the first event that anything waits for.
    pub(super) fn next_event(&self) -> u64 {
        self.events.last().map_or(u64::MAX, |(event, _)| *event)
    }

    /// Takes an operation that is due at this event.
    pub(super) fn due_at(&mut self, event: u64) -> Option<usize> {
        if self.next_event() > event {
            return None;
        }
        self.events.pop().map(|(_, op)| op)
    }

    /// Counts a passing and takes the operations that waited for it.
    pub(super) fn pass(&mut self, point: Point) -> Vec<usize> {
        let mut due = Vec::new();
        self.named.retain_mut(|(at, left, op)| {
            if *at != point {
                return true;
            }
            *left -= 1;
            if *left == 0 {
                due.push(*op);
            }
            *left > 0
        });
        due
    }

    /// Nothing waits any more.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.named.clear();
    }
}
