//! What a server says of its version.

use std::fmt;

/// The version of a server. Older servers ignore without a word what newer ones do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// The first number.
    pub major: u32,
    /// The second one.
    pub minor: u32,
    /// The third one.
    pub patch: u32,
}

impl ServerVersion {
    /// The oldest that this crate works with: 2.9.
    pub const OLDEST: Self = Self::new(2, 9, 0);

    /// Makes a version.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads `2.9.10`, `v2.9.10` or `2.11.0-dev`; what is not there is 0.
    pub(crate) fn read(text: &str) -> Self {
        let numbers = text.trim_start_matches('v').split(['.', '-', '+']);
        let mut numbers = numbers.map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self::new(next(), next(), next())
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(ServerVersion::read("2.9.10"), ServerVersion::new(2, 9, 10));
        assert_eq!(
            ServerVersion::read("v2.11.0-dev"),
            ServerVersion::new(2, 11, 0)
        );
        assert_eq!(ServerVersion::read(""), ServerVersion::default());
        assert!(ServerVersion::new(2, 9, 10) < ServerVersion::new(2, 10, 0));
        assert_eq!(ServerVersion::OLDEST.to_string(), "2.9.0");
    }
}
