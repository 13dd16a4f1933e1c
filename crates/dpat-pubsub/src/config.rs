//! Settings of hubs and subscriptions, and what backends can do.

use crate::error::{ConfigError, SubjectError, Unsupported};
use crate::message::Message;
use crate::pubsub::PubSub;
use crate::subject::{Filter, Subject};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// The default of [`Builder::payload_bytes_max`]: 1 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The most messages that a subscriber's buffer can be set to hold.
pub const CAPACITY_MAX: usize = 1 << 20;

/// The most messages of a subject that can be retained.
pub const RETAINED_MAX: usize = 1024;

/// The longest name of a queue group or hub, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Sets up a hub in memory.
///
/// | setting | default |
/// |---|---|
/// | `name` | `default`; a label of events and counters |
/// | `payload_bytes_max` | 1 MiB |
/// | `subscriptions_max` | 65 536 |
/// | `retain` | nothing |
/// | `retained_subjects_max` | 1024 |
///
/// # Examples
/// ```
/// use dpat_pubsub::PubSub;
///
/// let hub = PubSub::builder().name("prices").retain("price.>", 1).build()?;
/// # Ok::<(), dpat_pubsub::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) name: Arc<str>,
    pub(crate) payload_bytes_max: usize,
    pub(crate) subscriptions_max: usize,
    pub(crate) retained_subjects_max: usize,
    pub(crate) retain: Vec<(Result<Filter, SubjectError>, usize)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: "default".into(),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            subscriptions_max: 1 << 16,
            retained_subjects_max: 1024,
            retain: Vec::new(),
        }
    }
}

impl Builder {
    /// Names the hub in events and counters.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Limits the payload of a message: 0 bytes to 1 GiB.
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.payload_bytes_max = bytes;
        self
    }

    /// Limits the subscriptions that there are at once: 1 to 2²⁴.
    pub fn subscriptions_max(mut self, count: usize) -> Self {
        self.subscriptions_max = count;
        self
    }

    /// Keeps the last messages of each subject that the filter matches, 1 to [`RETAINED_MAX`].
    ///
    /// Subscribers ask for them by [`Subscribe::replay`](crate::Subscribe::replay). The first rule that matches a subject
    /// decides. At most 64 rules.
    pub fn retain<F>(mut self, filter: F, last: usize) -> Self
    where
        F: TryInto<Filter>,
        F::Error: Into<SubjectError>,
    {
        self.retain
            .push((filter.try_into().map_err(Into::into), last));
        self
    }

    /// Limits the subjects of which messages are retained: 1 to 2²⁰.
    ///
    /// At the limit, a new subject takes the place of the one that was published to least recently.
    pub fn retained_subjects_max(mut self, count: usize) -> Self {
        self.retained_subjects_max = count;
        self
    }

    /// Makes the hub.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and its limits.
    pub fn build(self) -> Result<PubSub, ConfigError> {
        check_name("name", &self.name)?;
        within("payload_bytes_max", self.payload_bytes_max, 0, 1 << 30)?;
        within("subscriptions_max", self.subscriptions_max, 1, 1 << 24)?;
        within(
            "retained_subjects_max",
            self.retained_subjects_max,
            1,
            1 << 20,
        )?;
        within("retain", self.retain.len(), 0, 64)?;
        for (filter, last) in &self.retain {
            if let Err(source) = *filter {
                return Err(ConfigError::Filter {
                    field: "retain",
                    source,
                });
            }
            within("retain", *last, 1, RETAINED_MAX)?;
        }
        Ok(PubSub::in_memory(self))
    }
}

pub(crate) fn within(
    field: &'static str,
    got: usize,
    min: usize,
    max: usize,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(ConfigError::Count {
        field,
        min: min as u64,
        max: max as u64,
        got: got as u64,
    })
}

pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    let bad = |letter: char| letter.is_whitespace() || letter.is_control();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(bad) {
        return Err(ConfigError::Name {
            field,
            max: NAME_BYTES_MAX,
            got: name.into(),
        });
    }
    Ok(())
}

/// What happens to a message for a subscriber whose buffer is full.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Its publisher waits, and so does everything that this publisher has to say after it.
    ///
    /// The other subscribers have the message already. A publish that is dropped while it waits, or that never waits
    /// ([`Publisher::publish_now`](crate::Publisher::publish_now)), loses the message for this one, counted as lag.
    Await,
    /// The oldest message in the buffer is lost, counted as lag.
    #[default]
    DropOldest,
    /// The new message is lost, counted as lag.
    DropNewest,
    /// The new message is lost, counted as lag, and the subscription ends once what is in the buffer was read.
    Disconnect,
    /// The new message takes the place of the waiting one that has the same key, if there is one, full or not.
    ///
    /// The replaced one is no lag: the subscriber wants the latest value of each key. They are counted as
    /// [`Stats::conflated`](crate::Stats). A buffer full of other keys loses its oldest message, counted as lag.
    Conflate(KeyOf),
    /// The new message, and those after it until all of them were read, go to a file of bounded size.
    ///
    /// When the file is full as well, the new message is lost, counted as lag.
    #[cfg(feature = "spill")]
    Spill(crate::spill::Spill),
}

impl Overflow {
    /// Returns what a backend must be able to do for it.
    #[must_use]
    pub const fn capability(&self) -> Capability {
        match self {
            Self::Await => Capability::Await,
            Self::DropOldest => Capability::DropOldest,
            Self::DropNewest => Capability::DropNewest,
            Self::Disconnect => Capability::Disconnect,
            Self::Conflate(_) => Capability::Conflate,
            #[cfg(feature = "spill")]
            Self::Spill(_) => Capability::Spill,
        }
    }
}

/// What a conflated message is the newest value of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Subject(Subject),
    Bytes(Bytes),
}

/// How the key of a message is found, for [`Overflow::Conflate`].
#[derive(Clone, Default)]
pub struct KeyOf(Option<Arc<KeyFunction>>);

type KeyFunction = dyn Fn(&Message) -> Bytes + Send + Sync;

impl KeyOf {
    /// The subject is the key.
    #[must_use]
    pub const fn subject() -> Self {
        Self(None)
    }

    /// A function finds the key. It is called by the publisher, never under a lock.
    pub fn new(function: impl Fn(&Message) -> Bytes + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    pub(crate) fn of(&self, message: &Message) -> Key {
        match &self.0 {
            None => Key::Subject(message.subject().clone()),
            Some(function) => Key::Bytes(function(message)),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "KeyOf(fn)"
        } else {
            "KeyOf(subject)"
        })
    }
}

/// How a subscription is to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Wanted {
    /// The subjects.
    pub filter: Filter,
    /// The most messages that wait to be read, 1 to [`CAPACITY_MAX`].
    pub capacity: usize,
    /// What happens to the next one.
    pub overflow: Overflow,
    /// The queue group, of which one member gets each message.
    pub group: Option<Box<str>>,
    /// The most retained messages of each subject that come first.
    pub replay: usize,
}

impl Wanted {
    pub(crate) const CAPACITY: usize = 1024;

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        within("capacity", self.capacity, 1, CAPACITY_MAX)?;
        within("replay", self.replay, 0, RETAINED_MAX)?;
        #[cfg(feature = "spill")]
        if let Overflow::Spill(spill) = &self.overflow {
            spill.check()?;
        }
        match &self.group {
            // Each member would get all of them.
            Some(_) if self.replay > 0 => Err(ConfigError::Conflict {
                field: "replay",
                with: "group",
            }),
            Some(group) => check_name("group", group),
            None => Ok(()),
        }
    }

    /// Says in which setting two members of a group differ.
    pub(crate) fn differs(&self, other: &Self) -> Option<&'static str> {
        if self.capacity != other.capacity {
            return Some("capacity");
        }
        let same = match (&self.overflow, &other.overflow) {
            (Overflow::Conflate(one), Overflow::Conflate(other)) => one.is_same(other),
            (one, other) => one.capability() == other.capability(),
        };
        (!same).then_some("overflow")
    }
}

/// Something that a backend can do or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Queue groups.
    Groups,
    /// The last messages of a subject for new subscribers.
    Replay,
    /// Headers.
    Headers,
    /// [`Published::reached`](crate::Published::reached) is known, and with it that nobody answers a request.
    Reach,
    /// Exactly `capacity` messages wait for a subscriber, and exactly those beyond it overflow.
    ExactCapacity,
    /// [`Overflow::Await`]
    Await,
    /// [`Overflow::DropOldest`]
    DropOldest,
    /// [`Overflow::DropNewest`]
    DropNewest,
    /// [`Overflow::Disconnect`]
    Disconnect,
    /// [`Overflow::Conflate`]
    Conflate,
    /// `Overflow::Spill` (feature `spill`)
    Spill,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 11] = [
        Self::Groups,
        Self::Replay,
        Self::Headers,
        Self::Reach,
        Self::ExactCapacity,
        Self::Await,
        Self::DropOldest,
        Self::DropNewest,
        Self::Disconnect,
        Self::Conflate,
        Self::Spill,
    ];

    /// Returns the name that errors have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Groups => "queue groups",
            Self::Replay => "replay of retained messages",
            Self::Headers => "headers",
            Self::Reach => "the number of subscriptions reached",
            Self::ExactCapacity => "exact capacity",
            Self::Await => "overflow: await",
            Self::DropOldest => "overflow: drop the oldest",
            Self::DropNewest => "overflow: drop the newest",
            Self::Disconnect => "overflow: disconnect",
            Self::Conflate => "overflow: conflate",
            Self::Spill => "overflow: spill",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of [`Capability`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Makes a set.
    #[must_use]
    pub const fn of(list: &[Capability]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < list.len() {
            bits |= list[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// Says whether it is in the set.
    #[must_use]
    pub const fn has(self, one: Capability) -> bool {
        self.0 & one.bit() != 0
    }

    /// Refuses by name what is not in the set.
    ///
    /// # Errors
    /// [`Unsupported`] names the first that is missing.
    pub fn require(self, wanted: &[Capability], backend: &'static str) -> Result<(), Unsupported> {
        match wanted.iter().find(|one| !self.has(**one)) {
            Some(missing) => Err(Unsupported::new(missing.as_str(), backend)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_outside_their_limits_are_named() {
        let refused = |builder: Builder| builder.build().unwrap_err().to_string();
        let builder = Builder::default;
        let cases = [
            (
                builder().name(""),
                "name: \"\" is not a name of 1 to 64 bytes without white space",
            ),
            (
                builder().payload_bytes_max(usize::MAX),
                "payload_bytes_max: 18446744073709551615 is not within 0..=1073741824",
            ),
            (
                builder().subscriptions_max(0),
                "subscriptions_max: 0 is not within 1..=16777216",
            ),
            (
                builder().retained_subjects_max(0),
                "retained_subjects_max: 0 is not within 1..=1048576",
            ),
            (
                builder().retain("a.>", 0),
                "retain: 0 is not within 1..=1024",
            ),
            (
                builder().retain("a..b", 1),
                "retain: subject: the token at byte 2 is empty",
            ),
        ];
        for (builder, wanted) in cases {
            assert_eq!(refused(builder), wanted);
        }
        let many = (0..65).fold(builder(), |builder, _| builder.retain(">", 1));
        assert_eq!(refused(many), "retain: 65 is not within 0..=64");
    }

    #[test]
    fn capabilities_are_a_set() {
        let some = Capabilities::of(&[Capability::Groups, Capability::Spill]);
        for one in Capability::ALL {
            assert_eq!(
                some.has(one),
                matches!(one, Capability::Groups | Capability::Spill)
            );
        }
        let missing = some
            .require(&[Capability::Groups, Capability::Replay], "x")
            .unwrap_err();
        assert_eq!(
            missing.to_string(),
            "x does not offer replay of retained messages"
        );
    }
}
