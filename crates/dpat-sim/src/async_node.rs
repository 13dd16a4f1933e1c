//! Asynchronous programs under the simulator: its clock, its network, its disk, its faults.
//!
//! An [`AsyncSystem`] is a set of nodes, each a restartable asynchronous program, and clients that call them. Its
//! programs are ordinary futures: they need wakers and nothing else, so that locks, channels, timers and committers
//! of a library run here as they run anywhere, if they take clock, sleep and randomness from outside
//! ([`dpat_core::Sleep`], [`dpat_core::Entropy`]). [`AsyncNode`] is what a program gets: the world as one life of one
//! node sees it.
//!
//! The executor has one thread. Whichever tasks are ready are polled one at a time in an order drawn from the seed;
//! when none is, time jumps to the next message, timer or fault. Every poll is an event of the run, so that a script
//! may crash a node before any of them, between any two awaits. A crash drops every future of the node and starts its
//! program anew, on the disk that is left.

mod faults;
mod net;
mod node;
mod queue;
mod ready;
mod record;
mod sim;
mod sync;
mod system;
mod time;
mod world;

pub use net::{CallError, Closed, Incoming};
pub use node::{AsyncNode, Task};
pub use sim::{AsyncSim, Life, Stop, Struck};
pub use system::{AsyncLimits, AsyncOf, AsyncSystem, Program, Schedule, run_async};
pub use time::{NodeSleep, NodeTime};
