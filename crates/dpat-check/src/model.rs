//! What a history can be checked for.

use std::fmt;
use std::str::FromStr;

/// A model by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Model {
    /// `read`, `write v`. Nil at the beginning.
    Register,
    /// A register with `cas [old new]`, as etcd has it.
    ///
    /// A failed `cas` whose completion repeats the argument has seen another value; any other failure just did not
    /// happen.
    CasRegister,
    /// `get [k nil]` → `[k v]`, `put [k v]`, `append [k text]`. Nil and "" are both "no value yet".
    Kv,
    /// First in, first out: `enqueue v`, `dequeue` → v, or nil from an empty queue.
    Queue,
    /// `add v` and `remove v`, optionally → `[v changed]`, `contains v` → `[v truth]`, `read` → all elements.
    Set,
    /// Last in, first out: `push v`, `pop` → v, or nil from an empty stack.
    Stack,
    /// `add n`, optionally → `[n sum]`, and `read` → sum. Zero at the beginning.
    Counter,
    /// `acquire` → fencing token, or nil, and `release` by the holder. Tokens rise.
    Lock,
    /// Transactions that append to lists, see [`Transactions::ListAppend`](crate::Transactions::ListAppend).
    ListAppend,
    /// Transactions that write registers, see [`Transactions::RwRegister`](crate::Transactions::RwRegister).
    RwRegister,
    /// A queue with receipts, see [`check_delivery`](crate::check_delivery).
    Delivery,
}

impl Model {
    /// All models.
    pub const ALL: &[Self] = &[
        Self::Register,
        Self::CasRegister,
        Self::Kv,
        Self::Queue,
        Self::Set,
        Self::Stack,
        Self::Counter,
        Self::Lock,
        Self::ListAppend,
        Self::RwRegister,
        Self::Delivery,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::CasRegister => "cas-register",
            Self::Kv => "kv",
            Self::Queue => "queue",
            Self::Set => "set",
            Self::Stack => "stack",
            Self::Counter => "counter",
            Self::Lock => "lock",
            Self::ListAppend => "list-append",
            Self::RwRegister => "rw-register",
            Self::Delivery => "delivery",
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no model or format has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is none of {known}")]
#[non_exhaustive]
pub struct UnknownName {
    /// The name.
    pub name: String,
    /// The names that there are.
    pub known: String,
}

impl UnknownName {
    pub(crate) fn new(name: &str, known: impl Iterator<Item = &'static str>) -> Self {
        Self {
            name: name.to_owned(),
            known: known.collect::<Vec<_>>().join(", "),
        }
    }
}

impl FromStr for Model {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.iter().find(|model| model.name() == name);
        found
            .copied()
            .ok_or_else(|| UnknownName::new(name, Self::ALL.iter().map(|model| model.name())))
    }
}
