//! gRPC status codes.

use super::{Class, Classify, Effect};
use std::fmt;

/// A gRPC status code (gRPC "Status Codes and Their Use in gRPC"), as the number that travels.
///
/// For clients other than tonic, or another tonic than the one of feature `tonic`:
/// `GrpcCode::new(status.code() as i32)`.
///
/// | codes | class | effect |
/// |---|---|---|
/// | CANCELLED (1) | cancelled | unknown |
/// | DEADLINE_EXCEEDED (4) | timeout | unknown |
/// | RESOURCE_EXHAUSTED (8) | overloaded | unknown |
/// | UNAVAILABLE (14) | unavailable | unknown |
/// | ALREADY_EXISTS (6), FAILED_PRECONDITION (9), ABORTED (10) | conflict | not done |
/// | INVALID_ARGUMENT (3), NOT_FOUND (5), PERMISSION_DENIED (7), OUT_OF_RANGE (11), UNAUTHENTICATED (16) | invalid input | not done |
/// | UNIMPLEMENTED (12) | permanent | not done |
/// | DATA_LOSS (15) | corrupt | unknown |
/// | UNKNOWN (2), INTERNAL (13), OK where an error was expected, any other | permanent | unknown |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrpcCode(i32);

impl GrpcCode {
    /// Takes the number; unknown ones count as UNKNOWN.
    #[must_use]
    pub const fn new(code: i32) -> Self {
        Self(code)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }

    const fn meaning(self) -> (Class, Effect) {
        use Effect::{NotDone, Unknown};
        match self.0 {
            1 => (Class::Cancelled, Unknown),
            4 => (Class::Timeout, Unknown),
            8 => (Class::Overloaded, Unknown),
            14 => (Class::Unavailable, Unknown),
            6 | 9 | 10 => (Class::Conflict, NotDone),
            3 | 5 | 7 | 11 | 16 => (Class::InvalidInput, NotDone),
            12 => (Class::Permanent, NotDone),
            15 => (Class::Corrupt, Unknown),
            _ => (Class::Permanent, Unknown),
        }
    }
}

impl fmt::Display for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC status {}", self.0)
    }
}

impl std::error::Error for GrpcCode {}

impl Classify for GrpcCode {
    fn class(&self) -> Class {
        self.meaning().0
    }

    fn effect(&self) -> Effect {
        self.meaning().1
    }
}

#[cfg(feature = "tonic")]
mod status {
    use super::{Class, Classify, Effect, GrpcCode};
    use std::time::Duration;
    use tonic::Status;

    /// As [`GrpcCode`]; the wait is the server's push-back, `grpc-retry-pushback-ms` (gRPC proposal A6).
    ///
    /// A negative or unreadable push-back means "do not retry", and makes the class permanent.
    impl Classify for Status {
        fn class(&self) -> Class {
            if let Some(Pushback::Never) = pushback(self) {
                return Class::Permanent;
            }
            GrpcCode::new(i32::from(self.code())).class()
        }

        fn effect(&self) -> Effect {
            GrpcCode::new(i32::from(self.code())).effect()
        }

        fn retry_after(&self) -> Option<Duration> {
            match pushback(self)? {
                Pushback::After(wait) => Some(wait),
                Pushback::Never => None,
            }
        }
    }

    enum Pushback {
        After(Duration),
        Never,
    }

    fn pushback(status: &Status) -> Option<Pushback> {
        let value = status.metadata().get("grpc-retry-pushback-ms")?;
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        Some(millis.map_or(Pushback::Never, |millis: u32| {
            Pushback::After(Duration::from_millis(u64::from(millis)))
        }))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn with_pushback(value: &str) -> Status {
            let mut status = Status::unavailable("busy");
            let value = value.parse().unwrap();
            status
                .metadata_mut()
                .insert("grpc-retry-pushback-ms", value);
            status
        }

        #[test]
        fn pushback_is_the_wait_and_a_negative_one_forbids() {
            assert_eq!(Status::unavailable("busy").retry_after(), None);
            let wait = with_pushback("1500").retry_after();
            assert_eq!(wait, Some(Duration::from_millis(1500)));
            for forbidden in ["-1", "soon"] {
                let status = with_pushback(forbidden);
                assert_eq!(status.class(), Class::Permanent);
                assert_eq!(status.retry_after(), None);
            }
        }

        #[test]
        fn tonic_statuses_agree_with_their_numbers() {
            let aborted = Status::aborted("lost the race");
            assert_eq!(aborted.class(), Class::Conflict);
            assert_eq!(aborted.effect(), Effect::NotDone);
            assert_eq!(Status::data_loss("").class(), Class::Corrupt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_codes_have_the_documented_class_and_effect() {
        use Class::{
            Cancelled, Conflict, Corrupt, InvalidInput, Overloaded, Permanent, Timeout, Unavailable,
        };
        let classes = [
            Permanent,
            Cancelled,
            Permanent,
            InvalidInput,
            Timeout,
            InvalidInput,
            Conflict,
            InvalidInput,
            Overloaded,
            Conflict,
            Conflict,
            InvalidInput,
            Permanent,
            Permanent,
            Unavailable,
            Corrupt,
            InvalidInput,
            Permanent,
        ];
        let not_done = [3, 5, 6, 7, 9, 10, 11, 12, 16];
        for (code, class) in (0..).zip(classes) {
            let code = GrpcCode::new(code);
            assert_eq!(code.class(), class, "{code}");
            let surely_not = not_done.contains(&code.get());
            assert_eq!(code.effect() == Effect::NotDone, surely_not, "{code}");
        }
    }
}
