//! Events and counters.

#![allow(clippy::disallowed_types)] // the logs of these tests need a lock

#[cfg(feature = "tracing")]
mod events {
    use crate::{drain, one, publish};
    use dpat_pubsub::{Overflow, PubSub};
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
            metadata.target() == "dpat_pubsub"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    fn logged(work: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), work);
        let lines = log.0.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn the_begin_of_a_lag_is_an_event_once_until_it_is_told() {
        let lines = logged(|| {
            let (_hub, mut subscription, mut publisher) = one(1, Overflow::DropNewest);
            publish(&mut publisher, 0..5);
            drain(&mut subscription);
            publish(&mut publisher, 0..5);
        });
        let lags = r#"message=lags hub="default" filter="a" capacity=1 "#;
        assert_eq!(lines, [lags, lags]);
    }

    #[test]
    fn a_reader_of_a_log_is_seen_to_lag_at_the_next_segment() {
        let lines = logged(|| {
            let (_hub, _subscription, mut publisher) = one(1, Overflow::DropOldest);
            publish(&mut publisher, 0..32);
            publish(&mut publisher, 0..200);
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn a_disconnected_subscriber_is_an_event() {
        let lines = logged(|| {
            let hub = PubSub::builder().name("prices").build().unwrap();
            let subscribe = hub
                .subscribe("a.>")
                .capacity(1)
                .overflow(Overflow::Disconnect);
            let _member = subscribe.group("g").now().unwrap();
            hub.publish_now("a.b", "1").unwrap();
            hub.publish_now("a.b", "2").unwrap();
        });
        let common = r#"hub="prices" filter="a.>" group="g" capacity=1 "#;
        assert_eq!(
            lines,
            [
                format!("message=disconnected {common}"),
                format!("message=lags {common}")
            ]
        );
    }
}

#[cfg(feature = "metrics")]
mod counters {
    use crate::{drain, publish};
    use dpat_pubsub::{Overflow, PubSub};
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
            let mut book = self.0.lock().unwrap();
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
    fn messages_losses_and_disconnections_are_counted() {
        let book = Book::default();
        metrics::with_local_recorder(&book, || {
            let hub = PubSub::builder().name("prices").build().unwrap();
            let subscribe = |overflow| {
                let subscribe = hub.subscribe("a").capacity(2).overflow(overflow);
                subscribe.now().unwrap()
            };
            let mut log = subscribe(Overflow::DropOldest);
            let _newest = subscribe(Overflow::DropNewest);
            let _gone = subscribe(Overflow::Disconnect);
            let mut publisher = hub.publisher("a").unwrap();
            publish(&mut publisher, 0..5);
            drain(&mut log);
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
                "dpat_pubsub_disconnected_total prices 1",
                // Three of each of the first two, one of the one that was disconnected.
                "dpat_pubsub_lost_total prices 7",
                "dpat_pubsub_published_total prices 5",
            ]
        );
    }
}
