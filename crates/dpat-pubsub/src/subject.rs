//! Subjects that messages are published to, and filters that subscribers choose them by.

use crate::error::SubjectError;
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// The longest subject or filter, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;

/// The most tokens of a subject or filter.
pub const SUBJECT_TOKENS_MAX: usize = 32;

/// What a message is published to: tokens joined by dots, as `orders.eu.created`.
///
/// A token is at least one character, none of them a dot, white space or a control character. Case matters. `*` and `>`
/// alone are no tokens of a subject; inside a longer token they are ordinary characters. At most
/// [`SUBJECT_BYTES_MAX`] bytes and [`SUBJECT_TOKENS_MAX`] tokens. Cloning counts a reference.
///
/// # Examples
/// ```
/// use dpat_pubsub::Subject;
///
/// let subject: Subject = "orders.eu.created".parse()?;
/// assert_eq!(subject.tokens().count(), 3);
/// assert!(Subject::try_from("orders.*").is_err());
/// # Ok::<(), dpat_pubsub::SubjectError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

/// Which subjects a subscriber wants: a subject, of which tokens may be wildcards.
///
/// `*` stands for one token, `>` as the last token for one or more, as in NATS. The limits are those of [`Subject`].
///
/// # Examples
/// ```
/// use dpat_pubsub::{Filter, Subject};
///
/// let created: Filter = "orders.*.created".parse()?;
/// assert!(created.matches(&"orders.eu.created".parse()?));
/// assert!(!created.matches(&"orders.eu.paid".parse()?));
///
/// let all: Filter = "orders.>".parse()?;
/// assert!(all.matches(&"orders.eu.created".parse()?));
/// assert!(!all.matches(&"orders".parse()?), "`>` is at least one token");
/// # Ok::<(), dpat_pubsub::SubjectError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Arc<str>);

/// A token of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Literal(&'a str),
    /// `*`
    One,
    /// `>`
    Rest,
}

impl Subject {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tokens in their order.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl Filter {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether a message to `subject` is wanted. Linear in their lengths.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        let mut given = subject.tokens();
        for token in self.tokens() {
            let found = given.next();
            match (token, found) {
                (Token::Rest, found) => return found.is_some(),
                (Token::One, Some(_)) => {}
                (Token::Literal(wanted), Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
        given.next().is_none()
    }

    /// Says whether no token is a wildcard: the filter wants one subject.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.tokens()
            .all(|token| matches!(token, Token::Literal(_)))
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token<'_>> {
        self.0.split('.').map(|token| match token {
            "*" => Token::One,
            ">" => Token::Rest,
            literal => Token::Literal(literal),
        })
    }
}

/// Says, in one pass, of most texts that are right that they are: visible ASCII, and nothing that may be a wildcard.
fn is_plain(text: &str) -> bool {
    if text.len() > SUBJECT_BYTES_MAX {
        return false;
    }
    let (mut tokens, mut before) = (1, b'.');
    for &byte in text.as_bytes() {
        match byte {
            b'.' if before == b'.' => return false,
            b'.' => tokens += 1,
            b'*' | b'>' => return false,
            byte if !byte.is_ascii_graphic() => return false,
            _ => {}
        }
        before = byte;
    }
    before != b'.' && tokens <= SUBJECT_TOKENS_MAX
}

/// Checks what subjects and filters have in common. `wildcards` says whether they may stand here.
fn check(text: &str, wildcards: bool) -> Result<(), SubjectError> {
    match is_plain(text) {
        true => Ok(()),
        false => check_each(text, wildcards),
    }
}

/// [`check`], letter by letter.
fn check_each(text: &str, wildcards: bool) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if text.len() > SUBJECT_BYTES_MAX {
        return Err(SubjectError::TooLong {
            max: SUBJECT_BYTES_MAX,
            got: text.len(),
        });
    }
    let tokens = text.split('.').count();
    if tokens > SUBJECT_TOKENS_MAX {
        return Err(SubjectError::TooManyTokens {
            max: SUBJECT_TOKENS_MAX,
            got: tokens,
        });
    }
    let mut at = 0;
    for token in text.split('.') {
        if token.is_empty() {
            return Err(SubjectError::EmptyToken { at });
        }
        let bad = |letter: &char| letter.is_whitespace() || letter.is_control();
        if let Some((offset, found)) = token.char_indices().find(|(_, letter)| bad(letter)) {
            return Err(SubjectError::Character {
                at: at + offset,
                found,
            });
        }
        let wildcard = matches!(token, "*" | ">");
        if wildcard && !wildcards {
            return Err(SubjectError::Wildcard { at });
        }
        at += token.len() + 1;
        if token == ">" && at <= text.len() {
            return Err(SubjectError::RestNotLast { at: at - 2 });
        }
    }
    Ok(())
}

macro_rules! text_type {
    ($name:ident, $wildcards:literal) => {
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = SubjectError;
            fn from_str(text: &str) -> Result<Self, SubjectError> {
                check(text, $wildcards)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = SubjectError;
            fn try_from(text: &str) -> Result<Self, SubjectError> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = SubjectError;
            fn try_from(text: String) -> Result<Self, SubjectError> {
                text.parse()
            }
        }

        impl TryFrom<&String> for $name {
            type Error = SubjectError;
            fn try_from(text: &String) -> Result<Self, SubjectError> {
                text.parse()
            }
        }

        impl From<&$name> for $name {
            fn from(name: &$name) -> Self {
                name.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_type!(Subject, false);
text_type!(Filter, true);

/// A filter that wants exactly this subject.
impl From<Subject> for Filter {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

/// A filter that wants exactly this subject.
impl From<&Subject> for Filter {
    fn from(subject: &Subject) -> Self {
        subject.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_position() {
        let long = "a".repeat(256);
        let many = ["a"; 33].join(".");
        let cases = [
            ("", SubjectError::Empty),
            (&long, SubjectError::TooLong { max: 255, got: 256 }),
            (&many, SubjectError::TooManyTokens { max: 32, got: 33 }),
            (".", SubjectError::EmptyToken { at: 0 }),
            ("a..b", SubjectError::EmptyToken { at: 2 }),
            ("a.", SubjectError::EmptyToken { at: 2 }),
            ("é.b c", SubjectError::Character { at: 4, found: ' ' }),
            (
                "a\u{7}",
                SubjectError::Character {
                    at: 1,
                    found: '\u{7}',
                },
            ),
            ("a.>.b", SubjectError::RestNotLast { at: 2 }),
        ];
        for (text, wanted) in cases {
            assert_eq!(Filter::try_from(text), Err(wanted), "{text:?}");
        }
        for (text, at) in [("*", 0), ("a.*", 2), ("a.*.c", 2), ("a.>", 2)] {
            assert_eq!(Subject::try_from(text), Err(SubjectError::Wildcard { at }));
            assert!(Filter::try_from(text).is_ok());
        }
    }

    #[test]
    fn what_is_plain_is_right_letter_by_letter_too() {
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            let longer = texts.iter().flat_map(|text| {
                let letters = ['a', '.', '*', '>', ' ', '\u{7f}', 'é'];
                letters.map(|letter| format!("{text}{letter}"))
            });
            texts = longer.collect();
            let (mut plain, mut other) = (0, 0);
            for text in &texts {
                match is_plain(text) {
                    true => plain += 1,
                    false => other += 1,
                }
                let is_right = check_each(text, false).is_ok();
                assert!(is_right || !is_plain(text), "{text:?}");
            }
            assert!(plain > 0 && other > 0);
        }
        for text in ["a".repeat(256), ["a"; 33].join(".")] {
            assert!(!is_plain(&text), "{text}");
        }
    }

    #[test]
    fn the_limits_can_be_reached() {
        assert!(Subject::try_from("a".repeat(255)).is_ok());
        assert!(Subject::try_from(["a"; 32].join(".")).is_ok());
        assert!(Subject::try_from("ünï.c0de-_/:@").is_ok());
        assert!(Subject::try_from("a*b.>c").is_ok(), "no whole tokens");
    }

    #[test]
    fn filters_match_as_nats_says() {
        let cases = [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a.b", false),
            ("a.b", "a", false),
            ("*", "a", true),
            ("*", "a.b", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b.c", true),
            ("*.b", "a.b", true),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("*.*", "a.b", true),
            ("*.>", "a", false),
            ("*.>", "a.b.c", true),
            ("A", "a", false),
        ];
        for (filter, subject, wanted) in cases {
            let (filter, subject) = (Filter::try_from(filter), Subject::try_from(subject));
            let (filter, subject) = (filter.unwrap(), subject.unwrap());
            assert_eq!(filter.matches(&subject), wanted, "{filter} {subject}");
        }
    }

    #[test]
    fn literal_filters_want_one_subject() {
        assert!(Filter::try_from("a.b*").unwrap().is_literal());
        assert!(!Filter::try_from("a.*").unwrap().is_literal());
        assert!(!Filter::try_from("a.>").unwrap().is_literal());
    }
}
