//! What the engine promises, event by event.

mod alloc;
mod basics;
mod bounds;
mod clocks;
mod crashes;
mod laws;
mod network;
mod sessions;
mod trace;
