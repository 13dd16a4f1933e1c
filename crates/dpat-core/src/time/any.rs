//! Clock and sleep behind one concrete type.

use super::{Clock, Instant, Sleep, Wall};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Any clock that can wait, behind one cloneable type.
///
/// For programs that choose real or virtual time at run time, and for struct fields that shall not be generic. Costs
/// one virtual call a reading and one allocation a sleep.
///
/// # Examples
/// ```
/// # #[cfg(feature = "test-util")] {
/// use dpat_core::{AnyTime, Clock, ManualTime};
/// use std::time::Duration;
///
/// let manual = ManualTime::new();
/// let time = AnyTime::new(manual.clone());
/// let start = time.now();
/// manual.advance(Duration::from_secs(1));
/// assert_eq!(time.now().since(start), Duration::from_secs(1));
/// # }
/// ```
#[derive(Clone)]
pub struct AnyTime(Arc<dyn ErasedSleep>);

/// The future of an [`AnyTime`] sleep.
pub type AnySleep = Pin<Box<dyn Future<Output = ()> + Send>>;

trait ErasedSleep: Clock {
    fn erased_sleep_until(&self, at: Instant) -> AnySleep;
}

impl<S: Sleep> ErasedSleep for S {
    fn erased_sleep_until(&self, at: Instant) -> AnySleep {
        Box::pin(self.sleep_until(at))
    }
}

impl AnyTime {
    /// Takes any clock that can wait.
    pub fn new(time: impl Sleep + 'static) -> Self {
        Self(Arc::new(time))
    }
}

impl fmt::Debug for AnyTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyTime").finish_non_exhaustive()
    }
}

impl Clock for AnyTime {
    fn now(&self) -> Instant {
        self.0.now()
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
}

impl Sleep for AnyTime {
    type Sleeping = AnySleep;
    fn sleep_until(&self, at: Instant) -> AnySleep {
        self.0.erased_sleep_until(at)
    }
}
