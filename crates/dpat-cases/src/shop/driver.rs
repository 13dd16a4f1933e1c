//! The customers: an open loop that sends each order when it is due, whatever became of the ones before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Deadline, Instant, Sleep};
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::generator::Planned;
use super::service::ports::{CallError, Peer, Reply, Request, Step, Transport};
use super::shell::time::RunTime;
use super::workflow::micros;
use crate::sync::Mutex;

/// How many orders may be on their way at once; the time that a further one waits is part of its latency.
pub(crate) const IN_FLIGHT_MAX: usize = 10_000;
/// How long a customer waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a customer knows about an order.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which order.
    pub order_id: String,
    /// When it was due, in microseconds since the start of the run.
    pub intended_us: u64,
    /// When the answer came.
    pub answered_us: u64,
    /// The answer.
    pub answer: Result<Reply, CallError>,
}

/// Numbers that change while the driver runs.
#[derive(Debug)]
pub struct Progress {
    /// Orders sent.
    pub sent: AtomicU64,
    /// Orders answered with 202.
    pub accepted: AtomicU64,
    /// Orders answered with anything else, or not at all.
    pub rejected: AtomicU64,
    second: Mutex<Histogram<u64>>,
    total: Mutex<Histogram<u64>>,
}

/// Makes a histogram of microseconds that takes every value.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    let Ok(mut histogram) = Histogram::new(3) else {
        unreachable!("3 significant digits are allowed");
    };
    histogram.auto(true);
    histogram
}

/// Returns a percentile in milliseconds.
#[must_use]
#[allow(clippy::cast_precision_loss)] // microseconds of a run are far below 2^53
pub fn percentile_ms(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    // It would look at every place of an empty one.
    if histogram.is_empty() {
        return 0.0;
    }
    histogram.value_at_percentile(percentile) as f64 / 1_000.0
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            sent: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            second: Mutex::new(histogram()),
            total: Mutex::new(histogram()),
        }
    }
}

impl Progress {
    /// Counts an order whose customer has an answer, or none.
    pub(crate) fn record(&self, sent: &Sent) {
        if !matches!(sent.answer, Ok(Reply::Accepted)) {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let waited = sent.answered_us.saturating_sub(sent.intended_us);
        // The histogram resizes itself, so that every value fits.
        let _ = self.second.lock().record(waited);
        let _ = self.total.lock().record(waited);
    }

    /// Returns p50 and p99 in milliseconds since the last call.
    #[must_use]
    pub fn take_second(&self) -> (f64, f64) {
        let mut second = self.second.lock();
        let percentiles = (percentile_ms(&second, 50.0), percentile_ms(&second, 99.0));
        second.reset();
        percentiles
    }

    /// Returns p50 and p99 in milliseconds of the whole run.
    #[must_use]
    pub fn total(&self) -> (f64, f64) {
        let total = self.total.lock();
        (percentile_ms(&total, 50.0), percentile_ms(&total, 99.0))
    }
}

/// Sends every order when it is due, counted from `start`, and returns what became of each.
///
/// Cancel safety: dropping the future stops the sending; orders on their way may still be accepted.
pub async fn drive<T: Transport>(
    orders: impl Iterator<Item = Planned>,
    transport: T,
    time: RunTime,
    start: Instant,
    progress: Arc<Progress>,
) -> Vec<Sent> {
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut tasks = JoinSet::new();
    let mut all = Vec::new();
    for planned in orders {
        let due = start + planned.at;
        if time.now() < due {
            time.sleep_until(due).await;
        }
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        progress.sent.fetch_add(1, Ordering::Relaxed);
        let transport = transport.clone();
        let progress = Arc::clone(&progress);
        tasks.spawn(async move {
            let sent = send(&transport, planned, due, time).await;
            progress.record(&sent);
            drop(place);
            sent
        });
        while let Some(Ok(sent)) = tasks.try_join_next() {
            all.push(sent);
        }
    }
    while let Some(joined) = tasks.join_next().await {
        all.extend(joined);
    }
    all
}

/// Sends one order that is due, and waits for what becomes of it.
///
/// Cancel safety: dropped, the order may still be accepted.
pub(crate) async fn send<T: Transport>(
    transport: &T,
    planned: Planned,
    due: Instant,
    time: impl Clock,
) -> Sent {
    let order_id = planned.order.order_id.clone();
    let body = serde_json::to_vec(&planned.order).unwrap_or_default();
    let request = Request::new(Step::Accept, &order_id, Bytes::from(body));
    let deadline = Deadline::after(due, PATIENCE);
    let answer = transport.call(Peer::Gateway, request, deadline).await;
    Sent {
        order_id,
        intended_us: micros(due),
        answered_us: micros(time.now()),
        answer,
    }
}
