//! What this handle has handed out and not settled.

use std::collections::HashMap;
use std::time::Duration;

use dpat_queue::Receipt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::sync::Mutex;

/// From how many entries on those are forgotten whose leases are over.
const SWEEP: usize = 1_024;

/// Receipts, and when their leases end.
#[derive(Default)]
pub(crate) struct Out {
    leases: Mutex<HashMap<Receipt, Instant>>,
    changes: watch::Sender<()>,
}

impl Out {
    pub(crate) fn lease(&self, receipt: Receipt, lease: Duration) {
        let now = Instant::now();
        // As far as it can be told.
        let end = now.checked_add(lease).unwrap_or(now);
        self.leases.with(|leases| {
            if leases.len() >= SWEEP {
                leases.retain(|_, end| *end > now);
            }
            leases.insert(receipt, end);
        });
    }

    pub(crate) fn settled(&self, receipt: Receipt) {
        self.leases.with(|leases| leases.remove(&receipt));
        self.changes.send_replace(());
    }

    /// Waits until each is settled, or its lease over.
    pub(crate) async fn empty(&self) {
        let mut changes = self.changes.subscribe();
        loop {
            let now = Instant::now();
            let first = self.leases.with(|leases| {
                leases.retain(|_, end| *end > now);
                leases.values().min().copied()
            });
            let Some(first) = first else { return };
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(first) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dpat_queue::MessageId;
    use futures_util::FutureExt as _;

    use super::*;

    fn receipt(number: u128) -> Receipt {
        Receipt::new(MessageId::new(number), number)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_empty_once_each_is_settled_or_over() {
        let out = Out::default();
        out.empty().await;
        out.lease(receipt(1), Duration::from_secs(1));
        out.lease(receipt(2), Duration::from_secs(60));
        let mut empty = Box::pin(out.empty());
        assert!((&mut empty).now_or_never().is_none());
        out.settled(receipt(2));
        // The clock goes on by itself, to the end of the first.
        empty.await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_forgotten() {
        let out = Out::default();
        for number in 0..4 * SWEEP as u128 {
            out.lease(receipt(number), Duration::from_millis(1));
            tokio::time::advance(Duration::from_millis(2)).await;
        }
        let kept = out.leases.with(|leases| leases.len());
        assert!(kept <= SWEEP, "{kept}");
    }
}
