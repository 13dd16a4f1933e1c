//! What a backend can do, and what a program needs.

use std::fmt;

use dpat_core::{Class, Classify, Effect};

/// Something that not every backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Capability {
    /// A lease can be made longer.
    Extend,
    /// A message can be held back by its sender until a time. The delay of a retry is kept everywhere.
    Delay,
    /// A message of a higher priority comes first.
    Priority,
    /// The receipt of an earlier delivery is refused.
    FencedSettle,
    /// Of a key one message is out at a time, in the order of sending.
    OrderedKeys,
    /// A message that is sent twice within a window is there once.
    Dedup,
    /// A message that was not delivered in time is removed.
    Ttl,
    /// What is rejected is kept with its reason, listed, replayed and discarded.
    DeadLetters,
    /// Messages are looked at without receiving them, purged and counted.
    Inspect,
    /// Delivery can be stopped and resumed.
    Pause,
    /// A message can be sent within a transaction of the caller.
    TransactionalSend,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Extend,
        Self::Delay,
        Self::Priority,
        Self::FencedSettle,
        Self::OrderedKeys,
        Self::Dedup,
        Self::Ttl,
        Self::DeadLetters,
        Self::Inspect,
        Self::Pause,
        Self::TransactionalSend,
    ];

    /// Returns the name, as errors have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Extend => "extend",
            Self::Delay => "delay",
            Self::Priority => "priority",
            Self::FencedSettle => "fenced settle",
            Self::OrderedKeys => "ordered keys",
            Self::Dedup => "deduplication",
            Self::Ttl => "time to live",
            Self::DeadLetters => "dead letters",
            Self::Inspect => "inspect",
            Self::Pause => "pause",
            Self::TransactionalSend => "send in a transaction",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In which order messages come that are neither retried nor of different priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderScope {
    /// In any.
    #[default]
    None,
    /// In the order of sending, within a key.
    Key,
    /// In the order of sending, in the whole queue.
    Queue,
}

impl OrderScope {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "no order",
            Self::Key => "order within a key",
            Self::Queue => "order in the queue",
        }
    }
}

/// What an acknowledged message survives; each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Survives {
    /// It ends with the process.
    #[default]
    Nothing,
    /// The process is killed.
    ProcessKill,
    /// The machine loses power.
    PowerLoss,
    /// The machine is lost.
    NodeLoss,
}

impl Survives {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "survives nothing",
            Self::ProcessKill => "survives a killed process",
            Self::PowerLoss => "survives a power cut",
            Self::NodeLoss => "survives the loss of a node",
        }
    }
}

/// What a backend declares that it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    bits: u32,
    /// In which order messages come.
    pub order: OrderScope,
    /// What an acknowledged message survives.
    pub survives: Survives,
    /// The largest payload, in bytes.
    pub message_bytes_max: usize,
}

impl Capabilities {
    /// Declares a set of capabilities.
    #[must_use]
    pub const fn of(capabilities: &[Capability]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < capabilities.len() {
            bits |= capabilities[at].bit();
            at += 1;
        }
        Self {
            bits,
            order: OrderScope::None,
            survives: Survives::Nothing,
            message_bytes_max: 0,
        }
    }

    /// Declares the order.
    #[must_use]
    pub const fn with_order(mut self, order: OrderScope) -> Self {
        self.order = order;
        self
    }

    /// Declares what an acknowledged message survives.
    #[must_use]
    pub const fn with_survival(mut self, survives: Survives) -> Self {
        self.survives = survives;
        self
    }

    /// Declares the largest payload.
    #[must_use]
    pub const fn with_message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Takes a capability away.
    #[must_use]
    pub const fn without(mut self, capability: Capability) -> Self {
        self.bits &= !capability.bit();
        self
    }

    /// Says whether a capability is there.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        self.bits & capability.bit() != 0
    }
}

/// What a program needs of its queue; asked for once, at its start.
///
/// # Examples
/// ```
/// use dpat_core::ManualTime;
/// use dpat_queue::{Capability, Queue, Requirements, Survives};
///
/// let queue = Queue::builder().in_memory(ManualTime::new())?;
/// let needs = Requirements::new().needs(Capability::OrderedKeys);
/// queue.require(&needs)?;
///
/// let unmet = queue.require(&needs.survives(Survives::PowerLoss)).unwrap_err();
/// assert_eq!(unmet.to_string(), "the queue `memory` lacks: survives a power cut (it survives nothing)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    wants: Capabilities,
}

impl Requirements {
    /// Needs nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            wants: Capabilities::of(&[]),
        }
    }

    /// Needs a capability.
    #[must_use]
    pub const fn needs(mut self, capability: Capability) -> Self {
        self.wants.bits |= capability.bit();
        self
    }

    /// Needs an order, or a stronger one.
    #[must_use]
    pub const fn order(mut self, order: OrderScope) -> Self {
        self.wants.order = order;
        self
    }

    /// Needs acknowledged messages to survive this, or more.
    #[must_use]
    pub const fn survives(mut self, survives: Survives) -> Self {
        self.wants.survives = survives;
        self
    }

    /// Needs payloads of this size, or larger.
    #[must_use]
    pub const fn message_bytes(mut self, bytes: usize) -> Self {
        self.wants.message_bytes_max = bytes;
        self
    }

    /// Compares with what a backend declares.
    ///
    /// # Errors
    /// [`Unmet`] names the first guarantee that is missing.
    pub fn check(&self, backend: &'static str, offered: &Capabilities) -> Result<(), Unmet> {
        let unmet = |guarantee: String| Err(Unmet { backend, guarantee });
        let missing =
            |capability: &Capability| self.wants.has(*capability) && !offered.has(*capability);
        if let Some(capability) = Capability::ALL.iter().find(|one| missing(one)) {
            return unmet(capability.to_string());
        }
        let wants = &self.wants;
        if wants.order > offered.order {
            let (wants, has) = (wants.order.name(), offered.order.name());
            return unmet(format!("{wants} (it has {has})"));
        }
        if wants.survives > offered.survives {
            let (wants, has) = (wants.survives.name(), offered.survives.name());
            return unmet(format!("{wants} (it {has})"));
        }
        if wants.message_bytes_max > offered.message_bytes_max {
            let (wants, has) = (wants.message_bytes_max, offered.message_bytes_max);
            return unmet(format!("payloads of {wants} bytes (it takes {has})"));
        }
        Ok(())
    }
}

/// A guarantee that is needed and missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue `{backend}` lacks: {guarantee}")]
pub struct Unmet {
    /// The backend.
    pub backend: &'static str,
    /// What is missing.
    pub guarantee: String,
}

impl Classify for Unmet {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_guarantee_is_named() {
        let offered = Capabilities::of(&[Capability::Delay])
            .with_order(OrderScope::Key)
            .with_survival(Survives::ProcessKill)
            .with_message_bytes_max(100);
        let names = |needs: Requirements| {
            let checked = needs.check("engine", &offered);
            checked.err().map(|unmet| unmet.guarantee)
        };
        let new = Requirements::new;
        assert_eq!(names(new()), None);
        let fits = new()
            .needs(Capability::Delay)
            .order(OrderScope::Key)
            .survives(Survives::ProcessKill)
            .message_bytes(100);
        assert_eq!(names(fits), None);
        for capability in Capability::ALL {
            let name = names(new().needs(capability));
            let expected = (capability != Capability::Delay).then(|| capability.to_string());
            assert_eq!(name, expected);
        }
        let order = names(new().order(OrderScope::Queue));
        assert_eq!(
            order.as_deref(),
            Some("order in the queue (it has order within a key)")
        );
        let survives = names(new().survives(Survives::NodeLoss));
        assert_eq!(
            survives.as_deref(),
            Some("survives the loss of a node (it survives a killed process)")
        );
        let bytes = names(new().message_bytes(101));
        assert_eq!(
            bytes.as_deref(),
            Some("payloads of 101 bytes (it takes 100)")
        );
    }
}
