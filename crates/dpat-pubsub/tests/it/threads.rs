//! Real threads.

use dpat_pubsub::{Delivery, Overflow, PubSub, Subscription};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

const PUBLISHERS: usize = 4;
const EACH: usize = 2_000;

fn publish(hub: &PubSub, name: usize) {
    let mut publisher = hub.publisher(format!("a.{name}")).unwrap();
    for number in 0..EACH {
        block_on(publisher.publish(number.to_string())).unwrap();
    }
}

/// Reads until the end; each publisher's numbers ascend, and what is missing is counted.
fn read(mut subscription: Subscription) -> (usize, u64) {
    let mut next = [0; PUBLISHERS];
    let (mut seen, mut lost) = (0, 0);
    while let Ok(delivery) = block_on(subscription.recv()) {
        match delivery {
            Delivery::Lagged(count) => lost += count,
            Delivery::Message(message) => {
                let name = message.subject().tokens().nth(1).unwrap();
                let name: usize = name.parse().unwrap();
                let number: usize = std::str::from_utf8(message.payload())
                    .unwrap()
                    .parse()
                    .unwrap();
                assert!(number >= next[name], "{number} after {}", next[name]);
                next[name] = number + 1;
                seen += 1;
            }
        }
    }
    (seen, lost)
}

#[test]
fn nothing_is_missing_in_silence_on_any_thread() {
    let hub = PubSub::default();
    let policies = [
        (Overflow::Await, 3),
        (Overflow::DropOldest, 3),
        (Overflow::DropOldest, 1_000),
        (Overflow::DropNewest, 3),
    ];
    let subscriptions: Vec<_> = policies
        .iter()
        .map(|(overflow, capacity)| {
            let subscribe = hub.subscribe("a.*").capacity(*capacity);
            subscribe.overflow(overflow.clone()).now().unwrap()
        })
        .collect();
    let results = thread::scope(|scope| {
        let readers: Vec<_> = subscriptions
            .into_iter()
            .map(|subscription| scope.spawn(|| read(subscription)))
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| {
                let hub = &hub;
                scope.spawn(move || publish(hub, name))
            })
            .collect();
        publishers.into_iter().for_each(|one| one.join().unwrap());
        block_on(hub.close());
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect::<Vec<_>>()
    });
    for (seen, lost) in &results {
        assert_eq!(*seen as u64 + lost, (PUBLISHERS * EACH) as u64);
    }
    assert_eq!(results[0].1, 0, "those that are waited for lose nothing");
}

#[test]
fn a_group_shares_the_work_and_loses_nothing() {
    let hub = PubSub::default();
    let members: Vec<_> = (0..3)
        .map(|_| {
            let subscribe = hub.subscribe("a.*").capacity(4).overflow(Overflow::Await);
            subscribe.group("g").now().unwrap()
        })
        .collect();
    let seen: usize = thread::scope(|scope| {
        let readers: Vec<_> = members
            .into_iter()
            .map(|member| scope.spawn(|| read(member).0))
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| {
                let hub = &hub;
                scope.spawn(move || publish(hub, name))
            })
            .collect();
        publishers.into_iter().for_each(|one| one.join().unwrap());
        block_on(hub.close());
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum()
    });
    assert_eq!(seen, PUBLISHERS * EACH);
}

#[cfg(feature = "spill")]
#[test]
fn a_file_is_shared_by_publishers_and_reader_without_loss() {
    use dpat_pubsub::Spill;
    use dpat_storage::{AnyStorage, MemStorage};

    let hub = PubSub::default();
    let storage = AnyStorage::new(MemStorage::new());
    let spill = Overflow::Spill(Spill::new(storage, "spill", 16 << 20));
    let subscription = hub
        .subscribe("a.*")
        .capacity(2)
        .overflow(spill)
        .now()
        .unwrap();
    let (seen, lost) = thread::scope(|scope| {
        let reader = scope.spawn(|| read(subscription));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|name| {
                let hub = &hub;
                scope.spawn(move || publish(hub, name))
            })
            .collect();
        publishers.into_iter().for_each(|one| one.join().unwrap());
        block_on(hub.close());
        reader.join().unwrap()
    });
    assert_eq!((seen, lost), (PUBLISHERS * EACH, 0));
}
