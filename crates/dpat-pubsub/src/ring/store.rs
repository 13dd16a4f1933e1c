//! The part of a ring that moves messages to and from its store, one task at a time and outside the lock.

use super::{After, Offered, Outcome, Ring, State};
use crate::wait::Place;
use std::task::Waker;

/// Messages that one task moves to or from the store before it lets another one do so.
pub(super) const BATCH: usize = 64;

/// Where messages beyond the buffer are kept. Used by one task at a time, never under the ring's lock.
pub(crate) trait Store<M>: Send {
    /// Keeps a message, and how many were lost before it. False if it is lost: no room, or a failure.
    fn write(&mut self, message: &M, lost_before: u64) -> bool;

    /// Returns up to `count` of the oldest messages, with what was lost before each. A missing one did not survive.
    fn read(&mut self, count: usize) -> Vec<(u64, Option<M>)>;
}

/// Where a ring's store is.
pub(super) enum Stored<M> {
    /// There is none, or it has failed for good.
    None,
    Here(Box<dyn Store<M>>),
    /// A task is using it.
    Away,
}

/// A message on its way to the store, in the hands of the task that took the store.
pub(super) struct Job<M> {
    pub(super) store: Box<dyn Store<M>>,
    pub(super) message: M,
    pub(super) lost_before: u64,
}

impl<M> Stored<M> {
    pub(super) fn take(&mut self) -> Option<Box<dyn Store<M>>> {
        match std::mem::replace(self, Self::None) {
            Self::Here(store) => Some(store),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The store while a task uses it. If the store panics, its messages are lost, and counted.
struct InUse<'a, M> {
    ring: &'a Ring<M>,
    store: Option<Box<dyn Store<M>>>,
}

impl<M> Drop for InUse<'_, M> {
    fn drop(&mut self) {
        if self.store.is_none() {
            return;
        }
        let (reader, writers) = self.ring.state.with(|state| {
            state.store = Stored::None;
            state.buffer.lose_beyond();
            let writers = state.writers.all();
            state.buffer.lose(writers.len() as u64);
            (state.reader_to_wake(), writers)
        });
        After::<M> {
            reader,
            ..After::NOTHING
        }
        .run();
        writers.for_each(|(waker, message)| {
            drop(message);
            waker.wake();
        });
    }
}

impl<M> Ring<M> {
    /// Takes a message to the store, and those that others have left meanwhile. Returns what became of
    /// the first, and how many were lost in all.
    pub(super) fn write(&self, job: Job<M>) -> Offered {
        let mut in_use = InUse {
            ring: self,
            store: Some(job.store),
        };
        let (mut message, mut lost_before) = (job.message, job.lost_before);
        let mut first = None;
        let mut served: Option<Waker> = None;
        for round in 1.. {
            let arrived = in_use
                .store
                .as_mut()
                .is_some_and(|store| store.write(&message, lost_before));
            let (offered, next, after, garbage) = self.state.with(|state| {
                let lagged = state.buffer.lags();
                state.buffer.end_beyond(arrived, lost_before);
                let outcome = if arrived {
                    Outcome::Stored
                } else {
                    Outcome::Lost
                };
                let offered = Offered {
                    outcome,
                    lost: u64::from(!arrived),
                    begins_to_lag: !lagged && state.buffer.lags(),
                };
                let next = if round < BATCH {
                    state.writers.next()
                } else {
                    None
                };
                match next {
                    Some((waker, message)) => {
                        let lost_before = state.buffer.begin_beyond();
                        (
                            offered,
                            Some((waker, message, lost_before)),
                            After::NOTHING,
                            None,
                        )
                    }
                    None => {
                        let (after, garbage) = state.put_back(in_use.store.take());
                        (offered, None, after, garbage)
                    }
                }
            });
            let first: &mut Offered = first.get_or_insert(Offered { lost: 0, ..offered });
            first.lost += offered.lost;
            first.begins_to_lag |= offered.begins_to_lag;
            drop(garbage);
            after.run();
            if let Some(waker) = served.take() {
                waker.wake();
            }
            let Some((waker, next_message, next_lost)) = next else {
                break;
            };
            served = Some(waker);
            (message, lost_before) = (next_message, next_lost);
        }
        first.unwrap_or_default()
    }

    /// Brings messages back from the store.
    pub(super) fn read(&self, store: Box<dyn Store<M>>, count: usize) {
        let mut in_use = InUse {
            ring: self,
            store: Some(store),
        };
        let messages = match &mut in_use.store {
            Some(store) => store.read(count),
            None => Vec::new(),
        };
        let (after, garbage, unread) = self.state.with(|state| {
            let store = in_use.store.take();
            if state.abandoned {
                return (After::NOTHING, store, messages);
            }
            if messages.is_empty() {
                // A store that has lost count is as good as empty.
                state.buffer.lose_beyond();
            } else {
                state.buffer.bring_back(messages);
            }
            let (after, garbage) = state.put_back(store);
            (after, garbage, Vec::new())
        });
        drop((garbage, unread));
        after.run();
    }
}

impl<M> State<M> {
    /// Ends the use of the store. It comes back for the caller to drop if nobody will read any more.
    #[allow(clippy::type_complexity, reason = "used twice, above")]
    fn put_back(
        &mut self,
        store: Option<Box<dyn Store<M>>>,
    ) -> (After<M>, Option<Box<dyn Store<M>>>) {
        let Some(store) = store else {
            return (After::NOTHING, None);
        };
        if self.abandoned {
            return (After::NOTHING, Some(store));
        }
        self.store = Stored::Here(store);
        let after = After {
            reader: self.reader_to_wake(),
            writer: self.writer_to_wake(),
            gone: None,
        };
        (after, None)
    }

    /// Lets the first writer in line take its own message to the store, if the store is free.
    pub(super) fn write_own(&mut self, own: Place) -> Option<(Job<M>, Waker)> {
        if !self.writers.is_first(own) {
            return None;
        }
        let store = self.store.take()?;
        let Some((waker, message)) = self.writers.leave(own) else {
            self.store = Stored::Here(store);
            return None;
        };
        self.store = Stored::Away;
        let lost_before = self.buffer.begin_beyond();
        let job = Job {
            store,
            message,
            lost_before,
        };
        Some((job, waker))
    }
}
