//! The `Retry-After` header.

use crate::Wall;
use std::time::Duration;

/// Reads the value of a `Retry-After` header: how long to wait from `now`.
///
/// Both forms of RFC 9110 § 10.2.3 are read: seconds (saturating), and a date in any of the three formats that § 5.6.7
/// tells recipients to accept. A date that has passed is zero. None if the value is neither. Clamping is left to
/// the caller: a server may ask for years.
///
/// # Examples
/// ```
/// use dpat_core::{Wall, parse_retry_after};
/// use std::time::Duration;
///
/// let now = Wall::from_nanos(784_111_747 * 1_000_000_000);
/// assert_eq!(parse_retry_after("120", now), Some(Duration::from_secs(120)));
/// let date = "Sun, 06 Nov 1994 08:49:37 GMT";
/// assert_eq!(parse_retry_after(date, now), Some(Duration::from_secs(30)));
/// assert_eq!(parse_retry_after("soon", now), None);
/// ```
#[must_use]
pub fn parse_retry_after(value: &str, now: Wall) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits, so that only the size can be wrong.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    // The longest form has 33 bytes ("Wednesday, 09-Nov-94 08:49:37 GMT").
    if value.len() > 33 || !value.is_ascii() {
        return None;
    }
    let seconds = date(value, now)?;
    let at = Wall::from_nanos(seconds.checked_mul(1_000_000_000)?);
    Some(at.since(now))
}

/// Reads an HTTP-date as seconds since 1970. The name of the weekday is not compared with the date.
fn date(value: &str, now: Wall) -> Option<u64> {
    let (weekday, rest) = value.split_at_checked(value.find([',', ' '])?)?;
    if let Some(rest) = rest.strip_prefix(", ") {
        let rest = rest.strip_suffix(" GMT")?;
        return match rest.as_bytes().get(2)? {
            b' ' if short_weekday(weekday) => imf_fixdate(rest),
            b'-' if long_weekday(weekday) => rfc850(rest, now),
            _ => None,
        };
    }
    short_weekday(weekday)
        .then(|| asctime(rest.strip_prefix(' ')?))
        .flatten()
}

/// `06 Nov 1994 08:49:37`
fn imf_fixdate(text: &str) -> Option<u64> {
    let (day, rest) = text.split_at_checked(2)?;
    let (month, rest) = rest.strip_prefix(' ')?.split_at_checked(3)?;
    let (year, time) = rest.strip_prefix(' ')?.split_at_checked(4)?;
    seconds(digits(year, 4)?, month, digits(day, 2)?, time)
}

/// `06-Nov-94 08:49:37`; a year that seems to be more than 50 years ahead is in the past (RFC 9110 § 5.6.7).
fn rfc850(text: &str, now: Wall) -> Option<u64> {
    let (day, rest) = text.split_at_checked(2)?;
    let (month, rest) = rest.strip_prefix('-')?.split_at_checked(3)?;
    let (year, time) = rest.strip_prefix('-')?.split_at_checked(2)?;
    let this_year = year_of(now.as_nanos() / 1_000_000_000 / 86_400);
    let mut year = this_year - this_year % 100 + digits(year, 2)?;
    if year > this_year + 50 {
        year -= 100;
    } else if year + 50 <= this_year {
        year += 100;
    }
    seconds(year, month, digits(day, 2)?, time)
}

/// `Nov  6 08:49:37 1994`
fn asctime(text: &str) -> Option<u64> {
    let (month, rest) = text.split_at_checked(3)?;
    let (day, rest) = rest.strip_prefix(' ')?.split_at_checked(2)?;
    let (time, year) = rest.split_at_checked(9)?;
    let day = match day.strip_prefix(' ') {
        Some(digit) => digits(digit, 1)?,
        None => digits(day, 2)?,
    };
    seconds(digits(year.strip_prefix(' ')?, 4)?, month, day, time)
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let all = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

fn short_weekday(name: &str) -> bool {
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&name)
}

fn long_weekday(name: &str) -> bool {
    name.strip_suffix("day").is_some_and(|stem| {
        ["Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"].contains(&stem)
    })
}

const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

/// Takes a date from 1970 on, and ` 08:49:37`.
fn seconds(year: u64, month: &str, day: u64, time: &str) -> Option<u64> {
    let index = MONTHS.iter().position(|(name, _)| *name == month)?;
    let leap = is_leap(year);
    let length = MONTHS[index].1 + u64::from(leap && index == 1);
    if year < 1970 || day == 0 || day > length {
        return None;
    }
    let before: u64 = MONTHS[..index].iter().map(|(_, days)| days).sum();
    let days = days_before(year) + before + u64::from(leap && index > 1) + day - 1;
    Some(days * 86_400 + time_of_day(time)?)
}

/// ` 08:49:37`, also with a leap second.
fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.strip_prefix(' ')?.splitn(3, ':');
    let mut next = |max| {
        let value = digits(parts.next()?, 2)?;
        (value <= max).then_some(value)
    };
    Some(next(23)? * 3600 + next(59)? * 60 + next(60)?)
}

const fn is_leap(year: u64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 to the first day of `year`, which is 1970 or later.
const fn days_before(year: u64) -> u64 {
    const fn leaps_until(year: u64) -> u64 {
        year / 4 - year / 100 + year / 400
    }
    (year - 1970) * 365 + leaps_until(year - 1) - leaps_until(1969)
}

const fn year_of(day: u64) -> u64 {
    let mut year = 1970 + day / 366;
    while days_before(year + 1) <= day {
        year += 1;
    }
    year
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(seconds: u64) -> Wall {
        Wall::from_nanos(seconds * 1_000_000_000)
    }

    /// The date as seconds since 1970, read at 1970.
    fn read(value: &str) -> Option<u64> {
        parse_retry_after(value, Wall::MIN).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_saturate() {
        assert_eq!(read("0"), Some(0));
        assert_eq!(read(" 120\t"), Some(120));
        assert_eq!(read("99999999999999999999999999"), Some(u64::MAX));
    }

    #[test]
    fn the_three_formats_of_the_rfc_are_one_date() {
        let expected = Some(Duration::from_secs(784_111_777));
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let at_1970 = parse_retry_after(date, Wall::MIN);
            assert_eq!(at_1970, expected, "{date}");
        }
    }

    #[test]
    fn known_dates() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Fri, 31 Dec 2049 00:00:00 GMT", 2_524_521_600),
        ] {
            assert_eq!(read(date), Some(seconds), "{date}");
        }
    }

    #[test]
    fn two_digit_years_are_within_fifty_years() {
        let read = |date| {
            let now = wall(1_767_225_600); // 2026-01-01
            parse_retry_after(date, now)
                .map(|wait| year_of((wait.as_secs() + 1_767_225_600) / 86_400))
        };
        assert_eq!(read("Friday, 01-Jan-27 00:00:00 GMT"), Some(2027));
        assert_eq!(read("Friday, 01-Jan-76 00:00:00 GMT"), Some(2076));
        // 1977 has passed: no wait.
        assert_eq!(read("Friday, 01-Jan-77 00:00:00 GMT"), Some(2026));
    }

    #[test]
    fn a_date_that_has_passed_is_no_wait() {
        let wait = parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", wall(784_111_778));
        assert_eq!(wait, Some(Duration::ZERO));
    }

    #[test]
    fn everything_else_is_refused() {
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Wed, 29 Feb 2023 00:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Foo, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun, 06 Növ 1994 08:49:37 GMT",
            ",",
            " ,",
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
    }
}
