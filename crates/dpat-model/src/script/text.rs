//! Scripts as JSON text.

use std::fmt::{self, Write as _};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Fault, MAX_NODES, MAX_OPS, Nodes, Op, Script, Trigger, check_name};
use crate::json::{InputError, Object, Source};

/// Refuses an operation by the name of a field and the reason.
pub type OpCheck<'a> = dyn Fn(&Op) -> Result<(), (&'static str, String)> + 'a;

/// What an executor asks of a script beyond its form; by default nothing.
#[derive(Clone, Copy)]
pub struct Accept<'a> {
    /// The protocol or scenario that it must be for; any if absent.
    pub protocol: Option<&'a str>,
    /// The names of the nodes; none for a system whose nodes have no names.
    pub names: &'a [&'a str],
    /// The fewest and the most nodes that it may be for.
    pub nodes: (u32, u32),
    /// Which operations it can carry out.
    pub op: &'a OpCheck<'a>,
}

impl Default for Accept<'_> {
    fn default() -> Self {
        Self {
            protocol: None,
            names: &[],
            nodes: (1, MAX_NODES),
            op: &|_| Ok(()),
        }
    }
}

impl fmt::Debug for Accept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept")
            .field("protocol", &self.protocol)
            .field("names", &self.names)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl Script {
    /// The JSON Schema of scripts (draft 2020-12). [`Script::parse`] checks more: nodes in range and repeated fields.
    pub const SCHEMA: &'static str = include_str!("../../schema/fault-script.schema.json");
    /// The only version that is read and written.
    pub const VERSION: u64 = 1;
    /// The longest text that is parsed.
    pub const MAX_BYTES: usize = 16 << 20;

    /// Reads a script. Strict: unknown, repeated, missing and out-of-range fields are errors.
    ///
    /// `file` is the name that errors carry.
    ///
    /// # Errors
    /// [`InputError`] with line, column and path of the first bad field.
    ///
    /// # Examples
    /// ```
    /// use dpat_model::Script;
    ///
    /// let text = r#"{"version": 1, "protocol": "echo", "nodes": 3, "seed": 7,
    ///   "ops": [{"at_us": 100, "do": "crash", "node": 3}]}"#;
    /// let error = Script::parse(text, "f.json").unwrap_err();
    /// assert_eq!(error.to_string(), "f.json:2:49: ops[0].node: there are only 3 nodes");
    /// ```
    pub fn parse(text: &str, file: &str) -> Result<Self, InputError> {
        Self::parse_named(text, file, &[])
    }

    /// Reads a script for a system whose nodes have these names.
    ///
    /// Where the script only says how many nodes there are, they are these; it may also list exactly these. No names
    /// stand for a system without names.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and if the script is for other nodes.
    pub fn parse_named(text: &str, file: &str, names: &[&str]) -> Result<Self, InputError> {
        let accept = Accept {
            names,
            ..Accept::default()
        };
        Self::parse_for(text, file, &accept)
    }

    /// Reads a script for an executor that cannot do everything: what it cannot do is refused where it stands.
    ///
    /// # Errors
    /// As [`parse_named`](Self::parse_named), and what `accept` refuses.
    ///
    /// # Examples
    /// ```
    /// use dpat_model::{Accept, Fault, Script};
    ///
    /// let text = r#"{"version": 1, "protocol": "echo", "nodes": 3, "seed": 7,
    ///   "ops": [{"at_us": 100, "do": "disk_full", "node": 1}]}"#;
    /// let accept = Accept {
    ///     protocol: Some("echo"),
    ///     op: &|op| match op.fault {
    ///         Fault::DiskFull { .. } => Err(("do", "there is no disk".to_owned())),
    ///         _ => Ok(()),
    ///     },
    ///     ..Accept::default()
    /// };
    /// let error = Script::parse_for(text, "f.json", &accept).unwrap_err();
    /// assert_eq!(error.to_string(), "f.json:2:32: ops[0].do: there is no disk");
    /// ```
    pub fn parse_for(text: &str, file: &str, accept: &Accept<'_>) -> Result<Self, InputError> {
        let names = accept.names;
        let source = Source {
            file,
            text,
            skipped: 0,
        };
        if text.len() > Self::MAX_BYTES {
            let max = Self::MAX_BYTES;
            return Err(source.error(text, "", format_args!("longer than {max} bytes")));
        }
        let mut top = source.object(text, "")?;
        checked(&mut top, "version", |version: &u64| {
            match *version == Self::VERSION {
                true => Ok(()),
                false => Err(format!("must be {}", Self::VERSION)),
            }
        })?;
        let protocol = checked(&mut top, "protocol", |name: &String| {
            match accept.protocol {
                Some(wanted) if name != wanted => Err(format!("must be {wanted:?}")),
                _ => check_name(name),
            }
        })?;
        let at = top.raw("nodes").unwrap_or_default();
        let read = if at.starts_with('[') {
            source.parse(at, "nodes").map(Nodes::Named)
        } else if at.is_empty() {
            Err(top.error(top.part, "nodes", "missing"))
        } else {
            source.parse(at, "nodes").map(Nodes::Count)
        };
        let mut nodes = read?;
        nodes
            .check()
            .map_err(|reason| top.error(at, "nodes", reason))?;
        let (min, max) = accept.nodes;
        if !(min..=max).contains(&nodes.count()) {
            let reason = format_args!("must be {min} to {max} nodes");
            return Err(top.error(at, "nodes", reason));
        }
        if !names.is_empty() {
            let known = Nodes::Named(names.iter().map(|name| (*name).to_owned()).collect());
            if nodes != known && nodes != Nodes::Count(known.count()) {
                let reason = format_args!("must be the {} nodes {names:?}", names.len());
                return Err(top.error(at, "nodes", reason));
            }
            nodes = known;
        }
        let seed = top.required("seed")?;
        let raw: Vec<&RawValue> = top.required("ops")?;
        let part = raw.first().map_or(text, |op| op.get());
        top.finish()?;
        if raw.len() > MAX_OPS {
            return Err(source.error(part, "ops", format_args!("more than {MAX_OPS}")));
        }
        let mut ops = Vec::with_capacity(raw.len());
        for (index, op) in raw.iter().enumerate() {
            let path = format!("ops[{index}]");
            let read = read_op(source.object(op.get(), &path)?, &nodes)?;
            (accept.op)(&read).or_else(|(field, reason)| {
                let mut object = source.object(op.get(), &path)?;
                let at = object.raw(field).unwrap_or(object.part);
                Err(object.error(at, field, reason))
            })?;
            ops.push(read);
        }
        Ok(Self {
            protocol,
            nodes,
            seed,
            ops,
        })
    }

    /// Returns the canonical text: fields in fixed order, one operation a line.
    ///
    /// Reading it gives back an equal script, and equal scripts have equal text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let nodes = match &self.nodes {
            Nodes::Count(count) => json!(count),
            Nodes::Named(names) => json!(names),
        };
        let mut text = format!(
            "{{\n  \"version\": {},\n  \"protocol\": {},\n  \"nodes\": {nodes},\n  \"seed\": {},\n  \"ops\": [",
            Self::VERSION,
            json!(self.protocol),
            self.seed,
        );
        let mut before = "\n    {";
        for op in &self.ops {
            text.push_str(before);
            before = ",\n    {";
            let mut comma = "";
            let mut put = |name: &str, value: Value| {
                let _ = write!(text, "{comma}\"{name}\": {value}"); // writing to a String cannot fail
                comma = ", ";
            };
            match &op.when {
                Trigger::At(us) => put("at_us", json!(us)),
                Trigger::Event(event) => put("on_event", json!(event)),
                Trigger::Point { name, nth } => {
                    put("on_event", json!(name));
                    if *nth != 1 {
                        put("nth", json!(nth));
                    }
                }
            }
            put("do", json!(op.fault.name()));
            op.fault.write(&self.nodes, put);
            text.push('}');
        }
        text.push_str(if self.ops.is_empty() {
            "]\n}\n"
        } else {
            "\n  ]\n}\n"
        });
        text
    }
}

/// Takes a required field and checks it.
fn checked<T: serde::de::DeserializeOwned>(
    object: &mut Object<'_>,
    field: &str,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, InputError> {
    let Some(raw) = object.raw(field) else {
        return Err(object.error(object.part, field, "missing"));
    };
    let value = object.source.parse(raw, field)?;
    check(&value).map_err(|reason| object.error(raw, field, reason))?;
    Ok(value)
}

fn read_op(mut object: Object<'_>, nodes: &Nodes) -> Result<Op, InputError> {
    let when = read_trigger(&mut object)?;
    let part = object.part;
    let mut at = part;
    let mut name = String::new();
    take(&mut object, "do", &mut |raw, value| {
        at = raw;
        name = value
            .as_ref()
            .and_then(Value::as_str)
            .ok_or("must be the name of a fault")?
            .to_owned();
        Ok(())
    })?;
    let fault = Fault::read(&name, nodes, |field, read| {
        take(&mut object, field, &mut |_, value| read(value))
    });
    let Some(fault) = fault else {
        return Err(object.error(at, "do", format_args!("there is no fault {name:?}")));
    };
    let fault = fault?;
    object.finish()?;
    Ok(Op { when, fault })
}

fn read_trigger(object: &mut Object<'_>) -> Result<Trigger, InputError> {
    let at_us: Option<u64> = object.optional("at_us")?;
    let event: Option<Value> = object.optional("on_event")?;
    let nth: Option<u64> = object.optional("nth")?;
    let when = match (at_us, event, nth) {
        (Some(us), None, None) => Trigger::At(us),
        (None, Some(Value::String(name)), nth) => Trigger::Point {
            name,
            nth: nth.unwrap_or(1),
        },
        (None, Some(event), None) => match event.as_u64() {
            Some(event) => Trigger::Event(event),
            None => {
                return Err(object.error(object.part, "on_event", "must be a number or a name"));
            }
        },
        (_, _, Some(_)) => return Err(object.error(object.part, "nth", "needs a named on_event")),
        _ => return Err(object.error(object.part, "at_us", "give either at_us or on_event")),
    };
    when.check()
        .map_err(|(field, reason)| object.error(object.part, field, reason))?;
    Ok(when)
}

/// Takes a field and reads it; an error points at it.
fn take<'a>(
    object: &mut Object<'a>,
    field: &str,
    read: &mut dyn FnMut(&'a str, Option<Value>) -> Result<(), String>,
) -> Result<(), InputError> {
    let raw = object.raw(field);
    let part = raw.unwrap_or(object.part);
    let name = object.name(field);
    let value = raw.map(|raw| object.source.parse(raw, &name)).transpose()?;
    read(part, value).map_err(|reason| object.error(part, field, reason))
}
