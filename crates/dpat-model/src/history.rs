//! What clients saw: the input of every checker.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// What an event of a history says about its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It happened.
    Ok,
    /// It surely did not happen.
    Fail,
    /// Nobody knows; it may happen at any later time. The process makes no further call.
    Info,
}

/// One event of a history, in the sense of Herlihy and Wing 1990 and of Jepsen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Event<V> {
    /// When, in nanoseconds of the run.
    pub time_ns: u64,
    /// The client: one thread of calls, one after the other.
    pub process: u64,
    /// What happened to the call.
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub kind: Kind,
    /// The function, such as `read`.
    pub f: Cow<'static, str>,
    /// Arguments at the invocation, results at the completion.
    pub value: V,
}

/// An event that cannot stand where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unpaired {
    /// The process invokes while a call is open.
    StillOpen,
    /// The process completes without an open call.
    NothingOpen,
    /// The completion names another function than the call.
    OtherFunction,
    /// The process goes on after an unknown outcome; the next call needs a new process.
    AfterInfo,
    /// Time goes back.
    TimeBack,
}

impl fmt::Display for Unpaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StillOpen => "the process has an open call",
            Self::NothingOpen => "the process has no open call",
            Self::OtherFunction => "the open call is of another function",
            Self::AfterInfo => "the process ended with an unknown outcome",
            Self::TimeBack => "time goes back",
        })
    }
}

impl std::error::Error for Unpaired {}

/// Checks that events form a history, one after the other.
///
/// # Examples
/// ```
/// use dpat_model::{Event, Kind, Pairing, Unpaired};
///
/// let event = |process, kind| Event { time_ns: 0, process, kind, f: "read".into(), value: () };
/// let mut pairing = Pairing::default();
/// assert_eq!(pairing.next(&event(1, Kind::Invoke)), Ok(None));
/// assert_eq!(pairing.next(&event(2, Kind::Invoke)), Ok(None));
/// assert_eq!(pairing.next(&event(1, Kind::Ok)), Ok(Some(0))); // completes the event with index 0
/// assert_eq!(pairing.next(&event(1, Kind::Ok)), Err(Unpaired::NothingOpen));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pairing {
    /// By process: the index and function of its open call, or `None` after an unknown outcome.
    open: BTreeMap<u64, Option<(usize, Cow<'static, str>)>>,
    events: usize,
    time_ns: u64,
}

impl Pairing {
    /// Takes the next event; for a completion returns the index of its invocation.
    ///
    /// # Errors
    /// [`Unpaired`] if the event cannot follow; it is then not counted.
    pub fn next<V>(&mut self, event: &Event<V>) -> Result<Option<usize>, Unpaired> {
        if event.time_ns < self.time_ns {
            return Err(Unpaired::TimeBack);
        }
        let invoked = match (event.kind, self.open.get(&event.process)) {
            (_, Some(None)) => return Err(Unpaired::AfterInfo),
            (Kind::Invoke, Some(Some(_))) => return Err(Unpaired::StillOpen),
            (Kind::Invoke, None) => None,
            (_, None) => return Err(Unpaired::NothingOpen),
            (_, Some(Some((_, f)))) if *f != event.f => return Err(Unpaired::OtherFunction),
            (_, Some(Some((index, _)))) => Some(*index),
        };
        match event.kind {
            Kind::Invoke => {
                let call = Some((self.events, event.f.clone()));
                self.open.insert(event.process, call);
            }
            Kind::Ok | Kind::Fail => {
                self.open.remove(&event.process);
            }
            Kind::Info => {
                self.open.insert(event.process, None);
            }
        }
        self.events += 1;
        self.time_ns = event.time_ns;
        Ok(invoked)
    }
}

#[cfg(feature = "json")]
pub use lines::{HistoryLimits, read_history, write_history};

#[cfg(feature = "json")]
mod lines {
    use std::io::{self, BufRead, Read, Write};

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{Event, Pairing};
    use crate::json::{InputError, Source};

    /// Bounds of a history file.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct HistoryLimits {
        /// 10 million by default.
        pub events_max: usize,
        /// 1 MiB by default.
        pub line_bytes_max: usize,
    }

    impl Default for HistoryLimits {
        fn default() -> Self {
            Self {
                events_max: 10_000_000,
                line_bytes_max: 1 << 20,
            }
        }
    }

    /// Reads a history of JSON Lines: `{"time_ns", "process", "type", "f", "value"}`, nothing else.
    ///
    /// Empty lines are skipped. `file` is the name that errors carry.
    ///
    /// # Errors
    /// [`InputError`] at the first line that is malformed, too long, cannot follow the earlier ones (see
    /// [`Unpaired`](crate::Unpaired)), or cannot be read.
    pub fn read_history<V: DeserializeOwned>(
        mut reader: impl BufRead,
        file: &str,
        limits: HistoryLimits,
    ) -> Result<Vec<Event<V>>, InputError> {
        let mut events = Vec::new();
        let mut pairing = Pairing::default();
        let mut line = Vec::new();
        for skipped in 0.. {
            line.clear();
            let allowed = limits.line_bytes_max as u64 + 1;
            let read = reader.by_ref().take(allowed).read_until(b'\n', &mut line);
            let text = std::str::from_utf8(&line);
            let source = Source {
                file,
                text: text.unwrap_or_default(),
                skipped,
            };
            let fail = |reason: &dyn std::fmt::Display| source.error(source.text, "", reason);
            if read.map_err(|error| fail(&error))? == 0 {
                break;
            }
            if line.len() > limits.line_bytes_max {
                let max = limits.line_bytes_max;
                return Err(fail(&format_args!("longer than line_bytes_max = {max}")));
            }
            let text = text.map_err(|error| fail(&error))?.trim();
            if text.is_empty() {
                continue;
            }
            if events.len() >= limits.events_max {
                let max = limits.events_max;
                return Err(fail(&format_args!("more than events_max = {max} events")));
            }
            let mut object = source.object(text, "")?;
            let event = Event {
                time_ns: object.required("time_ns")?,
                process: object.required("process")?,
                kind: object.required("type")?,
                f: object.required::<String>("f")?.into(),
                value: object.required("value")?,
            };
            object.finish()?;
            pairing
                .next(&event)
                .map_err(|unpaired| source.error(text, "", unpaired))?;
            events.push(event);
        }
        Ok(events)
    }

    /// Writes events as JSON Lines, one object a line, fields in the order of the reader's list.
    ///
    /// # Errors
    /// Whatever the writer or a value's `Serialize` reports.
    pub fn write_history<V: Serialize>(
        mut writer: impl Write,
        events: &[Event<V>],
    ) -> io::Result<()> {
        for event in events {
            serde_json::to_writer(&mut writer, event)?;
            writer.write_all(b"\n")?;
        }
        Ok(())
    }
}
