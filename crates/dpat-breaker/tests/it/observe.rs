//! Events and counters.

#![allow(clippy::disallowed_types)] // the logs of these tests need a lock

#[cfg(feature = "tracing")]
mod events {
    use crate::{SECOND, calls, fragile, manual};
    use std::fmt;
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0 += &format!("{field}={value:?} ");
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "dpat_breaker"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().expect("no test panics here").push(line.0);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn every_change_of_state_is_an_event() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let (breaker, time) = manual(fragile().name("payments"));
            calls(&breaker, "sf");
            time.advance(SECOND);
            calls(&breaker, "ss");
        });
        let lines = log.0.lock().unwrap();
        let expected = [
            r#"breaker="payments" from="closed" to="open" cause="consecutive_failures" epoch=1 "#,
            r#"breaker="payments" from="open" to="half_open" cause="open_time_over" epoch=2 "#,
            r#"breaker="payments" from="half_open" to="closed" cause="probes_succeeded" epoch=3 "#,
        ];
        assert_eq!(*lines, expected);
    }
}

#[cfg(feature = "metrics")]
mod counters {
    use crate::{calls, fragile, manual};
    use metrics::{
        Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    #[derive(Default)]
    struct Book(Mutex<BTreeMap<String, Arc<Count>>>);

    #[derive(Default)]
    struct Count(AtomicU64);

    impl CounterFn for Count {
        fn increment(&self, value: u64) {
            self.0.fetch_add(value, Ordering::Relaxed);
        }
        fn absolute(&self, value: u64) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    impl Recorder for Book {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
            let name = format!("{} {}", key.name(), labels.join(" "));
            let mut book = self.0.lock().expect("no test panics here");
            Counter::from_arc(Arc::clone(book.entry(name).or_default()))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn calls_rejections_and_transitions_are_counted() {
        let book = Book::default();
        metrics::with_local_recorder(&book, || {
            let (breaker, _) = manual(fragile().name("payments"));
            calls(&breaker, "ssif");
            assert!(breaker.try_acquire().is_err());
            assert!(breaker.try_acquire().is_err());
        });
        let counts: Vec<_> = book
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|(name, count)| format!("{name} {}", count.0.load(Ordering::Relaxed)))
            .collect();
        assert_eq!(
            counts,
            [
                "dpat_breaker_calls_total payments failure 1",
                "dpat_breaker_calls_total payments ignored 1",
                "dpat_breaker_calls_total payments success 2",
                "dpat_breaker_rejected_total payments 2",
                "dpat_breaker_transitions_total payments open consecutive_failures 1",
            ]
        );
    }
}
