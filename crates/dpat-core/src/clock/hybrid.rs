//! Hybrid logical clocks.

use crate::sync::{AtomicU64, Ordering, const_fn};
use crate::time::nanos;
use crate::{Class, Classify, Effect, Wall};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Bits of the logical counter, at the low end.
const LOGICAL_BITS: u32 = 16;
const LOGICAL_MASK: u64 = (1 << LOGICAL_BITS) - 1;

/// Timestamps are given below this. The other half is room that [`AtomicHlc`] can never count through.
const END: u64 = 1 << 63;

/// The reservation of a clock that needs none.
const EVERYTHING: u64 = u64::MAX;

/// A hybrid logical timestamp in 64 bits.
///
/// The upper 48 bits are the physical time in units of 65.536 µs since 1970, the lower 16 a counter, so that the whole
/// reads as nanoseconds that are exact to 65.536 µs (Kulkarni, Demirbas et al. 2014, "Logical Physical Clocks", § 4.3
/// "Compact Timestamping"). If one event happened before another, its timestamp is smaller. Pair it with a
/// [`NodeId`](crate::NodeId) where ties must be broken. Clocks give them up to the year 2262.
///
/// Printed as 16 hexadecimal digits; byte order, text order and order of the values agree.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HlcTimestamp(u64);

impl HlcTimestamp {
    /// The smallest timestamp.
    pub const MIN: Self = Self(0);
    /// The largest timestamp.
    pub const MAX: Self = Self(u64::MAX);

    /// Takes the packed form.
    #[must_use]
    pub const fn from_u64(packed: u64) -> Self {
        Self(packed)
    }

    /// Returns the packed form.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the physical part, exact to 65.536 µs.
    #[must_use]
    pub const fn wall(self) -> Wall {
        Wall::from_nanos(self.0 & !LOGICAL_MASK)
    }

    /// Returns the logical part.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "16 bits remain")]
    pub const fn logical(self) -> u16 {
        (self.0 & LOGICAL_MASK) as u16
    }
}

impl fmt::Display for HlcTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for HlcTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns+{}", self.wall().as_nanos(), self.logical())
    }
}

impl FromStr for HlcTimestamp {
    type Err = crate::ParseIdError;

    /// Reads 16 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 16 {
            return Err(crate::ParseIdError::Length(text.len()));
        }
        let mut packed = 0;
        for (position, byte) in text.bytes().enumerate() {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return Err(crate::ParseIdError::Byte(position)),
            };
            packed = packed << 4 | u64::from(digit);
        }
        Ok(Self(packed))
    }
}

/// Why a clock gave no timestamp. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HlcError {
    /// The peer's timestamp is too far ahead of the local wall clock; accepting it would drag this clock along.
    TooFarAhead {
        /// By how much.
        ahead: Duration,
        /// What is accepted.
        max: Duration,
    },
    /// The next timestamp lies beyond the reservation; store and reserve a mark later than this.
    Unreserved(Wall),
    /// The year is 2262, or a peer says so.
    Exhausted,
}

impl fmt::Display for HlcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFarAhead { ahead, max } => {
                write!(
                    f,
                    "hlc: a peer is {ahead:?} ahead, at most {max:?} is accepted"
                )
            }
            Self::Unreserved(wall) => {
                write!(
                    f,
                    "hlc: times up to {} ns are not reserved",
                    wall.as_nanos()
                )
            }
            Self::Exhausted => f.write_str("hlc: the last timestamp has been given"),
        }
    }
}

impl std::error::Error for HlcError {}

impl Classify for HlcError {
    fn class(&self) -> Class {
        match self {
            Self::TooFarAhead { .. } => Class::InvalidInput,
            Self::Unreserved(_) => Class::Unavailable,
            Self::Exhausted => Class::Permanent,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// What both clocks compute: the smallest timestamp above `floor` that is no earlier than `wall`.
///
/// This is § 4.2 of the paper: with l and c packed, "take the maximum, and add one to the counter unless the wall
/// clock is ahead" is one addition and one maximum. A full counter carries into the physical part.
#[inline]
fn after(floor: u64, wall: Wall, reserved: u64) -> Result<u64, HlcError> {
    let next = floor.saturating_add(1).max(physical(wall));
    if next >= END {
        return Err(HlcError::Exhausted);
    }
    if next > reserved {
        return Err(HlcError::Unreserved(HlcTimestamp(next).wall()));
    }
    Ok(next)
}

#[inline]
const fn physical(wall: Wall) -> u64 {
    wall.as_nanos() & !LOGICAL_MASK
}

/// Refuses a peer that is too far ahead.
#[inline]
fn check_ahead(remote: HlcTimestamp, wall: Wall, max_ahead: u64) -> Result<(), HlcError> {
    let ahead = remote.wall().as_nanos().saturating_sub(wall.as_nanos());
    if ahead > max_ahead {
        return Err(HlcError::TooFarAhead {
            ahead: Duration::from_nanos(ahead),
            max: Duration::from_nanos(max_ahead),
        });
    }
    Ok(())
}

/// A hybrid logical clock of one owner (Kulkarni, Demirbas et al. 2014, § 4.2).
///
/// - Timestamps strictly increase, also when the wall clock goes back.
/// - A message that is further ahead than the maximum offset is refused.
/// - More than 65 536 events in 65.536 µs, or on a clock that stands still, carry into the physical part: the order
///   holds, and [`lead`](Self::lead) shows how far the clock has run ahead.
/// - With [`resume_from`](Self::resume_from), timestamps increase across restarts even if the wall clock went back.
///
/// # Examples
/// ```
/// use dpat_core::{Hlc, Wall};
/// use std::time::Duration;
///
/// let mut a = Hlc::new(Duration::from_millis(500));
/// let mut b = Hlc::new(Duration::from_millis(500));
/// let wall_a = Wall::from_nanos(2_000_000_000);
/// let wall_b = Wall::from_nanos(1_900_000_000); // 100 ms behind
/// let sent = a.tick(wall_a)?;
/// let received = b.receive(wall_b, sent)?;
/// assert!(sent < received);
/// # Ok::<(), dpat_core::HlcError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hlc {
    last: u64,
    reserved: u64,
    max_ahead: u64,
}

impl Hlc {
    /// Starts a clock that accepts messages from at most `max_offset` ahead of its wall clock.
    #[must_use]
    pub const fn new(max_offset: Duration) -> Self {
        Self {
            last: 0,
            reserved: EVERYTHING,
            max_ahead: nanos(max_offset),
        }
    }

    /// Begins after a stored mark.
    ///
    /// Pass [`Wall::MIN`] on the first start. Nothing is given until [`reserve`](Self::reserve) is called: see there.
    #[must_use]
    pub const fn resume_from(mut self, mark: Wall) -> Self {
        self.last = mark.as_nanos() | LOGICAL_MASK;
        self.reserved = self.last;
        self
    }

    /// Allows timestamps up to `mark`, which must be stored durably *before* this call.
    ///
    /// Only after [`resume_from`](Self::resume_from) are they limited at all. Store a mark some seconds ahead of the
    /// clock, reserve it, and do so again before the clock reaches it; after a crash, resume from the stored mark.
    pub fn reserve(&mut self, mark: Wall) {
        self.reserved = self.reserved.max(mark.as_nanos() | LOGICAL_MASK);
    }

    /// Stamps a local event, such as the sending of a message.
    ///
    /// # Errors
    /// [`HlcError::Unreserved`], [`HlcError::Exhausted`].
    #[inline]
    pub fn tick(&mut self, wall: Wall) -> Result<HlcTimestamp, HlcError> {
        self.last = after(self.last, wall, self.reserved)?;
        Ok(HlcTimestamp(self.last))
    }

    /// Stamps the receipt of a message: later than the message and every event so far.
    ///
    /// # Errors
    /// [`HlcError::TooFarAhead`], [`HlcError::Unreserved`], [`HlcError::Exhausted`].
    #[inline]
    pub fn receive(&mut self, wall: Wall, message: HlcTimestamp) -> Result<HlcTimestamp, HlcError> {
        check_ahead(message, wall, self.max_ahead)?;
        self.last = after(self.last.max(message.0), wall, self.reserved)?;
        Ok(HlcTimestamp(self.last))
    }

    /// Returns the last timestamp.
    #[must_use]
    pub const fn last(&self) -> HlcTimestamp {
        HlcTimestamp(self.last)
    }

    /// Returns how far the clock is ahead of the wall clock.
    #[must_use]
    pub const fn lead(&self, wall: Wall) -> Duration {
        self.last().wall().since(wall)
    }
}

/// A hybrid logical clock that all threads of a process share without a lock.
///
/// Everything said of [`Hlc`] holds.
///
/// Complexity: a tick is one atomic addition, and a compare-and-swap more when the wall clock is ahead of the last
/// timestamp, at most every 65.536 µs; a receipt of a message from ahead of the wall clock, or any call with a
/// reservation, is one compare-and-swap. Those are repeated when another thread was first.
///
/// # Examples
/// ```
/// use dpat_core::{AtomicHlc, Clock, SystemClock};
/// use std::time::Duration;
///
/// static CLOCK: AtomicHlc = AtomicHlc::new(Duration::from_millis(500));
/// let first = CLOCK.tick(SystemClock.wall())?;
/// assert!(first < CLOCK.tick(SystemClock.wall())?);
/// # Ok::<(), dpat_core::HlcError>(())
/// ```
#[derive(Debug)]
pub struct AtomicHlc {
    last: AtomicU64,
    reserved: AtomicU64,
    max_ahead: u64,
}

impl AtomicHlc {
    const_fn! {
        /// Starts a clock that accepts messages from at most `max_offset` ahead of its wall clock.
        #[must_use]
        pub const fn new(max_offset: Duration) -> Self {
            Self::from_local(Hlc::new(max_offset))
        }
    }

    const_fn! {
        /// Goes on from where a local clock stands.
        #[must_use]
        pub const fn from_local(local: Hlc) -> Self {
            Self {
                last: AtomicU64::new(local.last),
                reserved: AtomicU64::new(local.reserved),
                max_ahead: local.max_ahead,
            }
        }
    }

    /// Begins after a stored mark; see [`Hlc::resume_from`].
    #[must_use]
    pub fn resume_from(self, mark: Wall) -> Self {
        let local = Hlc {
            last: 0,
            reserved: 0,
            max_ahead: self.max_ahead,
        };
        Self::from_local(local.resume_from(mark))
    }

    /// Allows timestamps up to `mark`, stored durably before; see [`Hlc::reserve`].
    pub fn reserve(&self, mark: Wall) {
        self.reserved
            .fetch_max(mark.as_nanos() | LOGICAL_MASK, Ordering::Relaxed);
    }

    /// Stamps a local event, such as the sending of a message.
    ///
    /// # Errors
    /// [`HlcError::Unreserved`], [`HlcError::Exhausted`].
    #[inline]
    pub fn tick(&self, wall: Wall) -> Result<HlcTimestamp, HlcError> {
        // A reservation seen late only refuses what would be allowed.
        let reserved = self.reserved.load(Ordering::Relaxed);
        if reserved != EVERYTHING {
            return self.exchange(wall, 0, reserved, self.last.load(Ordering::Relaxed));
        }
        // Counting is enough unless the wall clock is ahead; then a value is skipped, which harms nobody.
        let next = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if next >= physical(wall) && next < END {
            return Ok(HlcTimestamp(next));
        }
        self.exchange(wall, 0, reserved, next)
    }

    /// Stamps the receipt of a message: later than the message and every event so far.
    ///
    /// # Errors
    /// [`HlcError::TooFarAhead`], [`HlcError::Unreserved`], [`HlcError::Exhausted`].
    #[inline]
    pub fn receive(&self, wall: Wall, message: HlcTimestamp) -> Result<HlcTimestamp, HlcError> {
        if message.0 < physical(wall) {
            // The usual case: it was on its way for longer than the clocks differ, and cannot be the latest.
            return self.tick(wall);
        }
        check_ahead(message, wall, self.max_ahead)?;
        let reserved = self.reserved.load(Ordering::Relaxed);
        let last = self.last.load(Ordering::Relaxed);
        self.exchange(wall, message.0, reserved, last)
    }

    // Relaxed, here and above: the timestamp is the whole state. Each one comes from the modification order of this
    // location, in which every value is greater than the one before; what a thread saw first it cannot see again.
    #[inline]
    fn exchange(
        &self,
        wall: Wall,
        message: u64,
        reserved: u64,
        mut last: u64,
    ) -> Result<HlcTimestamp, HlcError> {
        loop {
            let next = after(last.max(message), wall, reserved)?;
            match self
                .last
                .compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(HlcTimestamp(next)),
                Err(newer) => last = newer,
            }
        }
    }

    /// Returns the last timestamp.
    #[must_use]
    pub fn last(&self) -> HlcTimestamp {
        // Calls after the end still count.
        HlcTimestamp(self.last.load(Ordering::Relaxed).min(END - 1))
    }

    /// Returns how far the clock is ahead of the wall clock.
    #[must_use]
    pub fn lead(&self, wall: Wall) -> Duration {
        self.last().wall().since(wall)
    }
}

#[cfg(feature = "serde")]
mod serde_impl {
    use super::HlcTimestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl Serialize for HlcTimestamp {
        /// Text for people, a `u64` otherwise.
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if serializer.is_human_readable() {
                serializer.collect_str(self)
            } else {
                serializer.serialize_u64(self.0)
            }
        }
    }

    impl<'de> Deserialize<'de> for HlcTimestamp {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if deserializer.is_human_readable() {
                deserializer.deserialize_str(crate::id::FromText::new("a hybrid timestamp"))
            } else {
                u64::deserialize(deserializer).map(Self)
            }
        }
    }
}
