//! `INFO  jepsen.util - PROCESS :TYPE :F VALUE`.

use dpat_model::{Event, Kind};

use super::edn::Edn;
use super::{Asked, KINDS, Line, Reading, function, kind};
use crate::error::InputError;
use crate::value::Value;

pub(super) fn read(reading: &mut Reading<'_>) -> Result<(), InputError> {
    reading.each_line(event)
}

fn event(
    reading: &Reading<'_>,
    line: Line<'_>,
    time_ns: u64,
    asked: &mut Asked,
) -> Result<Event<Value>, InputError> {
    let source = reading.source;
    let mut words = Words { line, at: 0 };
    for expected in ["INFO", "jepsen.util", "-"] {
        let (at, word) = words.next();
        if word != expected {
            let reason = "a line begins with `INFO  jepsen.util -`";
            return Err(source.error(at, "", reason));
        }
    }
    let (at, word) = words.next();
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let process = word.parse().ok().filter(|_| digits);
    let process = process.ok_or_else(|| source.error(at, "process", "no number"))?;
    let (at, word) = words.next();
    let kind = word
        .strip_prefix(':')
        .and_then(|word| kind(&word.into()))
        .ok_or_else(|| source.error(at, "type", KINDS))?;
    let (at, word) = words.next();
    let f = match word.strip_prefix(':') {
        Some(f @ ("read" | "write" | "cas")) => f,
        _ => return Err(source.error(at, "f", "none of :read, :write, :cas")),
    };
    let at = words.skip();
    let end = line.offset + line.text.len();
    let mut edn = Edn::new(source, at, end);
    edn.field = "value".into();
    let value = edn.value(0)?;
    edn.skip()?;
    if edn.at < end {
        return Err(edn.error(edn.at, "one value a line"));
    }
    let reason = match (kind, f) {
        (Kind::Invoke, "read") if !value.is_nil() => "a read asks with nil",
        (Kind::Invoke, "write") if value.int().is_none() => "a write has an integer",
        (Kind::Invoke, "cas") if !matches!(value.list(), Some([Value::Int(_), Value::Int(_)])) => {
            "a cas has [old new]"
        }
        (Kind::Ok, "read") if value.int().is_none() && !value.is_nil() => {
            "a read returns an integer or nil"
        }
        (Kind::Ok, "write" | "cas")
            if asked
                .get(&process)
                .is_some_and(|argument| *argument != value) =>
        {
            "an answer repeats the argument"
        }
        _ => "",
    };
    if !reason.is_empty() {
        return Err(source.error(at, "value", reason));
    }
    if kind == Kind::Invoke {
        asked.insert(process, value.clone());
    }
    Ok(Event {
        time_ns,
        process,
        kind,
        f: function(f),
        value,
    })
}

struct Words<'a> {
    line: Line<'a>,
    at: usize,
}

impl<'a> Words<'a> {
    /// Goes to the next word; returns its offset in the text.
    fn skip(&mut self) -> usize {
        let rest = &self.line.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.line.offset + self.at
    }

    fn next(&mut self) -> (usize, &'a str) {
        let offset = self.skip();
        let rest = &self.line.text[self.at..];
        let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        self.at += word.len();
        (offset, word)
    }
}
