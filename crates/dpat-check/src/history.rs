//! Events paired into operations.

use std::borrow::Cow;

use dpat_model::{Event, Kind, Pairing};

use crate::error::{BadEvent, BadOperation};
use crate::value::Value;

/// Where an event stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It happened; the value that its completion carries.
    Ok(Value),
    /// It surely did not happen; the value that its completion carries.
    Fail(Value),
    /// Nobody knows, or the history ends before: it may happen at any later time, or never.
    Info,
}

/// One call with its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Operation {
    /// The client.
    pub process: u64,
    /// The function, such as `read`.
    pub f: Cow<'static, str>,
    /// What the invocation carries.
    pub value: Value,
    /// How it ended.
    pub outcome: Outcome,
    /// The position of the invocation among the events.
    pub called: usize,
    /// The position of the completion among the events; none if the outcome is unknown.
    pub returned: Option<usize>,
    /// When it was invoked, in nanoseconds of the run; 0 if the format has no times.
    pub called_ns: u64,
    /// When it completed, in nanoseconds of the run; `u64::MAX` if the outcome is unknown.
    pub returned_ns: u64,
    /// The line of the invocation, counted from 1; without a file, the number of the event.
    pub line: usize,
    pub(crate) column: usize,
    completed: Place,
}

impl Operation {
    /// Returns what it carried at the end if it happened, otherwise its argument.
    #[must_use]
    pub const fn final_value(&self) -> &Value {
        match &self.outcome {
            Outcome::Ok(value) => value,
            Outcome::Fail(_) | Outcome::Info => &self.value,
        }
    }

    /// Returns the result, if it happened.
    #[must_use]
    pub const fn result(&self) -> Option<&Value> {
        match &self.outcome {
            Outcome::Ok(value) => Some(value),
            Outcome::Fail(_) | Outcome::Info => None,
        }
    }

    /// Says whether it surely did not happen.
    #[must_use]
    pub const fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Fail(_))
    }

    /// Makes an error about the invocation.
    pub(crate) fn bad(
        &self,
        index: usize,
        field: &'static str,
        reason: impl Into<String>,
    ) -> BadOperation {
        BadOperation {
            index,
            line: self.line,
            column: self.column,
            field,
            reason: reason.into(),
        }
    }

    /// Makes an error about the value of the completion.
    pub(crate) fn bad_result(&self, index: usize, reason: impl Into<String>) -> BadOperation {
        BadOperation {
            line: self.completed.line,
            column: self.completed.column,
            ..self.bad(index, "value", reason)
        }
    }
}

/// What clients saw, as operations in the order of their invocations.
///
/// # Examples
/// ```
/// use dpat_check::{History, Outcome, Value};
/// use dpat_model::{Event, Kind};
///
/// let event = |process, kind, value| Event { time_ns: 0, process, kind, f: "read".into(), value };
/// let history = History::from_events(vec![
///     event(0, Kind::Invoke, Value::Nil),
///     event(1, Kind::Invoke, Value::Nil),
///     event(0, Kind::Ok, Value::Int(3)),
/// ])?;
/// assert_eq!(history.operations().len(), 2);
/// assert_eq!(history.operations()[0].outcome, Outcome::Ok(Value::Int(3)));
/// assert_eq!(history.operations()[1].outcome, Outcome::Info); // the history ends before
/// # Ok::<(), dpat_check::BadEvent>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// Pairs the events of a run.
    ///
    /// # Errors
    /// [`BadEvent`] at the first event that cannot follow the earlier ones.
    pub fn from_events(events: impl IntoIterator<Item = Event<Value>>) -> Result<Self, BadEvent> {
        let mut builder = Builder::default();
        for (index, event) in events.into_iter().enumerate() {
            let place = Place {
                line: index + 1,
                column: 1,
            };
            builder
                .push(place, event)
                .map_err(|cause| BadEvent { index, cause })?;
        }
        Ok(builder.finish())
    }

    /// Returns the operations in the order of their invocations.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

/// Builds a history event by event.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pairing: Pairing,
    /// By event: the operation that it invokes, `usize::MAX` for completions.
    operation_of: Vec<usize>,
    operations: Vec<Operation>,
}

impl Builder {
    pub(crate) fn push(
        &mut self,
        place: Place,
        event: Event<Value>,
    ) -> Result<(), dpat_model::Unpaired> {
        let invoked = self.pairing.next(&event)?;
        let position = self.operation_of.len();
        let Some(invoked) = invoked else {
            self.operation_of.push(self.operations.len());
            self.operations.push(Operation {
                process: event.process,
                f: event.f,
                value: event.value,
                outcome: Outcome::Info,
                called: position,
                returned: None,
                called_ns: event.time_ns,
                returned_ns: u64::MAX,
                line: place.line,
                column: place.column,
                completed: place,
            });
            return Ok(());
        };
        self.operation_of.push(usize::MAX);
        let operation = &mut self.operations[self.operation_of[invoked]];
        operation.completed = place;
        match event.kind {
            Kind::Ok => operation.outcome = Outcome::Ok(event.value),
            Kind::Fail => operation.outcome = Outcome::Fail(event.value),
            Kind::Invoke | Kind::Info => return Ok(()),
        }
        operation.returned = Some(position);
        operation.returned_ns = event.time_ns;
        Ok(())
    }

    pub(crate) fn finish(self) -> History {
        History {
            operations: self.operations,
        }
    }

    pub(crate) fn events(&self) -> usize {
        self.operation_of.len()
    }
}
