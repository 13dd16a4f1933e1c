//! Input that was refused.

use dpat_model::Unpaired;

/// A file that is no history. Prints as `FILE:LINE:COL: FIELD: reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {}{reason}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
#[non_exhaustive]
pub struct InputError {
    /// The file as the caller named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1.
    pub column: usize,
    /// The field, such as `value`; empty for the whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

#[cfg(feature = "json")]
impl From<dpat_model::InputError> for InputError {
    fn from(error: dpat_model::InputError) -> Self {
        Self {
            file: error.file,
            line: error.line,
            column: error.column,
            field: error.field,
            reason: error.reason,
        }
    }
}

/// An event that cannot stand where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {index}: {cause}")]
pub struct BadEvent {
    /// Its place in the history, counted from 0.
    pub index: usize,
    /// Why not.
    pub cause: Unpaired,
}

/// An operation that the model does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation {index}: {field}: {reason}")]
#[non_exhaustive]
pub struct BadOperation {
    /// Its place among the invocations, counted from 0.
    pub index: usize,
    /// The line of the event that carries it, counted from 1.
    pub line: usize,
    /// The column of that event, counted from 1.
    pub column: usize,
    /// `f` or `value`.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl BadOperation {
    /// Says it in the form of a file's error.
    #[must_use]
    pub fn in_file(self, file: &str) -> InputError {
        InputError {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            field: self.field.to_owned(),
            reason: self.reason,
        }
    }
}
