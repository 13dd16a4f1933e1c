//! What can be wrong with a value or its bytes.

use std::fmt;

use dpat_core::{Class, Classify, Effect};

/// The longest reason that an error keeps, in bytes: 256.
///
/// Reasons quote their input (serde names the unknown variant that it found), and input may be hostile.
pub const REASON_BYTES_MAX: usize = 256;

/// Cuts a reason to its limit, between two characters.
pub(crate) fn reason(text: &dyn fmt::Display) -> Box<str> {
    /// Takes what fits and drops the rest, so that a long message is never held whole.
    struct Cut(String);

    impl fmt::Write for Cut {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let mut end = text.len().min(REASON_BYTES_MAX - self.0.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            self.0.push_str(&text[..end]);
            if end < text.len() {
                return Err(fmt::Error);
            }
            Ok(())
        }
    }

    let mut cut = Cut(String::new());
    // An error means that the reason was longer than its limit.
    let _ = fmt::write(&mut cut, format_args!("{text}"));
    cut.0.into_boxed_str()
}

/// A value that was not encoded. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value is above a limit, and decoding would refuse it.
    Limit {
        /// What is above its limit: `bytes`, `depth` or `elements`.
        field: &'static str,
        /// The largest value that passes.
        limit: u64,
    },
    /// The form cannot say the value.
    Unsupported {
        /// The codec's name.
        codec: &'static str,
        /// Why, in the words of the codec or of the type, at most [`REASON_BYTES_MAX`] bytes.
        reason: Box<str>,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { field, limit } => write!(f, "{field}: above the limit of {limit}"),
            Self::Unsupported { codec, reason } => {
                write!(f, "{codec} cannot encode the value: {reason}")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

impl Classify for EncodeError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// Bytes that were not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input is above a limit: it may be sound, and is not read on.
    Limit {
        /// What is above its limit: `bytes`, `depth` or `elements`.
        field: &'static str,
        /// The largest value that passes.
        limit: u64,
    },
    /// Bytes follow the value.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The bytes are no value of this type in this form.
    Malformed {
        /// The codec's name.
        codec: &'static str,
        /// Why, in the words of the codec or of the type, at most [`REASON_BYTES_MAX`] bytes.
        reason: Box<str>,
    },
}

impl DecodeError {
    /// Refuses input that is too long, before any of it is read.
    pub(crate) fn check_length(bytes: &[u8], bytes_max: usize) -> Result<(), Self> {
        if bytes.len() > bytes_max {
            return Err(Self::Limit {
                field: "bytes",
                limit: bytes_max as u64,
            });
        }
        Ok(())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { field, limit } => write!(f, "{field}: above the limit of {limit}"),
            Self::Trailing { bytes } => write!(f, "bytes: {bytes} follow the value, limit 0"),
            Self::Malformed { codec, reason } => write!(f, "no valid {codec}: {reason}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A limit is a rule between the two sides ([`Class::InvalidInput`]); everything else is [`Class::Corrupt`].
impl Classify for DecodeError {
    fn class(&self) -> Class {
        match self {
            Self::Limit { .. } => Class::InvalidInput,
            Self::Trailing { .. } | Self::Malformed { .. } => Class::Corrupt,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_between_characters() {
        let long = "ä".repeat(REASON_BYTES_MAX);
        let cut = reason(&format_args!("x{long}"));
        assert_eq!(cut.len(), REASON_BYTES_MAX - 1);
        assert!(cut.starts_with("xä"));
        assert_eq!(&*reason(&"short"), "short");
    }
}
