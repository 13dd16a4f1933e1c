//! JSON objects read field by field, so that every error has its place.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Input that was refused: where, which field, and why. Prints as `FILE:LINE:COL: FIELD: reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputError {
    /// The file as the caller named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1.
    pub column: usize,
    /// The path of the field, such as `ops[3].node`; empty for the whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for InputError {}

/// The text that positions are counted in.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    /// Lines before the text.
    pub(crate) skipped: usize,
}

impl<'a> Source<'a> {
    /// Makes an error that points at `part`, a slice of the text.
    pub(crate) fn error(&self, part: &str, field: &str, reason: impl fmt::Display) -> InputError {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let start = before.iter().rposition(|byte| *byte == b'\n');
        InputError {
            file: self.file.to_owned(),
            line: self.skipped + 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: before.len() - start.map_or(0, |at| at + 1) + 1,
            field: field.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Parses `part` of the text; a syntax error points into it, a wrong value to its start.
    pub(crate) fn parse<T: Deserialize<'a>>(
        &self,
        part: &'a str,
        field: &str,
    ) -> Result<T, InputError> {
        serde_json::from_str(part).map_err(|cause| {
            let message = cause.to_string();
            let reason = message.split(" at line ").next().unwrap_or_default();
            let mut error = self.error(part, field, reason);
            if !cause.is_data() {
                let first = if cause.line() > 1 { 1 } else { error.column };
                error.line += cause.line().saturating_sub(1);
                error.column = first + cause.column().saturating_sub(1);
            }
            error
        })
    }

    /// Parses `part` as an object.
    pub(crate) fn object(&self, part: &'a str, path: &str) -> Result<Object<'a>, InputError> {
        let Fields(fields) = self.parse(part, path)?;
        let object = Object {
            source: *self,
            part,
            path: path.to_owned(),
            fields,
        };
        for (index, (name, raw)) in object.fields.iter().enumerate() {
            if object.fields[..index]
                .iter()
                .any(|(other, _)| other == name)
            {
                return Err(self.error(raw.get(), &object.name(name), "given twice"));
            }
        }
        Ok(object)
    }
}

/// An object whose fields are taken one by one.
pub(crate) struct Object<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) part: &'a str,
    path: String,
    fields: Vec<(String, &'a RawValue)>,
}

impl<'a> Object<'a> {
    pub(crate) fn name(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    /// Returns an error about one field, or about a field that is not there.
    pub(crate) fn error(&self, part: &str, field: &str, reason: impl fmt::Display) -> InputError {
        self.source.error(part, &self.name(field), reason)
    }

    /// Takes the text of a field.
    pub(crate) fn raw(&mut self, field: &str) -> Option<&'a str> {
        let at = self.fields.iter().position(|(name, _)| name == field)?;
        Some(self.fields.remove(at).1.get())
    }

    /// Takes a field that may be absent.
    pub(crate) fn optional<T: Deserialize<'a>>(
        &mut self,
        field: &str,
    ) -> Result<Option<T>, InputError> {
        let name = self.name(field);
        let raw = self.raw(field);
        raw.map(|raw| self.source.parse(raw, &name)).transpose()
    }

    /// Takes a field that must be there.
    pub(crate) fn required<T: Deserialize<'a>>(&mut self, field: &str) -> Result<T, InputError> {
        self.optional(field)?
            .ok_or_else(|| self.error(self.part, field, "missing"))
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(self) -> Result<(), InputError> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, raw)) => Err(self.error(raw.get(), name, "unknown field")),
        }
    }
}

/// The fields of an object in order, unparsed.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
