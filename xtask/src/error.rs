//! Why a chore stops, and the exit code that says so.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a chore stops.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is wrong: exit code 64.
    Usage(String),
    /// A file that the chore reads is wrong: exit code 65.
    Input(String),
    /// What was asked does not hold: exit code 1.
    Failed(String),
    /// The chore could not do its work: exit code 70.
    Internal(String),
    /// A command that the chore ran for its caller ended with this exit code, and has said why.
    Ended(u8),
}

impl Error {
    /// The exit code of every dpat command for this kind of error.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 64,
            Self::Input(_) => 65,
            Self::Internal(_) => 70,
            Self::Ended(code) => *code,
        })
    }

    /// An error that says which file could not be used.
    pub(crate) fn io(path: &std::path::Path, error: &io::Error) -> Self {
        Self::Internal(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Input(text) | Self::Failed(text) | Self::Internal(text) => {
                f.write_str(text)
            }
            Self::Ended(_) => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// How a chore that can be a step of `ci` ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It holds; the text, if any, is worth a word.
    Ok(Option<String>),
    /// It does not hold, for this reason.
    Failed(String),
    /// It could not be looked at, for this reason.
    Skipped(String),
}

impl Outcome {
    /// It holds and there is nothing more to say.
    pub(crate) const OK: Self = Self::Ok(None);

    /// The name that is printed and written.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// The reason, on one line.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok(note) => note.as_deref(),
            Self::Failed(reason) | Self::Skipped(reason) => Some(reason),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
