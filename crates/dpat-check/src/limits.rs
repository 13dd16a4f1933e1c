//! How long a checker may search, and how much it may remember.

use std::fmt;
use std::time::Duration;

use dpat_core::{Clock, Instant};

/// Bounds of one check. A search that reaches one ends with [`Verdict::Unknown`](crate::Verdict::Unknown).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use dpat_check::Limits;
/// use dpat_core::SystemClock;
///
/// let clock = SystemClock;
/// let limits = Limits::default().timeout(&clock, Duration::from_secs(10));
/// # let _ = limits;
/// ```
#[derive(Clone, Copy)]
pub struct Limits<'c> {
    until: Option<(&'c dyn Clock, Instant)>,
    configurations_max: usize,
}

impl Default for Limits<'_> {
    /// No time bound, 7 million configurations.
    fn default() -> Self {
        Self {
            until: None,
            configurations_max: 7_000_000,
        }
    }
}

impl<'c> Limits<'c> {
    /// Bounds the time from now, shared by all parts of a check.
    #[must_use]
    pub fn timeout<'d>(self, clock: &'d dyn Clock, timeout: Duration) -> Limits<'d>
    where
        'c: 'd,
    {
        Limits {
            until: Some((clock, clock.now() + timeout)),
            configurations_max: self.configurations_max,
        }
    }

    /// Bounds what one search remembers.
    ///
    /// A configuration takes about 20 bytes, or 50 while the table grows, for up to 64 calls open at once, and more
    /// with more of them; a distinct state of the object counts by [`Sequential::weight`](crate::Sequential::weight).
    #[must_use]
    pub const fn configurations_max(mut self, configurations_max: usize) -> Self {
        self.configurations_max = configurations_max;
        self
    }

    pub(crate) const fn meter(&self) -> Meter<'c> {
        Meter {
            limits: *self,
            ticks: 0,
        }
    }
}

impl fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("until", &self.until.map(|(_, until)| until))
            .field("configurations_max", &self.configurations_max)
            .finish()
    }
}

/// Why a checker cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// The time was up.
    #[error("the time was up")]
    Time,
    /// It had to remember more than [`Limits::configurations_max`].
    #[error("more configurations than configurations_max")]
    Configurations,
}

/// Measures a check against its limits.
#[derive(Clone, Copy)]
pub(crate) struct Meter<'c> {
    limits: Limits<'c>,
    ticks: u32,
}

/// Reading a clock costs as much as some steps of a search.
const TICKS_PER_READING: u32 = 1024;

impl Meter<'_> {
    /// Counts a step of bounded cost; the first one reads the clock.
    pub(crate) fn tick(&mut self) -> Result<(), Stopped> {
        let ticks = self.ticks;
        self.ticks = ticks.wrapping_add(1);
        if ticks % TICKS_PER_READING == 0 {
            self.read()?;
        }
        Ok(())
    }

    /// Reads the clock.
    pub(crate) fn read(&self) -> Result<(), Stopped> {
        match self.limits.until {
            Some((clock, until)) if clock.now() >= until => Err(Stopped::Time),
            _ => Ok(()),
        }
    }

    /// Returns a meter for a part of the check that may remember less.
    pub(crate) fn at_most(&self, configurations_max: usize) -> Self {
        let max = self.limits.configurations_max.min(configurations_max);
        Self {
            limits: self.limits.configurations_max(max),
            ticks: 0,
        }
    }

    pub(crate) const fn remembers(&self, configurations: usize) -> Result<(), Stopped> {
        if configurations > self.limits.configurations_max {
            return Err(Stopped::Configurations);
        }
        Ok(())
    }
}
