//! `{"time_ns", "process", "type", "f", "value"}`, an object a line.

use dpat_model::{Event, HistoryLimits, read_history};

use super::{MAX_EVENTS, Reading, function};
use crate::error::InputError;
use crate::value::Value;

pub(super) fn read(reading: &mut Reading<'_>) -> Result<(), InputError> {
    let source = reading.source;
    let mut limits = HistoryLimits::default();
    limits.events_max = MAX_EVENTS;
    let events = read_history::<Value>(source.text.as_bytes(), source.file, limits)?;
    for (line, event) in source.lines().zip(events) {
        let indent = line.text.len() - line.text.trim_start().len();
        let f = function(&event.f);
        reading.push(line.offset + indent, line.number, Event { f, ..event })?;
    }
    Ok(())
}
