//! Maps with `:process :type :f :value`, as Jepsen writes them.

use dpat_model::{Event, Kind};

use super::edn::Edn;
use super::{KINDS, Reading, Source, function, kind};
use crate::error::InputError;
use crate::value::Value;

pub(super) fn read(reading: &mut Reading<'_>) -> Result<(), InputError> {
    let source = reading.source;
    let end = source.text.len();
    let mut edn = Edn::new(source, 0, end);
    edn.skip()?;
    let open = edn.at;
    let close = match edn.peek() {
        Some(b'[') => Some(b']'),
        Some(b'(') => Some(b')'),
        _ => None,
    };
    edn.at += usize::from(close.is_some());
    let mut state = Order::default();
    loop {
        edn.skip()?;
        match edn.peek() {
            None if close.is_some() => return Err(source.error(open, "", "is not closed")),
            None => return Ok(()),
            Some(byte) if Some(byte) == close => {
                edn.at += 1;
                edn.skip()?;
                if edn.at < end {
                    return Err(source.error(edn.at, "", "something follows the history"));
                }
                return Ok(());
            }
            Some(_) => {}
        }
        let at = edn.at;
        state.line += source.text[state.counted..at].matches('\n').count();
        state.counted = at;
        let mut fields = Fields::read(&mut edn)?;
        if let Some(event) = event(&mut fields, &source, &mut state)? {
            reading.push(at, state.line + 1, event)?;
        }
    }
}

/// What each event is compared with.
#[derive(Default)]
struct Order {
    line: usize,
    counted: usize,
    index: Option<i64>,
    time_ns: u64,
}

fn event(
    fields: &mut Fields<'_>,
    source: &Source<'_>,
    order: &mut Order,
) -> Result<Option<Event<Value>>, InputError> {
    let natural = |field: Option<(usize, Value)>, name: &str| match field {
        None => Ok(None),
        Some((at, value)) => match value.int().filter(|number| *number >= 0) {
            Some(number) => Ok(Some((at, number))),
            None => Err(source.error(at, name, "no natural number")),
        },
    };
    if let Some((at, index)) = natural(fields.take("index"), "index")? {
        if order.index.is_some_and(|before| before >= index) {
            return Err(source.error(at, "index", "does not rise"));
        }
        order.index = Some(index);
    }
    if let Some((_, time)) = natural(fields.take("time"), "time")? {
        // Jepsen's threads take the time before they queue their events, so that it may step back a little.
        order.time_ns = order.time_ns.max(time.unsigned_abs());
    }
    let (at, value) = fields.required("type")?;
    let kind = kind(&value).ok_or_else(|| source.error(at, "type", KINDS))?;
    let (at, f) = fields.required("f")?;
    let (process_at, process) = fields.required("process")?;
    if process.text().is_some() {
        return Ok(None);
    }
    let process = process
        .int()
        .and_then(|process| u64::try_from(process).ok());
    let process = process.ok_or_else(|| source.error(process_at, "process", "no number"))?;
    let f = f
        .text()
        .ok_or_else(|| source.error(at, "f", "no keyword"))?;
    let value = fields.take("value").map_or(Value::Nil, |(_, value)| value);
    let erred = fields
        .take("error")
        .is_some_and(|(_, error)| !error.is_nil());
    Ok(Some(Event {
        time_ns: order.time_ns,
        process,
        kind,
        f: function(f),
        value: if erred && kind == Kind::Fail {
            Value::Nil
        } else {
            value
        },
    }))
}

/// The fields of a map with their places.
pub(super) struct Fields<'a> {
    source: Source<'a>,
    open: usize,
    fields: Vec<(usize, Box<str>, Value)>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(edn: &mut Edn<'a>) -> Result<Self, InputError> {
        let open = edn.at;
        // A tag of the map, such as `#jepsen.history.Op`, says nothing more.
        if edn.peek() == Some(b'#') {
            while edn
                .peek()
                .is_some_and(|byte| byte != b'{' && !byte.is_ascii_whitespace())
            {
                edn.at += 1;
            }
            edn.skip()?;
        }
        if !edn.eat(b'{') {
            return Err(edn.error(edn.at, "an event is a map"));
        }
        let mut fields: Vec<(usize, Box<str>, Value)> = Vec::new();
        loop {
            edn.skip()?;
            let at = edn.at;
            if edn.eat(b'}') {
                break;
            }
            if edn.peek().is_none() {
                return Err(edn.error(open, "is not closed"));
            }
            let Value::Name(name) = edn.value(0)? else {
                return Err(edn.error(at, "a field is a keyword"));
            };
            if fields.iter().any(|(_, other, _)| *other == name) {
                edn.field = name.into();
                return Err(edn.error(at, "given twice"));
            }
            edn.skip()?;
            let at = edn.at;
            edn.field = name.to_string();
            let value = edn.value(0)?;
            edn.field.clear();
            fields.push((at, name, value));
        }
        Ok(Self {
            source: edn.source(),
            open,
            fields,
        })
    }

    /// Takes a field that may be absent.
    pub(super) fn take(&mut self, name: &str) -> Option<(usize, Value)> {
        let at = self
            .fields
            .iter()
            .position(|(_, field, _)| **field == *name)?;
        let (at, _, value) = self.fields.remove(at);
        Some((at, value))
    }

    /// Takes a field that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<(usize, Value), InputError> {
        let taken = self.take(name);
        taken.ok_or_else(|| self.source.error(self.open, name, "missing"))
    }

    /// Refuses what was not taken.
    pub(super) fn finish(self) -> Result<(), InputError> {
        match self.fields.first() {
            None => Ok(()),
            Some((at, name, _)) => Err(self.source.error(*at, name, "unknown field")),
        }
    }
}
