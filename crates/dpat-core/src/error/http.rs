//! HTTP status codes.

use super::{Class, Classify, Effect};
use http::StatusCode;

/// By RFC 9110 § 15; an unknown code counts as the x00 of its class (§ 15, "Status Codes").
///
/// | codes | class | effect |
/// |---|---|---|
/// | 408 | timeout | not done: the request did not arrive in full |
/// | 429 | overloaded | not done (RFC 6585 § 4) |
/// | 421, 425 | transient | not done |
/// | 409, 412, 423 | conflict | not done |
/// | 499 (nginx) | cancelled | unknown |
/// | other 4xx | invalid input | not done |
/// | 503 | unavailable | unknown: a proxy may have sent it after it forwarded the request |
/// | 504 | timeout | unknown |
/// | 502 | unavailable | unknown |
/// | 501, 505, 506, 508, 510, 511 | permanent | not done |
/// | 507 | permanent | unknown |
/// | 500, other 5xx | transient | unknown |
/// | below 400, where an error was expected | permanent | unknown |
impl Classify for StatusCode {
    fn class(&self) -> Class {
        of(self.as_u16()).0
    }

    fn effect(&self) -> Effect {
        of(self.as_u16()).1
    }
}

const fn of(code: u16) -> (Class, Effect) {
    use Effect::{NotDone, Unknown};
    match code {
        408 => (Class::Timeout, NotDone),
        429 => (Class::Overloaded, NotDone),
        421 | 425 => (Class::Transient, NotDone),
        409 | 412 | 423 => (Class::Conflict, NotDone),
        499 => (Class::Cancelled, Unknown),
        400..=498 => (Class::InvalidInput, NotDone),
        502 | 503 => (Class::Unavailable, Unknown),
        504 => (Class::Timeout, Unknown),
        501 | 505 | 506 | 508 | 510 | 511 => (Class::Permanent, NotDone),
        507 => (Class::Permanent, Unknown),
        500..=599 => (Class::Transient, Unknown),
        _ => (Class::Permanent, Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_have_the_documented_class_and_effect() {
        use Effect::{NotDone, Unknown};
        let table = [
            (200, Class::Permanent, Unknown),
            (302, Class::Permanent, Unknown),
            (400, Class::InvalidInput, NotDone),
            (401, Class::InvalidInput, NotDone),
            (404, Class::InvalidInput, NotDone),
            (408, Class::Timeout, NotDone),
            (409, Class::Conflict, NotDone),
            (421, Class::Transient, NotDone),
            (429, Class::Overloaded, NotDone),
            (499, Class::Cancelled, Unknown),
            (500, Class::Transient, Unknown),
            (501, Class::Permanent, NotDone),
            (502, Class::Unavailable, Unknown),
            (503, Class::Unavailable, Unknown),
            (504, Class::Timeout, Unknown),
            (507, Class::Permanent, Unknown),
            (599, Class::Transient, Unknown),
            (999, Class::Permanent, Unknown),
        ];
        for (code, class, effect) in table {
            let code = StatusCode::from_u16(code).unwrap();
            assert_eq!((code.class(), code.effect()), (class, effect), "{code}");
        }
    }
}
