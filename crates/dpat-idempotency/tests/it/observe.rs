//! Events and counters.

// The logs of these tests need a lock.
#![allow(clippy::disallowed_types)]

#[cfg(feature = "tracing")]
mod events {
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use dpat_core::ManualTime;
    use dpat_idempotency::{Fingerprint, MemoryStore};
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    use crate::world::{Effects, body, key, responses, run};

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
            metadata.target() == "dpat_idempotency"
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
    fn every_begin_is_an_event() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let responses = responses(MemoryStore::new(), &ManualTime::new(), 1);
            for fingerprint in [body(), body(), Fingerprint::NONE] {
                let act = |_| Effects::default().act();
                drop(run(responses.run(&key(), fingerprint, act)));
            }
        });
        let line = |outcome| format!(r#"scope="account-7" id="charge-1" outcome="{outcome}" "#);
        let expected = ["first", "replay", "reused"].map(line);
        assert_eq!(*log.0.lock().unwrap(), expected);
    }
}

#[cfg(feature = "metrics")]
mod counters {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use dpat_core::{ManualTime, Wall};
    use dpat_idempotency::MemoryStore;
    use dpat_idempotency::inbox::{MemoryDb, accept};
    use metrics::{
        Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use crate::world::{Effects, body, key, responses, run};

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
    fn outcomes_are_counted() {
        let book = Book::default();
        metrics::with_local_recorder(&book, || {
            let responses = responses(MemoryStore::new(), &ManualTime::new(), 1);
            for _ in 0..3 {
                drop(run(
                    responses.run(&key(), body(), |_| Effects::default().act())
                ));
            }
            let mut tx = MemoryDb::new().begin();
            for _ in 0..2 {
                let effect = |_: &mut _| Ok::<_, Infallible>(Bytes::new());
                accept(&mut tx, &key(), body(), Wall::MIN, effect).unwrap();
            }
        });
        let book = book.0.lock().unwrap();
        let counts: Vec<_> = book
            .iter()
            .map(|(name, count)| format!("{name} {}", count.0.load(Ordering::Relaxed)))
            .collect();
        assert_eq!(
            counts,
            [
                "dpat_idempotency_accepted_total again 1",
                "dpat_idempotency_accepted_total first 1",
                "dpat_idempotency_begun_total first 1",
                "dpat_idempotency_begun_total replay 2",
            ]
        );
    }
}
