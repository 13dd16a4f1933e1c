//! Events and counters: one for each retry, hedge and stop.

use crate::support::{SECOND, run};
use dpat_core::{Backoff, ManualTime};
use dpat_retry::{Hedge, Retry, RetryExt};

/// Two retries and a stop, one hedge and a stop.
fn work() {
    let time = ManualTime::new();
    let op = || async { Err::<(), _>("down") };
    let policy = Retry::builder()
        .backoff(Backoff::constant(SECOND))
        .no_budget()
        .build()
        .unwrap();
    assert!(run(&time, op.retry_on(&time, policy)).is_err());
    let hedge = Hedge::builder(SECOND).no_budget().build().unwrap();
    assert!(run(&time, op.hedge_on(&time, hedge)).is_err());
}

#[cfg(feature = "metrics")]
#[test]
fn counters_go_through_the_metrics_facade() {
    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Counts {
        retries: Arc<AtomicU64>,
        hedges: Arc<AtomicU64>,
        exhausted: Arc<AtomicU64>,
    }

    impl Recorder for Counts {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::clone(match key.name() {
                "dpat_retry_retries_total" => &self.retries,
                "dpat_retry_hedges_total" => &self.hedges,
                "dpat_retry_stopped_total" => {
                    let label = key.labels().next().unwrap();
                    assert_eq!(
                        (label.key(), label.value()),
                        ("reason", "attempts_exhausted")
                    );
                    &self.exhausted
                }
                other => panic!("an unknown counter: {other}"),
            }))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    let counts = Counts::default();
    metrics::with_local_recorder(&counts, work);
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!(read(&counts.retries), 2);
    assert_eq!(read(&counts.hedges), 1);
    assert_eq!(read(&counts.exhausted), 2);
}

#[cfg(feature = "tracing")]
#[test]
fn events_go_through_tracing() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Counts events by name; the tests of other threads do not reach it.
    #[derive(Clone, Default)]
    struct Names(Arc<[AtomicU64; 3]>);

    impl Subscriber for Names {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let index = match event.metadata().name() {
                "dpat.retry.retrying" => 0,
                "dpat.retry.hedging" => 1,
                "dpat.retry.stopped" => 2,
                _ => return,
            };
            self.0[index].fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    let names = Names::default();
    tracing::subscriber::with_default(names.clone(), work);
    let read = |index: usize| names.0[index].load(Ordering::Relaxed);
    assert_eq!([read(0), read(1), read(2)], [2, 1, 2]);
}
