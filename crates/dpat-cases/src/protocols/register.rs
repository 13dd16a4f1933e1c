//! One register, twice: consistent or available when the network is partitioned.
//!
//! Gilbert and Lynch 2002, "Brewer's Conjecture and the Feasibility of Consistent, Available, Partition-Tolerant Web
//! Services": while messages are lost, a register is linearizable or it answers everywhere, not both. [`cp`] keeps the
//! first, [`ap`] the second; [`super::cap`] shows both under the same partition.

pub mod ap;
mod ap_run;
pub mod cp;
mod cp_run;
pub(super) mod history;

pub use ap_run::Available;
pub use cp_run::Consistent;
use dpat_model::NodeIx;
use serde::{Deserialize, Serialize};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// The value.
    Read,
    /// Another value.
    Write(u64),
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The value that was read; none before the first write.
    Value(Option<u64>),
    /// The value was written.
    Written,
    /// Surely nothing was done. Perhaps another node helps.
    Refused(Option<NodeIx>),
    /// The value may have been written, or may be later.
    Unknown,
}

/// Orders what was written: by a counter, then by node.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Rises with every write, or with every primary.
    pub counter: u64,
    /// Whose.
    pub node: u32,
}
