//! The contract suite for tower middleware.
//!
//! [`Contract`] puts a layer around a [`Probe`], a service that keeps an account of how it is used, and checks one law
//! at a time. The laws are those of the `tower-service` documentation ("Backpressure", "Be careful when cloning inner
//! services") and what follows from them for cancellation and panics.

mod contract;
mod probe;

pub use contract::Contract;
pub use probe::{Outcome, Probe, ProbeFuture};
