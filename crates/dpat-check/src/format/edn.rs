//! Extensible data notation, as far as histories use it.
//!
//! Tags are dropped, sets and lists read as lists, characters as strings; numbers that are no 64-bit integers keep
//! their text.

use super::Source;
use crate::error::InputError;
use crate::value::Value;

/// How deep values may be nested.
const MAX_DEPTH: usize = 64;

/// Reads values from `at` up to `end`.
pub(super) struct Edn<'a> {
    source: Source<'a>,
    /// The position in the text.
    pub(super) at: usize,
    end: usize,
    /// The field that errors name.
    pub(super) field: String,
}

impl<'a> Edn<'a> {
    pub(super) fn new(source: Source<'a>, at: usize, end: usize) -> Self {
        Self {
            source,
            at,
            end,
            field: String::new(),
        }
    }

    pub(super) const fn source(&self) -> Source<'a> {
        self.source
    }

    pub(super) fn error(&self, at: usize, reason: impl std::fmt::Display) -> InputError {
        self.source.error(at, &self.field, reason)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.source.text.as_bytes()[..self.end]
            .get(self.at)
            .copied()
    }

    /// Skips blanks, commas, comments and discarded values.
    pub(super) fn skip(&mut self) -> Result<(), InputError> {
        self.skip_at(0)
    }

    /// Skips what stands before a value that is nested so deep; discarded values may hold discarded values.
    fn skip_at(&mut self, depth: usize) -> Result<(), InputError> {
        loop {
            match self.peek() {
                Some(byte) if byte.is_ascii_whitespace() || byte == b',' => self.at += 1,
                Some(b';') => {
                    while !matches!(self.peek(), None | Some(b'\n')) {
                        self.at += 1;
                    }
                }
                Some(b'#') if self.source.text[self.at..self.end].starts_with("#_") => {
                    self.at += 2;
                    self.value(depth + 1)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Takes one character if it comes next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// Reads a value that is nested so deep.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value, InputError> {
        if depth > MAX_DEPTH {
            let reason = format_args!("nested deeper than {MAX_DEPTH}");
            return Err(self.error(self.at, reason));
        }
        self.skip_at(depth)?;
        let at = self.at;
        let Some(byte) = self.peek() else {
            return Err(self.error(at, "a value is missing"));
        };
        match byte {
            b'(' => self.list(b')', depth),
            b'[' => self.list(b']', depth),
            b'{' => self.map(depth),
            b'"' => self.string(),
            b'#' => {
                self.at += 1;
                if self.peek() == Some(b'{') {
                    return self.list(b'}', depth);
                }
                if self.token().is_empty() {
                    return Err(self.error(at, "a tag has a name"));
                }
                self.value(depth + 1)
            }
            b')' | b']' | b'}' => Err(self.error(at, "closes what is not open")),
            _ => self.atom(),
        }
    }

    fn list(&mut self, close: u8, depth: usize) -> Result<Value, InputError> {
        let open = self.at;
        self.at += 1;
        let mut elements = Vec::new();
        loop {
            self.skip_at(depth)?;
            if self.eat(close) {
                return Ok(Value::List(elements));
            }
            if self.peek().is_none() {
                return Err(self.error(open, "is not closed"));
            }
            elements.push(self.value(depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, InputError> {
        let open = self.at;
        self.at += 1;
        let mut fields = Vec::new();
        loop {
            self.skip_at(depth)?;
            if self.eat(b'}') {
                return Ok(Value::Map(fields));
            }
            if self.peek().is_none() {
                return Err(self.error(open, "is not closed"));
            }
            let key = self.value(depth + 1)?;
            fields.push((key, self.value(depth + 1)?));
        }
    }

    fn string(&mut self) -> Result<Value, InputError> {
        let open = self.at;
        let mut text = String::new();
        let mut chars = self.source.text[open + 1..self.end].char_indices();
        while let Some((offset, char)) = chars.next() {
            match char {
                '"' => {
                    self.at = open + 1 + offset + 1;
                    return Ok(Value::Str(text.into()));
                }
                '\\' => {
                    let escaped = match chars.next().map(|(_, escaped)| escaped) {
                        Some('n') => Some('\n'),
                        Some('t') => Some('\t'),
                        Some('r') => Some('\r'),
                        Some('b') => Some('\u{8}'),
                        Some('f') => Some('\u{c}'),
                        Some(same @ ('"' | '\\')) => Some(same),
                        Some('u') => {
                            let digits: String =
                                chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                            let code = u32::from_str_radix(&digits, 16).ok();
                            code.filter(|_| digits.len() == 4).and_then(char::from_u32)
                        }
                        _ => None,
                    };
                    match escaped {
                        Some(escaped) => text.push(escaped),
                        None => {
                            return Err(self.error(open + 1 + offset, "no escape of a string"));
                        }
                    }
                }
                other => text.push(other),
            }
        }
        Err(self.error(open, "is not closed"))
    }

    /// Takes everything up to a delimiter.
    fn token(&mut self) -> &'a str {
        let rest = &self.source.text[self.at..self.end];
        let delimits = |char: char| char.is_ascii_whitespace() || ",;()[]{}\"".contains(char);
        let token = &rest[..rest.find(delimits).unwrap_or(rest.len())];
        self.at += token.len();
        token
    }

    fn atom(&mut self) -> Result<Value, InputError> {
        let at = self.at;
        if self.eat(b'\\') {
            let Some(char) = self.source.text[self.at..self.end].chars().next() else {
                return Err(self.error(at, "a character is missing"));
            };
            self.at += char.len_utf8();
            let rest = self.token();
            return Ok(Value::Str(format!("{char}{rest}").into()));
        }
        let token = self.token();
        let first = token.trim_start_matches(['+', '-']).bytes().next();
        Ok(match token {
            "nil" => Value::Nil,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ if first.is_some_and(|first| first.is_ascii_digit()) => {
                match token.strip_suffix('N').unwrap_or(token).parse() {
                    Ok(number) => Value::Int(number),
                    Err(_) if is_number(token) => Value::Other(token.into()),
                    Err(_) => return Err(self.error(at, format_args!("`{token}` is no number"))),
                }
            }
            _ => match token.strip_prefix(':') {
                Some("") => return Err(self.error(at, "a keyword has a name")),
                Some(name) => Value::Name(name.into()),
                None if token.is_empty() => return Err(self.error(at, "no value")),
                None => Value::Name(token.into()),
            },
        })
    }
}

/// Says whether a token is a large integer, a fraction or a decimal.
fn is_number(token: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = token.strip_prefix(['+', '-']).unwrap_or(token);
    if let Some((above, below)) = unsigned.split_once('/') {
        return digits(above) && digits(below);
    }
    let plain = unsigned.strip_suffix(['N', 'M']).unwrap_or(unsigned);
    digits(plain) || plain.parse::<f64>().is_ok()
}
