//! What it takes to judge a log under faults: drawn workloads, a ledger of what was promised, and mutants.
//!
//! For the tests of this crate and of those that simulate it; outside of semantic versioning.
//!
//! A [`Workload`] uses a log as a program does: appends, batches and groups, snapshots, compactions, restarts. It writes
//! into a [`Ledger`], which is not on the disk, what became of each record. [`Workload::check`] opens what is left and
//! compares: each acknowledged record is there, in order, once, at its position; each refused one is not; of each
//! batch there is all or nothing; and what one recovery has found, a later one finds, too.

mod ledger;
mod mutant;
mod workload;

pub use ledger::Ledger;
pub use mutant::Mutant;
pub use workload::{Action, Damage, Found, Restart, Shape, Workload};
