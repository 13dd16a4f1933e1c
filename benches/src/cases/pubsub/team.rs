//! Publishers on one core, subscribers on another, each a task of a current-thread runtime.

use super::{CAPACITY, case, payload, shape};
use crate::harness::{Case, Contender, Work};
use dpat_pubsub::{Delivery, Overflow, PubSub};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::broadcast;

/// Publishers run ahead of the slowest subscriber by so much at most, where nobody else holds them back.
const AHEAD: u64 = 512;

/// Nobody waits; the publishers are held back so that nothing is lost.
pub(super) fn drops(publishers: u64, subscribers: usize) -> Case {
    case(
        "publish on one core, receive on another, slow subscribers lose",
        "Publishers and subscribers are tasks of two threads with a current-thread runtime each; time per published \
         message until all subscribers have it. Publishers look at a shared counter to stay within 512 messages, so \
         that nothing is lost on either side.",
        ours(publishers, subscribers, Overflow::DropOldest),
        vec![tokio(publishers, subscribers)],
    )
    .param("shape", shape(publishers, subscribers))
    .threads(2)
}

/// Publishers wait for the slowest subscriber.
pub(super) fn waits(publishers: u64, subscribers: usize) -> Case {
    case(
        "publish on one core, receive on another, publishers wait",
        "The same, with publishers that wait for room with the slowest subscriber.",
        ours(publishers, subscribers, Overflow::Await),
        vec![async_broadcast(publishers, subscribers)],
    )
    .param("shape", shape(publishers, subscribers))
    .threads(2)
}

/// How far the subscribers are.
#[derive(Clone, Default)]
struct Progress(Arc<Vec<AtomicU64>>);

impl Progress {
    fn new(subscribers: usize) -> Self {
        Self(Arc::new(
            (0..subscribers).map(|_| AtomicU64::new(0)).collect(),
        ))
    }

    fn slowest(&self) -> u64 {
        let all = self.0.iter().map(|one| one.load(Ordering::Acquire));
        all.min().unwrap_or(0)
    }

    /// Waits until `sent` messages are within reach.
    async fn hold_back(&self, sent: u64) {
        while sent >= self.slowest() + AHEAD {
            tokio::task::yield_now().await;
        }
    }
}

fn block_on<F: Future<Output = ()> + 'static>(tasks: impl Iterator<Item = F>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing from the system");
    let local = tokio::task::LocalSet::new();
    for task in tasks {
        local.spawn_local(task);
    }
    runtime.block_on(local);
}

/// Splits operations over publishers.
fn share(iters: u64, publishers: u64) -> u64 {
    iters.div_ceil(publishers)
}

fn ours(publishers: u64, subscribers: usize, overflow: Overflow) -> Contender {
    Contender::team("dpat-pubsub", move |iters| {
        let hub = PubSub::default();
        let each = share(iters, publishers);
        let total = each * publishers;
        let held_back = matches!(overflow, Overflow::DropOldest);
        let subscriptions: Vec<_> = (0..subscribers)
            .map(|_| {
                let subscribe = hub.subscribe("prices.eu.*").capacity(CAPACITY);
                let subscription = subscribe.overflow(overflow.clone()).now();
                subscription.expect("the settings are valid")
            })
            .collect();
        let progress = Progress::new(subscribers);
        let (seen, sent) = (progress.clone(), Arc::new(AtomicU64::new(0)));
        let publish: Work = Box::new(move || {
            block_on((0..publishers).map(|_| {
                let mut publisher = hub.publisher("prices.eu.gold").expect("a subject");
                let (payload, seen, sent) = (payload(), seen.clone(), Arc::clone(&sent));
                async move {
                    for _ in 0..each {
                        let number = sent.fetch_add(1, Ordering::Relaxed);
                        if held_back {
                            seen.hold_back(number).await;
                        }
                        let published = publisher.publish(payload.clone()).await;
                        published.expect("the hub is open");
                    }
                }
            }));
        });
        let receive: Work = Box::new(move || {
            block_on(
                subscriptions
                    .into_iter()
                    .enumerate()
                    .map(|(at, mut subscription)| {
                        let progress = progress.clone();
                        async move {
                            for number in 1..=total {
                                match subscription.recv().await {
                                    Ok(Delivery::Message(_)) => {}
                                    other => panic!("{other:?}"),
                                }
                                if held_back {
                                    progress.0[at].store(number, Ordering::Release);
                                }
                            }
                        }
                    }),
            );
        });
        vec![publish, receive]
    })
}

fn tokio(publishers: u64, subscribers: usize) -> Contender {
    Contender::team("tokio", move |iters| {
        let (sender, _) = broadcast::channel(CAPACITY);
        let each = share(iters, publishers);
        let total = each * publishers;
        let receivers: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
        let progress = Progress::new(subscribers);
        let (seen, sent) = (progress.clone(), Arc::new(AtomicU64::new(0)));
        let publish: Work = Box::new(move || {
            block_on((0..publishers).map(|_| {
                let sender = sender.clone();
                let (payload, seen, sent) = (payload(), seen.clone(), Arc::clone(&sent));
                async move {
                    for _ in 0..each {
                        let number = sent.fetch_add(1, Ordering::Relaxed);
                        seen.hold_back(number).await;
                        sender.send(payload.clone()).expect("there are receivers");
                    }
                }
            }));
        });
        let receive: Work = Box::new(move || {
            block_on(receivers.into_iter().enumerate().map(|(at, mut receiver)| {
                let progress = progress.clone();
                async move {
                    for number in 1..=total {
                        receiver.recv().await.expect("nothing is lost");
                        progress.0[at].store(number, Ordering::Release);
                    }
                }
            }));
        });
        vec![publish, receive]
    })
}

fn async_broadcast(publishers: u64, subscribers: usize) -> Contender {
    Contender::team("async-broadcast", move |iters| {
        let (sender, receiver) = async_broadcast::broadcast(CAPACITY);
        let each = share(iters, publishers);
        let total = each * publishers;
        let receivers = vec![receiver; subscribers];
        let publish: Work = Box::new(move || {
            block_on((0..publishers).map(|_| {
                let (sender, payload) = (sender.clone(), payload());
                async move {
                    for _ in 0..each {
                        let lost = sender.broadcast(payload.clone()).await;
                        lost.expect("there are receivers");
                    }
                }
            }));
        });
        let receive: Work = Box::new(move || {
            block_on(receivers.into_iter().map(|mut receiver| async move {
                for _ in 1..=total {
                    receiver.recv().await.expect("nothing is lost");
                }
            }));
        });
        vec![publish, receive]
    })
}
