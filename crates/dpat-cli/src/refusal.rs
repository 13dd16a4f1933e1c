//! Why a command did not do what it was asked.

use std::path::Path;

use dpat_sim::{SpecError, Unregistered};

use crate::output::say;
use crate::{BAD_INPUT, INTERNAL, USAGE};

/// Each has its exit code.
#[derive(Debug)]
pub(crate) enum Refusal {
    Usage(String),
    Input(String),
    Internal(String),
}

impl Refusal {
    /// Names a file that the machine did not let us read or write.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::Internal(format!("{}: {error}", path.display()))
    }

    /// Says why, and returns the exit code.
    pub(crate) fn exit(&self) -> u8 {
        let (text, code) = match self {
            Self::Usage(text) => (format!("dpat: {text}"), USAGE),
            // In the form FILE:LINE:COL, which editors follow.
            Self::Input(text) => (text.clone(), BAD_INPUT),
            Self::Internal(text) => (format!("dpat: {text}"), INTERNAL),
        };
        say(&text);
        code
    }
}

impl From<Unregistered> for Refusal {
    fn from(error: Unregistered) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<SpecError> for Refusal {
    fn from(error: SpecError) -> Self {
        Self::Usage(error.to_string())
    }
}
