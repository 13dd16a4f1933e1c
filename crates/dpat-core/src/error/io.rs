//! Errors of the standard library.

use super::{Class, Classify, Effect};
use std::convert::Infallible;
use std::io::{Error, ErrorKind};

impl Classify for Infallible {
    fn class(&self) -> Class {
        match *self {}
    }
}

/// By [`ErrorKind`]. Kinds that are not listed are permanent, and their effect is unknown.
///
/// | kinds | class | effect |
/// |---|---|---|
/// | `ConnectionRefused` | unavailable | not done |
/// | `HostUnreachable` `NetworkUnreachable` `NetworkDown` | unavailable | unknown: an open connection sees them too |
/// | `ConnectionReset` `ConnectionAborted` `BrokenPipe` `NotConnected` `UnexpectedEof` | transient | unknown |
/// | `AddrNotAvailable` `Interrupted` | transient | not done |
/// | `TimedOut` | timeout | unknown |
/// | `WouldBlock` `ResourceBusy` `ExecutableFileBusy` | overloaded | not done |
/// | `OutOfMemory` | overloaded | unknown |
/// | `AlreadyExists` `AddrInUse` | conflict | not done |
/// | `Deadlock` | conflict | unknown |
/// | `NotFound` `PermissionDenied` `InvalidInput` `IsADirectory` `NotADirectory` `DirectoryNotEmpty` `ReadOnlyFilesystem` `FileTooLarge` | invalid input | not done |
/// | `Unsupported` | permanent | not done |
/// | `InvalidData` | corrupt | unknown |
impl Classify for Error {
    fn class(&self) -> Class {
        of(self.kind()).0
    }

    fn effect(&self) -> Effect {
        of(self.kind()).1
    }
}

fn of(kind: ErrorKind) -> (Class, Effect) {
    use Effect::{NotDone, Unknown};
    match kind {
        ErrorKind::ConnectionRefused => (Class::Unavailable, NotDone),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            (Class::Unavailable, Unknown)
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => (Class::Transient, Unknown),
        ErrorKind::AddrNotAvailable | ErrorKind::Interrupted => (Class::Transient, NotDone),
        ErrorKind::TimedOut => (Class::Timeout, Unknown),
        ErrorKind::WouldBlock | ErrorKind::ResourceBusy | ErrorKind::ExecutableFileBusy => {
            (Class::Overloaded, NotDone)
        }
        ErrorKind::OutOfMemory => (Class::Overloaded, Unknown),
        ErrorKind::AlreadyExists | ErrorKind::AddrInUse => (Class::Conflict, NotDone),
        ErrorKind::Deadlock => (Class::Conflict, Unknown),
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::InvalidInput
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::DirectoryNotEmpty
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::FileTooLarge => (Class::InvalidInput, NotDone),
        ErrorKind::Unsupported => (Class::Permanent, NotDone),
        ErrorKind::InvalidData => (Class::Corrupt, Unknown),
        _ => (Class::Permanent, Unknown),
    }
}

#[cfg(feature = "tokio")]
impl Classify for tokio::time::error::Elapsed {
    fn class(&self) -> Class {
        Class::Timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_safe_to_retry_and_a_broken_one_is_not() {
        assert!(Error::from(ErrorKind::ConnectionRefused).is_safe_to_retry());
        let reset = Error::from(ErrorKind::ConnectionReset);
        assert!(reset.class().is_retryable() && !reset.is_safe_to_retry());
    }

    #[test]
    fn io_kinds_have_the_documented_class_and_effect() {
        let table = [
            (ErrorKind::TimedOut, Class::Timeout, Effect::Unknown),
            (ErrorKind::WouldBlock, Class::Overloaded, Effect::NotDone),
            (ErrorKind::AlreadyExists, Class::Conflict, Effect::NotDone),
            (ErrorKind::NotFound, Class::InvalidInput, Effect::NotDone),
            (ErrorKind::InvalidData, Class::Corrupt, Effect::Unknown),
            (ErrorKind::NetworkDown, Class::Unavailable, Effect::Unknown),
            (ErrorKind::StorageFull, Class::Permanent, Effect::Unknown),
            (ErrorKind::Other, Class::Permanent, Effect::Unknown),
        ];
        for (kind, class, effect) in table {
            let error = Error::from(kind);
            assert_eq!((error.class(), error.effect()), (class, effect), "{kind:?}");
        }
    }
}
