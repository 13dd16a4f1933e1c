//! A map a line with `:process :type :f :key :value`.

use dpat_model::{Event, Kind};

use super::edn::Edn;
use super::jepsen_edn::Fields;
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
    let end = line.offset + line.text.len();
    let mut edn = Edn::new(source, line.offset, end);
    edn.skip()?;
    let mut fields = Fields::read(&mut edn)?;
    edn.skip()?;
    if edn.at < end {
        return Err(source.error(edn.at, "", "one map a line"));
    }
    let (at, process) = fields.required("process")?;
    let process = process
        .int()
        .and_then(|process| u64::try_from(process).ok());
    let process = process.ok_or_else(|| source.error(at, "process", "no number"))?;
    let (at, value) = fields.required("type")?;
    let kind = kind(&value).ok_or_else(|| source.error(at, "type", KINDS))?;
    let (at, f) = fields.required("f")?;
    let f = match f.text() {
        Some(f @ ("get" | "put" | "append")) => function(f),
        _ => return Err(source.error(at, "f", "none of :get, :put, :append")),
    };
    let (at, key) = fields.required("key")?;
    if !matches!(key, Value::Str(_)) {
        return Err(source.error(at, "key", "no string"));
    }
    let (key_at, (at, value)) = (at, fields.required("value")?);
    fields.finish()?;
    let text = matches!(value, Value::Str(_));
    let reason = match (kind, &*f) {
        (Kind::Invoke, "get") if !value.is_nil() => "a get asks with nil",
        (Kind::Ok, "get") if !text => "a get returns a string",
        (Kind::Invoke | Kind::Ok, "put" | "append") if !text => "no string",
        _ => "",
    };
    if !reason.is_empty() {
        return Err(source.error(at, "value", reason));
    }
    let value = Value::List(vec![key, value]);
    match (
        kind,
        asked.get(&process).and_then(Value::list),
        value.list(),
    ) {
        (Kind::Invoke, ..) => {
            asked.insert(process, value.clone());
        }
        (_, Some([asked, _]), Some([key, _])) if asked != key => {
            return Err(source.error(key_at, "key", "an answer repeats the key"));
        }
        (Kind::Ok, Some([_, asked]), Some([_, value])) if f != "get" && asked != value => {
            return Err(source.error(at, "value", "an answer repeats the argument"));
        }
        _ => {}
    }
    Ok(Event {
        time_ns,
        process,
        kind,
        f,
        value,
    })
}
