//! The protocols that run under faults from a seed.

use dpat_sim::async_node::AsyncOf;
use dpat_sim::{Of, Registry};

use crate::shop::simulated::SimShop;

use super::broadcast::Broadcasts;
use super::consensus::{Decisions, Fair, Parity};
use super::counter::Counter;
use super::delivery::Delivery;
use super::echo::Echoes;
use super::queue::Queues;
use super::register::{Available, Consistent};
use super::two_phase::Transaction;
use super::wal::Log;

/// Returns all of them, as `dpat sim --list` prints them.
///
/// # Examples
/// ```
/// use dpat_cases::protocols::registry::registry;
/// use dpat_sim::RunSpec;
///
/// let registry = registry();
/// let (echo, _) = registry.find("echo")?;
/// assert_eq!(echo.run(&RunSpec::new(7))?.violation, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
        .with(Of::<Echoes>::new())
        .with(Of::<Broadcasts>::new())
        .with(Of::<Consistent>::new())
        .with(Of::<Available>::new())
        .with(Of::<Decisions<Fair>>::new())
        .with(Of::<Decisions<Parity>>::new())
        .with(Of::<Transaction>::new())
        .with(AsyncOf::<Counter>::new())
        .with(AsyncOf::<Delivery>::new())
        .with(AsyncOf::<Queues>::new())
        .with(AsyncOf::<SimShop>::new())
        .with(Log)
}
