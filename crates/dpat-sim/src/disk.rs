//! A disk that loses power, and the enumerator that cuts it at every operation.
//!
//! [`SimDisk`] implements `dpat_storage::Storage`: it keeps each unsynced change apart from what is on the medium, and a
//! [crash](SimDisk::crash) draws from the seed which of them survive, whole or torn, within the bounds that the trait
//! states. [`CrashPoints`] runs a workload as often as it has operations, strikes at each, and asks an oracle about
//! every image that may be left.

mod content;
mod fault;
mod names;
mod points;
mod state;
mod storage;
mod sync;

pub use content::SECTOR_BYTES;
pub use fault::{Flip, Image, Odds, Strike};
pub use points::{CrashFailure, CrashPoints, CrashReport, Point};
pub use state::Step;
pub use storage::{SimDisk, SimFile, SimLock};
