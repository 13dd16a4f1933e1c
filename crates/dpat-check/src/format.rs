//! The formats that histories come in.

mod edn;
mod jepsen_edn;
mod jepsen_log;
#[cfg(feature = "json")]
mod jsonl;
mod porcupine_kv;

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::str::FromStr;

use dpat_model::{Event, Kind};

use crate::error::InputError;
use crate::history::{Builder, History, Place};
use crate::model::UnknownName;
use crate::value::Value;

/// The largest history that is read, in bytes: 256 MiB.
pub const MAX_INPUT_BYTES: usize = 256 << 20;

/// The most events that a history may have: 10 million.
pub const MAX_EVENTS: usize = 10_000_000;

/// How a history is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Told from the first line.
    #[default]
    Auto,
    /// The log of Jepsen's first tests: `INFO  jepsen.util - PROCESS :TYPE :F VALUE`, a register.
    JepsenLog,
    /// A map a line with `:process :type :f :key :value`, as the tests of Porcupine have them; a key–value store.
    PorcupineKv,
    /// Jepsen's `history.edn`: maps, or one vector of maps, with `:process :type :f :value` and optionally `:index`,
    /// `:time`, `:error`. Events of processes that are no number, such as the nemesis, are left out, as are other
    /// fields; a failure with an `:error` loses its value.
    JepsenEdn,
    /// An object a line, as `dpat_model::write_history` writes them.
    #[cfg(feature = "json")]
    Jsonl,
}

impl Format {
    /// All formats.
    pub const ALL: &[Self] = &[
        Self::Auto,
        Self::JepsenLog,
        Self::PorcupineKv,
        Self::JepsenEdn,
        #[cfg(feature = "json")]
        Self::Jsonl,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::JepsenLog => "jepsen-log",
            Self::PorcupineKv => "porcupine-kv",
            Self::JepsenEdn => "jepsen-edn",
            #[cfg(feature = "json")]
            Self::Jsonl => "jsonl",
        }
    }

    /// Tells the format from the first line that is not empty.
    fn detect(text: &str) -> Self {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
        let line = line.unwrap_or_default();
        if line.starts_with("INFO") {
            return Self::JepsenLog;
        }
        let inside = line.strip_prefix('{').map(str::trim_start);
        #[cfg(feature = "json")]
        if inside.is_some_and(|inside| inside.starts_with('"')) {
            return Self::Jsonl;
        }
        if inside.is_some() && line.contains(":key ") {
            return Self::PorcupineKv;
        }
        Self::JepsenEdn
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.iter().find(|format| format.name() == name);
        found
            .copied()
            .ok_or_else(|| UnknownName::new(name, Self::ALL.iter().map(|format| format.name())))
    }
}

/// A history and the format that it was in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parsed {
    /// The format, never [`Format::Auto`].
    pub format: Format,
    /// The history.
    pub history: History,
}

/// Reads a history. `file` is the name that errors carry.
///
/// # Errors
/// [`InputError`] at the first place that is malformed, cannot follow what came before, or is beyond
/// [`MAX_INPUT_BYTES`] or [`MAX_EVENTS`].
///
/// # Examples
/// ```
/// use dpat_check::{Format, parse};
///
/// let log = "INFO  jepsen.util - 0\t:invoke\t:write\tnil\n";
/// let error = parse(log.as_bytes(), "h.log", Format::Auto).unwrap_err();
/// assert_eq!(error.to_string(), "h.log:1:38: value: a write has an integer");
/// ```
pub fn parse(reader: impl Read, file: &str, format: Format) -> Result<Parsed, InputError> {
    let whole = |reason: String| InputError {
        file: file.to_owned(),
        line: 1,
        column: 1,
        field: String::new(),
        reason,
    };
    let mut bytes = Vec::new();
    let read = reader
        .take(MAX_INPUT_BYTES as u64 + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| whole(error.to_string()))?;
    if bytes.len() > MAX_INPUT_BYTES {
        return Err(whole(format!("longer than {MAX_INPUT_BYTES} bytes")));
    }
    let valid = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let source = Source { file, text: good };
            return Err(source.error(good.len(), "", "no UTF-8"));
        }
    };
    let source = Source { file, text: valid };
    let format = match format {
        Format::Auto => Format::detect(valid),
        given => given,
    };
    let mut reading = Reading {
        source,
        builder: Builder::default(),
    };
    match format {
        Format::JepsenLog => jepsen_log::read(&mut reading)?,
        Format::PorcupineKv => porcupine_kv::read(&mut reading)?,
        Format::Auto | Format::JepsenEdn => jepsen_edn::read(&mut reading)?,
        #[cfg(feature = "json")]
        Format::Jsonl => jsonl::read(&mut reading)?,
    }
    Ok(Parsed {
        format,
        history: reading.builder.finish(),
    })
}

/// The text that positions are counted in.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset];
        let start = before.iter().rposition(|byte| *byte == b'\n');
        Place {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + before.len() - start.map_or(0, |at| at + 1),
        }
    }

    fn error(&self, offset: usize, field: &str, reason: impl fmt::Display) -> InputError {
        let place = self.place(offset);
        InputError {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            field: field.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Returns the lines that are not blank, each with its offset and number.
    fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let mut offset = 0;
        self.text
            .split('\n')
            .enumerate()
            .map(move |(index, text)| {
                let line = Line {
                    offset,
                    number: index + 1,
                    text: text.trim_end_matches('\r'),
                };
                offset += text.len() + 1;
                line
            })
            .filter(|line| !line.text.trim().is_empty())
    }
}

#[derive(Clone, Copy)]
struct Line<'a> {
    offset: usize,
    number: usize,
    text: &'a str,
}

/// A history that is being read.
struct Reading<'a> {
    source: Source<'a>,
    builder: Builder,
}

/// What each process has asked for.
type Asked = HashMap<u64, Value>;

/// Reads the event of a line; its time is the place of the line.
type ReadLine = fn(&Reading<'_>, Line<'_>, u64, &mut Asked) -> Result<Event<Value>, InputError>;

impl Reading<'_> {
    /// Reads a format that has an event a line.
    fn each_line(&mut self, read: ReadLine) -> Result<(), InputError> {
        let mut asked = Asked::new();
        for (index, line) in self.source.lines().enumerate() {
            let event = read(self, line, index as u64, &mut asked)?;
            self.push(line.offset, line.number, event)?;
        }
        Ok(())
    }

    /// Adds an event that stands at `offset` in line `line`.
    fn push(&mut self, offset: usize, line: usize, event: Event<Value>) -> Result<(), InputError> {
        if self.builder.events() >= MAX_EVENTS {
            let reason = format!("more than {MAX_EVENTS} events");
            return Err(self.source.error(offset, "", reason));
        }
        let start = self.source.text[..offset].rfind('\n');
        let place = Place {
            line,
            column: 1 + offset - start.map_or(0, |at| at + 1),
        };
        self.builder
            .push(place, event)
            .map_err(|cause| self.source.error(offset, "", cause))
    }
}

/// Reads the type of an event.
fn kind(value: &Value) -> Option<Kind> {
    Some(match value.text()? {
        "invoke" => Kind::Invoke,
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        "info" => Kind::Info,
        _ => return None,
    })
}

const KINDS: &str = "none of :invoke, :ok, :fail, :info";

/// Names of functions that need no allocation.
fn function(name: &str) -> std::borrow::Cow<'static, str> {
    const KNOWN: &[&str] = &[
        "read", "write", "cas", "get", "put", "append", "enqueue", "dequeue", "push", "pop", "add",
        "remove", "contains", "acquire", "release", "txn",
    ];
    match KNOWN.iter().find(|known| **known == name) {
        Some(known) => (*known).into(),
        None => name.to_owned().into(),
    }
}
