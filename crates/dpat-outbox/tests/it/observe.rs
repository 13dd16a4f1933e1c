//! Events, counters and gauges.

// The logs of these tests need a lock.
#![allow(clippy::disallowed_types)]

#[cfg(feature = "tracing")]
mod events {
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use dpat_core::{Clock, ManualTime};
    use dpat_outbox::{MemoryOutbox, RelayConfig};
    use dpat_testkit::Task;
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    use crate::world::{Desk, Does, append, event, number, relay, settle};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() != "id" {
                self.0 += &format!("{field}={value:?} ");
            }
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "dpat_outbox" && metadata.name() == "dpat.outbox.published"
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
    fn what_is_sent_tried_again_and_parked_is_an_event() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
            let desk = Desk::new(|delivery| match number(delivery.event) {
                1 => Does::Keeps,
                2 => Does::Fails,
                _ => Does::Refuses,
            });
            let config = RelayConfig::builder().refusals_max(1).build().unwrap();
            let relay = relay(config, &outbox, &desk, &time, 1);
            let mut tasks = [Task::new(relay.run())];
            for number in [1, 3, 2] {
                append(&outbox, time.wall(), &event(number, ""));
                settle(&mut tasks);
            }
        });
        assert_eq!(
            *log.0.lock().unwrap(),
            [
                r#"topic="topic" attempt=1 outcome="sent" "#,
                r#"topic="topic" attempt=1 outcome="parked" reason="no such topic" "#,
                r#"topic="topic" attempt=1 outcome="retry" reason="down" "#,
            ]
        );
    }
}

#[cfg(feature = "metrics")]
mod numbers {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use dpat_core::{Clock, ManualTime};
    use dpat_outbox::{MemoryOutbox, RelayConfig};
    use dpat_testkit::Task;
    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder,
        SharedString, Unit,
    };

    use crate::world::{Desk, Does, append, event, number, relay, settle};

    #[derive(Default)]
    struct Book(Mutex<BTreeMap<String, Arc<Cell>>>);

    #[derive(Default)]
    struct Cell(AtomicU64);

    impl CounterFn for Cell {
        fn increment(&self, value: u64) {
            self.0.fetch_add(value, Ordering::Relaxed);
        }
        fn absolute(&self, value: u64) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the gauges of this test are small and whole"
    )]
    impl GaugeFn for Cell {
        fn increment(&self, value: f64) {
            self.0.fetch_add(value as u64, Ordering::Relaxed);
        }
        fn decrement(&self, value: f64) {
            self.0.fetch_sub(value as u64, Ordering::Relaxed);
        }
        fn set(&self, value: f64) {
            self.0.store(value as u64, Ordering::Relaxed);
        }
    }

    impl Book {
        fn cell(&self, key: &Key) -> Arc<Cell> {
            let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
            let name = [&[key.name()][..], &labels].concat().join(" ");
            Arc::clone(
                self.0
                    .lock()
                    .expect("no test panics here")
                    .entry(name)
                    .or_default(),
            )
        }
    }

    impl Recorder for Book {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.cell(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn what_is_done_is_counted_and_the_lag_is_a_gauge() {
        let book = Book::default();
        metrics::with_local_recorder(&book, || {
            let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
            let desk = Desk::new(|delivery| match number(delivery.event) {
                1 => Does::Keeps,
                _ => Does::Fails,
            });
            let relay = relay(RelayConfig::default(), &outbox, &desk, &time, 1);
            let mut tasks = [Task::new(relay.run())];
            for number in [1, 2] {
                append(&outbox, time.wall(), &event(number, ""));
                settle(&mut tasks);
            }
            // The lag is looked at every half minute.
            time.advance(std::time::Duration::from_secs(30));
            settle(&mut tasks);
        });
        let book = book.0.lock().unwrap();
        let number = |name: &str| book.get(name).map(|cell| cell.0.load(Ordering::Relaxed));
        assert_eq!(number("dpat_outbox_published_total sent"), Some(1));
        assert!(number("dpat_outbox_published_total retry") >= Some(1));
        assert_eq!(number("dpat_outbox_backlog_rows"), Some(1));
        assert_eq!(number("dpat_outbox_parked_rows"), Some(0));
        assert_eq!(number("dpat_outbox_oldest_seconds"), Some(30));
    }
}
