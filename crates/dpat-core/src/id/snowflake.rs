//! Snowflake-style ids: 64 bits of time, node and sequence.

use super::monotonic::{Full, Monotonic, Rules};
use super::{GenerateError, NodeId, ParseIdError, RollbackPolicy, crockford};
use crate::{Class, Classify, Effect, Wall};
use std::fmt;
use std::str::FromStr;

/// A 64-bit id of milliseconds, node and sequence, laid out by a [`SnowflakeLayout`].
///
/// Printed in decimal, as everyone does; for text that sorts as the ids do, write `{:020}` or
/// [`encode_sortable`](Self::encode_sortable).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snowflake(u64);

impl Snowflake {
    /// Takes the number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the 8 bytes, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Takes the 8 bytes, most significant first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// Writes 13 digits of Crockford's base 32, which sort as the ids do.
    pub fn encode_sortable(self, buffer: &mut [u8; 13]) -> &str {
        *buffer = crockford::encode(u128::from(self.0));
        super::ascii(buffer)
    }

    /// Reads what [`encode_sortable`](Self::encode_sortable) wrote.
    ///
    /// # Errors
    /// [`ParseIdError`].
    #[allow(clippy::cast_possible_truncation)] // 64 bits were asked for
    pub fn parse_sortable(text: &str) -> Result<Self, ParseIdError> {
        crockford::decode_strict(text, 13, 64).map(|number| Self(number as u64))
    }

    /// Reads decimal digits, also with leading zeros.
    ///
    /// # Errors
    /// [`ParseIdError`].
    pub fn parse_tolerant(text: &str) -> Result<Self, ParseIdError> {
        if text.is_empty() || text.len() > 20 {
            return Err(ParseIdError::Length(text.len()));
        }
        let mut number = 0_u64;
        for (position, byte) in text.bytes().enumerate() {
            if !byte.is_ascii_digit() {
                return Err(ParseIdError::Byte(position));
            }
            number = number
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                .ok_or(ParseIdError::Overflow)?;
        }
        Ok(Self(number))
    }
}

impl FromStr for Snowflake {
    type Err = ParseIdError;

    /// Reads decimal digits without leading zeros, so that equal texts are equal ids.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() > 1 && text.starts_with('0') {
            return Err(ParseIdError::Byte(0));
        }
        Self::parse_tolerant(text)
    }
}

impl fmt::Display for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the bits of a [`Snowflake`] are used: timestamp, node, sequence, from the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnowflakeLayout {
    epoch_ms: u64,
    timestamp_bits: u32,
    node_bits: u32,
    sequence_bits: u32,
}

/// What a [`Snowflake`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnowflakeParts {
    /// Time of creation, in whole milliseconds.
    pub wall: Wall,
    /// Who made it.
    pub node: NodeId,
    /// How many that node had made in this millisecond.
    pub sequence: u64,
}

impl SnowflakeLayout {
    /// Twitter: 41 bits since 2010-11-04T01:42:54.657Z, 10 of node, 12 of sequence; positive as a signed number.
    pub const TWITTER: Self = Self::preset(1_288_834_974_657, 41, 10, 12);
    /// Discord: 42 bits since 2015, 10 of node (worker and process), 12 of sequence.
    pub const DISCORD: Self = Self::preset(1_420_070_400_000, 42, 10, 12);
    /// Instagram: 41 bits since 2011-08-24T21:07:01.721Z (the epoch of the published SQL function), 13 of logical
    /// shard, 10 of sequence.
    pub const INSTAGRAM: Self = Self::preset(1_314_220_021_721, 41, 13, 10);
    /// Mastodon: 48 bits since 1970, no node, 16 of sequence. One generator for the whole system.
    pub const MASTODON: Self = Self::preset(0, 48, 0, 16);

    const fn preset(
        epoch_ms: u64,
        timestamp_bits: u32,
        node_bits: u32,
        sequence_bits: u32,
    ) -> Self {
        Self {
            epoch_ms,
            timestamp_bits,
            node_bits,
            sequence_bits,
        }
    }

    /// Lays out an id; `epoch` is the time of timestamp 0, cut to milliseconds.
    ///
    /// # Errors
    /// [`SnowflakeConfigError::Bits`] unless timestamp and sequence have bits and the sum is at most 64.
    pub const fn new(
        epoch: Wall,
        timestamp_bits: u32,
        node_bits: u32,
        sequence_bits: u32,
    ) -> Result<Self, SnowflakeConfigError> {
        let sum = timestamp_bits
            .saturating_add(node_bits)
            .saturating_add(sequence_bits);
        if timestamp_bits == 0 || sequence_bits == 0 || sum > 64 {
            return Err(SnowflakeConfigError::Bits {
                timestamp: timestamp_bits,
                node: node_bits,
                sequence: sequence_bits,
            });
        }
        let epoch_ms = epoch.as_millis();
        Ok(Self::preset(
            epoch_ms,
            timestamp_bits,
            node_bits,
            sequence_bits,
        ))
    }

    /// Returns the largest node number.
    #[must_use]
    pub const fn node_max(&self) -> u64 {
        mask(self.node_bits)
    }

    /// Returns the largest sequence number.
    #[must_use]
    pub const fn sequence_max(&self) -> u64 {
        mask(self.sequence_bits)
    }

    /// Returns the last time that fits.
    #[must_use]
    pub const fn last_time(&self) -> Wall {
        let millis = self.epoch_ms.saturating_add(mask(self.timestamp_bits));
        Wall::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// Takes an id apart.
    #[must_use]
    pub const fn parts(&self, id: Snowflake) -> SnowflakeParts {
        let millis = (id.0 >> (self.node_bits + self.sequence_bits)).saturating_add(self.epoch_ms);
        SnowflakeParts {
            wall: Wall::from_nanos(millis.saturating_mul(1_000_000)),
            node: NodeId::new((id.0 >> self.sequence_bits) & self.node_max()),
            sequence: id.0 & self.sequence_max(),
        }
    }

    const fn compose(&self, tick: u64, node: u64, sequence: u64) -> Snowflake {
        Snowflake(
            (tick << (self.node_bits + self.sequence_bits))
                | (node << self.sequence_bits)
                | sequence,
        )
    }
}

const fn mask(bits: u32) -> u64 {
    // 64 bits of timestamp cannot be: the sequence has at least one.
    (1 << bits) - 1
}

/// A Snowflake generator that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnowflakeConfigError {
    /// Timestamp and sequence need a bit each, and all three together have 64.
    Bits {
        /// Bits of the timestamp.
        timestamp: u32,
        /// Bits of the node.
        node: u32,
        /// Bits of the sequence.
        sequence: u32,
    },
    /// The node's number does not fit the layout.
    NodeTooLarge {
        /// The number.
        node: u64,
        /// The largest that fits.
        max: u64,
    },
    /// [`RollbackPolicy::ResetAfter`] would give the same ids again.
    ResetRepeatsIds,
}

impl fmt::Display for SnowflakeConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits {
                timestamp,
                node,
                sequence,
            } => write!(
                f,
                "snowflake layout: {timestamp} + {node} + {sequence} bits: timestamp and sequence need one each, \
                 the sum is at most 64"
            ),
            Self::NodeTooLarge { node, max } => {
                write!(f, "snowflake node: {node} is above {max}")
            }
            Self::ResetRepeatsIds => {
                f.write_str("snowflake policy: a reset of the time would give the same ids again")
            }
        }
    }
}

impl std::error::Error for SnowflakeConfigError {}

impl Classify for SnowflakeConfigError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// Builds a [`SnowflakeGenerator`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct SnowflakeBuilder {
    node: NodeId,
    layout: SnowflakeLayout,
    policy: RollbackPolicy,
    mark: Option<Wall>,
}

impl SnowflakeBuilder {
    /// Replaces the layout; [`SnowflakeLayout::TWITTER`] by default.
    pub const fn layout(mut self, layout: SnowflakeLayout) -> Self {
        self.layout = layout;
        self
    }

    /// Replaces the policy for clocks that go back; [`RollbackPolicy::Hold`] by default.
    pub const fn policy(mut self, policy: RollbackPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Begins after a stored mark, so that no id is given twice across a restart even if the clock went back.
    ///
    /// Pass [`Wall::MIN`] on the first start. Nothing is given until [`SnowflakeGenerator::reserve`] is called.
    pub const fn resume_from(mut self, mark: Wall) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Makes the generator.
    ///
    /// # Errors
    /// [`SnowflakeConfigError::NodeTooLarge`], [`SnowflakeConfigError::ResetRepeatsIds`].
    pub fn build(self) -> Result<SnowflakeGenerator, SnowflakeConfigError> {
        let (node, max) = (self.node.get(), self.layout.node_max());
        if node > max {
            return Err(SnowflakeConfigError::NodeTooLarge { node, max });
        }
        if matches!(self.policy, RollbackPolicy::ResetAfter(_)) {
            return Err(SnowflakeConfigError::ResetRepeatsIds);
        }
        let rules = Rules {
            counter_bits: self.layout.sequence_bits,
            tick_max: mask(self.layout.timestamp_bits),
            epoch_ms: self.layout.epoch_ms,
            policy: self.policy,
            full: Full::CarryWhileBehind,
        };
        let words = match self.mark {
            Some(mark) => Monotonic::after(mark, rules),
            None => Monotonic::new(rules),
        };
        Ok(SnowflakeGenerator {
            words,
            node,
            layout: self.layout,
        })
    }
}

/// A lock-free generator of [`Snowflake`]s that strictly increase.
///
/// One generator, shared by reference or in an `Arc`, serves all threads of a process. Ids are unique as long as no
/// two generators have the same node at the same time, and a restart resumes from a stored mark
/// ([`SnowflakeBuilder::resume_from`]) or at least a millisecond later by a clock that did not go back.
///
/// When the sequence of the current millisecond is used up, the answer is [`GenerateError::Wait`]: the generator
/// never sleeps. While it holds the time of a clock that went back, it goes on in the next millisecond instead.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, NodeId, SnowflakeGenerator, SnowflakeLayout, SystemClock};
///
/// let ids = SnowflakeGenerator::builder(NodeId::new(7))
///     .layout(SnowflakeLayout::DISCORD)
///     .build()?;
/// let id = ids.next(SystemClock.wall())?;
/// assert_eq!(SnowflakeLayout::DISCORD.parts(id).node, NodeId::new(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SnowflakeGenerator {
    words: Monotonic,
    node: u64,
    layout: SnowflakeLayout,
}

impl SnowflakeGenerator {
    /// Starts with Twitter's layout and the policy to hold.
    pub const fn builder(node: NodeId) -> SnowflakeBuilder {
        SnowflakeBuilder {
            node,
            layout: SnowflakeLayout::TWITTER,
            policy: RollbackPolicy::Hold,
            mark: None,
        }
    }

    /// Returns the layout.
    #[must_use]
    pub const fn layout(&self) -> SnowflakeLayout {
        self.layout
    }

    /// Makes the next id; greater than every one before.
    ///
    /// # Errors
    /// [`GenerateError`]; [`GenerateError::Wait`] says when to come back.
    ///
    /// # Complexity
    /// One compare-and-swap, repeated under contention.
    #[inline]
    pub fn next(&self, wall: Wall) -> Result<Snowflake, GenerateError> {
        let (tick, sequence) = self.words.next(wall, || 0)?;
        Ok(self.layout.compose(tick, self.node, sequence))
    }

    /// Returns a time that no id given so far lies beyond.
    #[must_use]
    pub fn high_water(&self) -> Wall {
        self.words.high_water()
    }

    /// Allows ids with times up to `mark`, which must be stored durably *before* this call.
    ///
    /// Only after [`SnowflakeBuilder::resume_from`] are ids limited at all. Store a mark some seconds ahead of the
    /// clock, reserve it, and do so again before the clock reaches it; after a crash, resume from the stored mark.
    pub fn reserve(&self, mark: Wall) {
        self.words.reserve(mark);
    }
}

#[cfg(feature = "serde")]
mod serde_impl {
    use super::Snowflake;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl Serialize for Snowflake {
        /// Decimal text for people (numbers above 2^53 do not survive JavaScript), a `u64` otherwise.
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if serializer.is_human_readable() {
                serializer.collect_str(self)
            } else {
                serializer.serialize_u64(self.0)
            }
        }
    }

    impl<'de> Deserialize<'de> for Snowflake {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if deserializer.is_human_readable() {
                deserializer.deserialize_str(crate::id::FromText::new("a snowflake id"))
            } else {
                u64::deserialize(deserializer).map(Self)
            }
        }
    }
}
