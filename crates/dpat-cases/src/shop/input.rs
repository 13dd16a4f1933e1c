//! Orders from a file: one JSON object a line, all checked before the first is sent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::domain::Order;

/// Largest file.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Longest line.
pub const LINE_BYTES_MAX: usize = 60 << 10;

/// A line that is no order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    /// From 1.
    pub line: u64,
    /// In bytes, from 1.
    pub column: usize,
    /// The field that is wrong.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// The line.
    pub raw: String,
}

/// Input that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A line is no order.
    #[error("{}:{}:{}: {}: {}", .file.display(), .bad.line, .bad.column, .bad.field, .bad.reason)]
    Line {
        /// Which file.
        file: PathBuf,
        /// Where and what.
        bad: Box<BadLine>,
    },
    /// The file has no order at all.
    #[error("{}:1:1: order_id: the file has no order", .file.display())]
    Empty {
        /// Which file.
        file: PathBuf,
    },
    /// The file is too large.
    #[error("{}:1:1: file: must be at most {FILE_BYTES_MAX} bytes", .file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("{}:1:1: file: {source}", .file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is in a file.
#[derive(Debug, Default)]
pub struct Input {
    /// The orders, in the file's order.
    pub orders: Vec<Order>,
    /// The lines that are none; empty unless they may be skipped.
    pub rejected: Vec<BadLine>,
}

/// Reads and checks a whole file.
///
/// With `skip_bad`, lines that are no orders are set aside; otherwise the first is an error.
///
/// # Errors
/// [`InputError`].
pub fn read(file: &Path, skip_bad: bool) -> Result<Input, InputError> {
    let unreadable = |source| InputError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let opened = File::open(file).map_err(unreadable)?;
    // One byte more than is allowed tells a file that is too large.
    let mut reader = BufReader::new(opened.take(FILE_BYTES_MAX + 1));
    let mut input = Input::default();
    let mut seen = HashMap::new();
    let mut line = Vec::new();
    let mut bytes = 0_u64;
    for number in 1_u64.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(InputError::TooLarge {
                file: file.to_owned(),
            });
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        match parse(&line, number, &mut seen) {
            Ok(order) => input.orders.push(order),
            Err(bad) if skip_bad => input.rejected.push(bad),
            Err(bad) => {
                return Err(InputError::Line {
                    file: file.to_owned(),
                    bad: Box::new(bad),
                });
            }
        }
    }
    if input.orders.is_empty() {
        return Err(InputError::Empty {
            file: file.to_owned(),
        });
    }
    Ok(input)
}

/// Writes the lines that were set aside, one JSON object each.
///
/// # Errors
/// Whatever the file system reports.
pub fn write_rejected(rejected: &[BadLine], file: &Path) -> io::Result<()> {
    let mut writer = io::BufWriter::new(File::create(file)?);
    for bad in rejected {
        serde_json::to_writer(&mut writer, bad)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()
}

fn parse(line: &[u8], number: u64, seen: &mut HashMap<String, u64>) -> Result<Order, BadLine> {
    let bad = |column: usize, field: String, reason: String| BadLine {
        line: number,
        column: column.max(1),
        field,
        reason,
        raw: String::from_utf8_lossy(line).into_owned(),
    };
    if line.len() > LINE_BYTES_MAX {
        let reason = format!("must be at most {LINE_BYTES_MAX} bytes, has {}", line.len());
        return Err(bad(1, "line".to_owned(), reason));
    }
    let order: Order = serde_json::from_slice(line).map_err(|error| {
        let (field, reason) = explain(line, &error);
        bad(error.column(), field, reason)
    })?;
    if let Err(error) = order.validate() {
        let column = column_of(line, &error.field);
        return Err(bad(column, error.field, error.reason));
    }
    match seen.entry(order.order_id.clone()) {
        Entry::Occupied(first) => {
            let reason = format!("already on line {}", first.get());
            Err(bad(
                column_of(line, "order_id"),
                "order_id".to_owned(),
                reason,
            ))
        }
        Entry::Vacant(place) => {
            place.insert(number);
            Ok(order)
        }
    }
}

/// Returns the field and the reason of a decoding error in a text that begins with `text`'s first byte.
pub(crate) fn explain(text: &[u8], error: &serde_json::Error) -> (String, String) {
    let message = error.to_string();
    // The place stands in front of the message already.
    let message = message.split(" at line ").next().unwrap_or(&message);
    let quoted = ["unknown field `", "missing field `", "duplicate field `"]
        .into_iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next());
    // Checks of our own begin with the field.
    let prefixed = message.split_once(": ").filter(|(field, _)| {
        let part_of_name = |c: char| c.is_ascii_lowercase() || c == '_' || c == ',' || c == ' ';
        field.chars().all(part_of_name) && !field.starts_with("invalid ")
    });
    let named = quoted.or(prefixed.map(|(field, _)| field));
    let reason = prefixed.map_or(message, |(_, reason)| reason);
    let at = offset(text, error.line(), error.column());
    let around = fields(text)
        .into_iter()
        .rfind(|field| field.start <= at)
        .map(|field| field.path);
    let field = match (named, around) {
        (Some(named), Some(around)) => match around.rsplit_once('.') {
            Some((parent, _)) => format!("{parent}.{named}"),
            None => named.to_owned(),
        },
        (Some(named), None) => named.to_owned(),
        (None, Some(around)) => around,
        (None, None) => "line".to_owned(),
    };
    (field, reason.to_owned())
}

/// Returns the offset of a place, both counted from 1.
fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive(|byte| *byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    before + column.saturating_sub(1)
}

/// Returns the column of a field's value, or 1.
fn column_of(line: &[u8], path: &str) -> usize {
    fields(line)
        .into_iter()
        .find(|field| field.path == path)
        .map_or(1, |field| field.start + 1)
}

/// Where the value of a field begins.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    path: String,
    start: usize,
}

/// A container that is open.
enum Frame {
    Object { key: Option<String> },
    Array { index: usize },
}

struct FieldPath<'f>(&'f [Frame]);

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, frame) in self.0.iter().enumerate() {
            match frame {
                Frame::Object { key: Some(key) } if depth == 0 => f.write_str(key)?,
                Frame::Object { key: Some(key) } => write!(f, ".{key}")?,
                Frame::Object { key: None } => {}
                Frame::Array { index } => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Lists the fields of a line with the places of their values, as far as it is JSON.
fn fields(line: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = 0;
    // Whether the next token is a value, and not a key or a mark.
    let mut value_next = true;
    while let Some(byte) = line.get(at).copied() {
        if value_next && !byte.is_ascii_whitespace() && byte != b']' {
            if !frames.is_empty() {
                fields.push(Field {
                    path: FieldPath(&frames).to_string(),
                    start: at,
                });
            }
            value_next = false;
        }
        match byte {
            b'{' => frames.push(Frame::Object { key: None }),
            b'[' => {
                frames.push(Frame::Array { index: 0 });
                value_next = true;
            }
            b'}' | b']' => {
                frames.pop();
                value_next = false;
            }
            b':' => value_next = true,
            b',' => match frames.last_mut() {
                Some(Frame::Array { index }) => {
                    *index += 1;
                    value_next = true;
                }
                Some(Frame::Object { key }) => *key = None,
                None => {}
            },
            b'"' => {
                let end = end_of_string(line, at);
                if let Some(Frame::Object { key: key @ None }) = frames.last_mut() {
                    let text = line.get(at + 1..end).unwrap_or_default();
                    *key = Some(String::from_utf8_lossy(text).into_owned());
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    fields
}

/// Returns the place of the closing quote, or the end of the line.
fn end_of_string(line: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(byte) = line.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => return at,
            _ => {}
        }
        at += 1;
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"order_id":"a","customer":"c","items":[{"sku":"s","quantity":1}],"payment_cents":5}"#;

    fn check(lines: &[&str], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.jsonl");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let found = match read(&file, false) {
            Ok(input) => format!("{} orders", input.orders.len()),
            Err(error) => {
                let text = error.to_string();
                let file = format!("{}:", file.display());
                text.strip_prefix(&file).unwrap().to_owned()
            }
        };
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }

    #[test]
    fn good_lines_are_orders() {
        check(&[GOOD, &GOOD.replace("\"a\"", "\"b\""), ""], "2 orders");
    }

    #[test]
    fn an_unknown_field_is_an_error_with_its_place() {
        let line = GOOD.replace("\"quantity\"", "\"quantitty\"");
        check(&[GOOD, &line], "2:62: items[0].quantitty: unknown field");
    }

    #[test]
    fn a_duplicate_order_id_is_an_error() {
        check(&[GOOD, GOOD], "2:13: order_id: already on line 1");
    }

    #[test]
    fn a_limit_is_named_with_its_field_and_place() {
        let line = GOOD.replace("\"quantity\":1", "\"quantity\":0");
        check(
            &[&line],
            "1:63: items[0].quantity: must be 1 to 10000, is 0",
        );
    }

    #[test]
    fn a_wrong_type_names_its_field() {
        let line = GOOD.replace("\"payment_cents\":5", "\"payment_cents\":\"5\"");
        check(&[&line], "1:85: payment_cents: invalid type: string");
    }

    #[test]
    fn broken_json_is_an_error() {
        check(&[&GOOD[..28]], "1:28: customer: EOF while parsing");
    }

    #[test]
    fn a_missing_field_is_named() {
        check(&[r#"{"order_id":"a"}"#], "1:16: customer: missing field");
    }

    #[test]
    fn an_empty_line_is_an_error() {
        check(
            &[GOOD, "", &GOOD.replace("\"a\"", "\"b\"")],
            "2:1: line: EOF",
        );
    }

    #[test]
    fn an_empty_file_has_no_orders() {
        check(&[], "1:1: order_id: the file has no order");
    }

    #[test]
    fn bad_lines_can_be_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.jsonl");
        std::fs::write(&file, format!("{GOOD}\nnonsense\n{GOOD}\n")).unwrap();
        let input = read(&file, true).unwrap();
        assert_eq!(input.orders.len(), 1);
        let lines: Vec<u64> = input.rejected.iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [2, 3]);
        let out = folder.path().join("rejected.jsonl");
        write_rejected(&input.rejected, &out).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        let first: BadLine = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first, input.rejected[0]);
        assert_eq!(first.raw, "nonsense");
    }
}
