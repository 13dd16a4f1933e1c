//! Fault scripts: what goes wrong, where and when.

mod fault;
#[cfg(feature = "json")]
mod text;

use std::fmt;

pub use fault::{Delay, Fault, LinkSet};
#[cfg(feature = "json")]
pub use text::{Accept, OpCheck};

use crate::NodeIx;

/// The most nodes of a script.
pub const MAX_NODES: u32 = 10_000;
/// The most operations of a script.
pub const MAX_OPS: usize = 100_000;
/// The longest name of a protocol, node, event or call.
pub const MAX_NAME_BYTES: usize = 128;
/// What a certain fault has as `per_million`.
pub const MILLION: u32 = 1_000_000;

/// A fault script: with a seed it determines a run.
///
/// One form serves the simulator, the shrinker, the demo and fault injection into real programs; an executor refuses
/// by name the faults that it cannot produce.
///
/// # Examples
/// ```
/// use dpat_model::{Fault, NodeIx, Nodes, Op, Script, Trigger};
///
/// let mut script = Script::new("echo", Nodes::Count(3), 7);
/// let fault = Fault::Crash { node: NodeIx(2), for_us: Some(500_000) };
/// script.ops.push(Op { when: Trigger::At(1_000_000), fault });
/// assert!(script.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The protocol or scenario.
    pub protocol: String,
    /// The nodes.
    pub nodes: Nodes,
    /// The seed of everything that the script leaves open.
    pub seed: u64,
    /// The faults. Of those due together the earlier in the list comes first.
    pub ops: Vec<Op>,
}

/// The nodes of a script: how many, or their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// So many, numbered from 0.
    Count(u32),
    /// Named, numbered in this order.
    Named(Vec<String>),
}

impl Nodes {
    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Self::Count(count) => *count,
            Self::Named(names) => u32::try_from(names.len()).unwrap_or(u32::MAX),
        }
    }

    /// Returns the name of a node, if it has one.
    #[must_use]
    pub fn name(&self, node: NodeIx) -> Option<&str> {
        match self {
            Self::Count(_) => None,
            Self::Named(names) => names.get(node.index()).map(String::as_str),
        }
    }

    /// Returns the node of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NodeIx> {
        let Self::Named(names) = self else {
            return None;
        };
        let index = names.iter().position(|other| other == name)?;
        u32::try_from(index).ok().map(NodeIx)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_NODES).contains(&self.count()) {
            return Err(format!("must be 1 to {MAX_NODES} nodes"));
        }
        if let Self::Named(names) = self {
            let mut sorted: Vec<&String> = names.iter().collect();
            sorted.sort_unstable();
            for (index, name) in sorted.iter().enumerate() {
                check_name(name)?;
                if *name == "*" || (index > 0 && sorted[index - 1] == *name) {
                    return Err(format!("name {name:?} cannot be used, or not twice"));
                }
            }
        }
        Ok(())
    }
}

/// One fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// When.
    pub when: Trigger,
    /// What.
    pub fault: Fault,
}

/// When a fault strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Microseconds after the start: `at_us`.
    At(u64),
    /// Just before this event of the run, counted from 0: `on_event` with a number.
    Event(u64),
    /// When the executor passes a named point: `on_event` with a name.
    Point {
        /// The name of the point, such as `order.between_store_and_send`.
        name: String,
        /// Which passing, counted from 1.
        nth: u64,
    },
}

/// A script that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScriptError {
    /// The path of the field, such as `ops[3].node`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for ScriptError {}

pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let printable = !name.chars().any(char::is_control);
    if printable && (1..=MAX_NAME_BYTES).contains(&name.len()) {
        return Ok(());
    }
    Err(format!(
        "must be 1 to {MAX_NAME_BYTES} bytes of printable text"
    ))
}

impl Trigger {
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        match self {
            Self::At(_) | Self::Event(_) => Ok(()),
            Self::Point { nth: 0, .. } => Err(("nth", "counts from 1".to_owned())),
            Self::Point { name, .. } => check_name(name).map_err(|reason| ("on_event", reason)),
        }
    }
}

impl Script {
    /// Makes a script without faults.
    #[must_use]
    pub fn new(protocol: impl Into<String>, nodes: Nodes, seed: u64) -> Self {
        Self {
            protocol: protocol.into(),
            nodes,
            seed,
            ops: Vec::new(),
        }
    }

    /// Checks every bound: names, nodes in range, probabilities, durations.
    ///
    /// # Errors
    /// [`ScriptError`] with the path of the first bad field.
    pub fn validate(&self) -> Result<(), ScriptError> {
        let fail = |field: String, reason| ScriptError { field, reason };
        check_name(&self.protocol).map_err(|reason| fail("protocol".to_owned(), reason))?;
        self.nodes
            .check()
            .map_err(|reason| fail("nodes".to_owned(), reason))?;
        if self.ops.len() > MAX_OPS {
            return Err(fail("ops".to_owned(), format!("more than {MAX_OPS}")));
        }
        for (index, op) in self.ops.iter().enumerate() {
            op.when
                .check()
                .and_then(|()| op.fault.check(&self.nodes))
                .map_err(|(field, reason)| fail(format!("ops[{index}].{field}"), reason))?;
        }
        Ok(())
    }
}
