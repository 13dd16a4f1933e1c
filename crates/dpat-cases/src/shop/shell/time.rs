//! The clock of a run: the same readings in every node, in one process or several.

use std::time::Duration;

use dpat_core::{Clock, Instant, Sleep, TokioTime, Wall};

/// Counts from the start of the run, which all nodes know by the wall clock.
///
/// The wall clock is read once, at the start of the node; from there on only the monotonic clock counts.
#[derive(Clone, Copy, Debug)]
pub struct RunTime {
    base: Instant,
    offset: Duration,
}

impl RunTime {
    /// Joins the run that started at `epoch`.
    #[must_use]
    pub fn since(epoch: Wall) -> Self {
        let time = TokioTime;
        Self {
            base: time.now(),
            offset: time.wall().since(epoch),
        }
    }
}

impl Clock for RunTime {
    fn now(&self) -> Instant {
        Instant::from_nanos(0) + self.offset + TokioTime.now().since(self.base)
    }

    fn wall(&self) -> Wall {
        TokioTime.wall()
    }
}

impl Sleep for RunTime {
    type Sleeping = <TokioTime as Sleep>::Sleeping;

    fn sleep_until(&self, at: Instant) -> Self::Sleeping {
        let from_base = at.since(Instant::from_nanos(0)).saturating_sub(self.offset);
        TokioTime.sleep_until(self.base + from_base)
    }
}
