//! A subscriber's buffer with its lock, and the tasks that wait for it.

mod store;

pub(crate) use store::Store;

use crate::config::Key;
use crate::error::Closed;
use crate::machine::{Buffer, Counts, Mode, Offer, Take};
use crate::sync::Lock;
use crate::wait::{Place, WaitList};
use std::task::{Context, Poll, Waker};
use store::{Job, Stored};

/// A buffer between any number of publishers and readers.
///
/// A publisher that waits leaves its message in the wait list, and the reader that makes room moves it in. A reader
/// that waits is woken and then takes by itself, so that a reader which is dropped loses nothing.
#[derive(Debug)]
pub(crate) struct Ring<M> {
    state: Lock<State<M>>,
}

struct State<M> {
    buffer: Buffer<M>,
    readers: WaitList<()>,
    writers: WaitList<M>,
    store: Stored<M>,
    closed: Option<Closed>,
    /// There is nobody who will read.
    abandoned: bool,
}

/// What became of a message at one ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) outcome: Outcome,
    /// Messages that were lost by it, this one or older ones.
    pub(crate) lost: u64,
    /// Something was lost, and the reader had been told of all losses before.
    pub(crate) begins_to_lag: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    #[default]
    Stored,
    Lost,
    /// It is lost, and the subscription is closed by it.
    Overflow,
    Closed,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<M> {
    Message(M),
    Lagged(u64),
}

/// A publisher that waits with its message.
#[derive(Debug)]
pub(crate) enum Writer<M> {
    /// It has not taken a place yet.
    Bringing(M),
    /// The message waits in the ring.
    At(Place),
    /// The ring has taken it.
    Served,
}

/// What is left to do outside the lock: wakers and the destructors of messages are not our code.
struct After<M> {
    reader: Option<Waker>,
    writer: Option<Waker>,
    gone: Option<M>,
}

impl<M> After<M> {
    const NOTHING: Self = Self {
        reader: None,
        writer: None,
        gone: None,
    };

    #[inline]
    fn run(self) {
        drop(self.gone);
        if let Some(waker) = self.reader {
            waker.wake();
        }
        if let Some(waker) = self.writer {
            waker.wake();
        }
    }
}

/// What the lock decided about an offered message.
enum Offering<M> {
    Done(Offered),
    /// It has to wait.
    Wait(M),
    /// This task takes it, and what others left, to the store.
    Write(Job<M>),
}

/// What the lock decided about a reader.
enum Reading<M> {
    Taken(Taken<M>),
    Wait,
    Closed(Closed),
    /// This task brings messages back from the store.
    Read(Box<dyn Store<M>>, usize),
}

impl<M> Ring<M> {
    pub(crate) fn new(mode: Mode, capacity: usize, store: Option<Box<dyn Store<M>>>) -> Self {
        Self {
            state: Lock::new(State {
                buffer: Buffer::new(mode, capacity),
                readers: WaitList::new(),
                writers: WaitList::new(),
                store: store.map_or(Stored::None, Stored::Here),
                closed: None,
                abandoned: false,
            }),
        }
    }

    /// Offers a message without waiting. `Err` gives it back if it has to wait.
    #[inline]
    pub(crate) fn offer(&self, message: M, key: Option<Key>) -> Result<Offered, M> {
        // The way of nearly all messages, kept short.
        let stored = self.state.with(|state| {
            if key.is_none() && state.has_plain_room() {
                state.buffer.push(message);
                return Ok(state.readers.next());
            }
            Err(state.offer(message, key))
        });
        match stored {
            Ok(None) => Ok(Offered::default()),
            Ok(Some((waker, ()))) => {
                waker.wake();
                Ok(Offered::default())
            }
            Err((offering, after)) => {
                after.run();
                match offering {
                    Offering::Done(offered) => Ok(offered),
                    Offering::Wait(message) => Err(message),
                    Offering::Write(job) => Ok(self.write(job)),
                }
            }
        }
    }

    /// Waits until the ring has taken the message of a writer.
    pub(crate) fn poll_offer(&self, writer: &mut Writer<M>, cx: &Context<'_>) -> Poll<Offered> {
        let waker = cx.waker().clone();
        let (offering, after, _unused) = match std::mem::replace(writer, Writer::Served) {
            Writer::Served => return Poll::Ready(Offered::default()),
            Writer::Bringing(message) => self.state.with(|state| {
                let (offering, after) = state.offer(message, None);
                match offering {
                    Offering::Wait(message) => {
                        *writer = Writer::At(state.writers.join(waker, message));
                        (None, after, None)
                    }
                    other => (Some(other), after, Some(waker)),
                }
            }),
            Writer::At(own) => self.state.with(|state| {
                if let Some((job, old)) = state.write_own(own) {
                    return (Some(Offering::Write(job)), After::NOTHING, Some(old));
                }
                match state.writers.renew(own, waker) {
                    Ok(old) => {
                        *writer = Writer::At(own);
                        (None, After::NOTHING, Some(old))
                    }
                    Err(unused) => {
                        let served = Offering::Done(Offered::default());
                        (Some(served), After::NOTHING, Some(unused))
                    }
                }
            }),
        };
        after.run();
        match offering {
            None | Some(Offering::Wait(_)) => Poll::Pending,
            Some(Offering::Done(offered)) => Poll::Ready(offered),
            Some(Offering::Write(job)) => Poll::Ready(self.write(job)),
        }
    }

    /// Ends a writer's wait. If its message was not taken yet, it is lost, and counted.
    pub(crate) fn give_up(&self, writer: Writer<M>) -> Offered {
        let (offered, after, _left) = self.state.with(|state| {
            let left = match writer {
                Writer::Served => None,
                Writer::Bringing(message) => Some((None, message)),
                Writer::At(place) => {
                    let left = state.writers.leave(place);
                    left.map(|(waker, message)| (Some(waker), message))
                }
            };
            if left.is_none() {
                return (Offered::default(), After::<M>::NOTHING, None);
            }
            let offered = state.lose();
            let after = After {
                reader: state.reader_to_wake(),
                writer: state.writer_to_wake(),
                gone: None,
            };
            (offered, after, left)
        });
        after.run();
        offered
    }

    /// Takes what is next, or waits for it. `place` stands for the waiting reader between polls.
    pub(crate) fn poll_take(
        &self,
        place: &mut Option<Place>,
        cx: &Context<'_>,
    ) -> Poll<Result<Taken<M>, Closed>> {
        loop {
            if let Some(result) = self.try_take(place).transpose() {
                return Poll::Ready(result);
            }
            // Something may have come while the waker was cloned; it is looked for again under the same lock as the
            // place is taken.
            let waker = cx.waker().clone();
            let (waits, _unused) = self.state.with(|state| {
                if state.would_serve_a_reader() {
                    return (false, Some(waker));
                }
                let renewed = match *place {
                    Some(own) => state.readers.renew(own, waker),
                    None => Err(waker),
                };
                match renewed {
                    Ok(old) => (true, Some(old)),
                    Err(waker) => {
                        *place = Some(state.readers.join(waker, ()));
                        (true, None)
                    }
                }
            });
            if waits {
                return Poll::Pending;
            }
        }
    }

    /// Takes what is next, if anything is. A reader that waited at `place` then waits no longer.
    #[inline]
    pub(crate) fn try_take(&self, place: &mut Option<Place>) -> Result<Option<Taken<M>>, Closed> {
        // The way of nearly all messages, kept short.
        let plain = self.state.with(|state| {
            let alone = place.is_none() && state.writers.is_empty() && state.readers.is_empty();
            alone.then(|| state.buffer.take_plain()).flatten()
        });
        if let Some(message) = plain {
            return Ok(Some(Taken::Message(message)));
        }
        loop {
            let (reading, after, _left) = self.state.with(|state| state.take(place));
            after.run();
            match reading {
                Reading::Wait => return Ok(None),
                Reading::Taken(taken) => return Ok(Some(taken)),
                Reading::Closed(closed) => return Err(closed),
                Reading::Read(store, count) => self.read(store, count),
            }
        }
    }

    /// Gives up the place of a reader. If it was woken and did not look, another one is.
    pub(crate) fn leave_readers(&self, place: Place) {
        let (left, reader) = self.state.with(|state| match state.readers.leave(place) {
            Some(left) => (Some(left), None),
            None => (None, state.reader_to_wake()),
        });
        drop(left);
        After::<M> {
            reader,
            ..After::NOTHING
        }
        .run();
    }

    /// Ends the ring: what is in it can still be read, and nothing more comes.
    pub(crate) fn close(&self, why: Closed) {
        let (readers, writers, _why) = self.state.with(|state| {
            let why = match state.closed {
                Some(_) => Some(why),
                None => state.closed.replace(why),
            };
            (state.readers.all(), state.writers.all(), why)
        });
        readers.for_each(|(waker, ())| waker.wake());
        writers.for_each(|(waker, message)| {
            drop(message);
            waker.wake();
        });
    }

    /// Ends the ring and forgets what is in it.
    pub(crate) fn abandon(&self) {
        self.close(Closed::Hub);
        let _gone = self.state.with(|state| {
            state.abandoned = true;
            (state.buffer.clear(), state.store.take())
        });
    }

    /// Returns how many messages wait to be read.
    pub(crate) fn len(&self) -> u64 {
        self.state.with(|state| state.buffer.len())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state.with(|state| state.buffer.counts())
    }

    /// Returns how many publishers and readers wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.state
            .with(|state| (state.writers.len(), state.readers.len()))
    }
}

impl Offered {
    fn closed() -> Self {
        Self {
            outcome: Outcome::Closed,
            ..Self::default()
        }
    }
}

impl<M> State<M> {
    /// Says whether a message only has to be put into the buffer.
    #[inline]
    fn has_plain_room(&self) -> bool {
        self.buffer.has_room()
            && self.writers.is_empty()
            && self.closed.is_none()
            && !matches!(self.store, Stored::Away)
    }

    fn offer(&mut self, message: M, key: Option<Key>) -> (Offering<M>, After<M>) {
        if self.closed.is_some() {
            let after = After {
                gone: Some(message),
                ..After::NOTHING
            };
            return (Offering::Done(Offered::closed()), after);
        }
        // First come, first served; and what is on its way to the store comes first, too.
        if !self.writers.is_empty() || matches!(self.store, Stored::Away) {
            return (Offering::Wait(message), After::NOTHING);
        }
        let lagged = self.buffer.lags();
        let lost_before = self.buffer.lost();
        match self.buffer.offer(message, key) {
            Offer::Stored { gone } => {
                let offered = Offered {
                    outcome: Outcome::Stored,
                    lost: self.buffer.lost() - lost_before,
                    begins_to_lag: !lagged && self.buffer.lags(),
                };
                let after = After {
                    reader: self.readers.next().map(|(waker, ())| waker),
                    writer: None,
                    gone,
                };
                (Offering::Done(offered), after)
            }
            Offer::NoRoom(message) => self.no_room(message, lagged),
            Offer::Lost(message) => {
                let offered = Offered {
                    outcome: Outcome::Lost,
                    lost: 1,
                    begins_to_lag: !lagged,
                };
                (
                    Offering::Done(offered),
                    After {
                        gone: Some(message),
                        ..After::NOTHING
                    },
                )
            }
            Offer::Overflow(message) => {
                self.closed = Some(Closed::Overflow {
                    capacity: self.buffer.capacity(),
                });
                let offered = Offered {
                    outcome: Outcome::Overflow,
                    lost: 1,
                    begins_to_lag: !lagged,
                };
                (
                    Offering::Done(offered),
                    After {
                        gone: Some(message),
                        ..After::NOTHING
                    },
                )
            }
        }
    }

    fn no_room(&mut self, message: M, lagged: bool) -> (Offering<M>, After<M>) {
        if self.buffer.mode() == Mode::Await {
            return (Offering::Wait(message), After::NOTHING);
        }
        match std::mem::replace(&mut self.store, Stored::Away) {
            Stored::Here(store) => {
                let lost_before = self.buffer.begin_beyond();
                let job = Job {
                    store,
                    message,
                    lost_before,
                };
                (Offering::Write(job), After::NOTHING)
            }
            Stored::Away => (Offering::Wait(message), After::NOTHING),
            Stored::None => {
                self.store = Stored::None;
                self.buffer.lose(1);
                let offered = Offered {
                    outcome: Outcome::Lost,
                    lost: 1,
                    begins_to_lag: !lagged,
                };
                let after = After {
                    gone: Some(message),
                    ..After::NOTHING
                };
                (Offering::Done(offered), after)
            }
        }
    }

    /// Counts a message that its publisher gave up.
    fn lose(&mut self) -> Offered {
        if self.closed.is_some() {
            return Offered::closed();
        }
        let begins_to_lag = !self.buffer.lags();
        self.buffer.lose(1);
        Offered {
            outcome: Outcome::Lost,
            lost: 1,
            begins_to_lag,
        }
    }

    /// Also returns the waker of the reader at `place`, which has what it waited for.
    fn take(&mut self, place: &mut Option<Place>) -> (Reading<M>, After<M>, Option<Waker>) {
        let mut after = After::NOTHING;
        let reading = match self.buffer.take() {
            Take::Message(message) => {
                if !self.writers.is_empty() && self.buffer.mode() == Mode::Await {
                    after.writer = self.move_in();
                }
                Reading::Taken(Taken::Message(message))
            }
            Take::Lagged(lost) => Reading::Taken(Taken::Lagged(lost)),
            Take::Beyond => match self.store.take() {
                Some(store) => {
                    self.store = Stored::Away;
                    let count = self.buffer.capacity().min(store::BATCH);
                    return (Reading::Read(store, count), after, None);
                }
                None => return (Reading::Wait, after, None),
            },
            Take::Empty => match &self.closed {
                Some(closed) => Reading::Closed(closed.clone()),
                None => return (Reading::Wait, after, None),
            },
        };
        let left = place.take().and_then(|own| self.readers.leave(own));
        after.reader = self.reader_to_wake();
        (reading, after, left.map(|(waker, ())| waker))
    }

    /// Moves the message of the first writer into the room that was made.
    fn move_in(&mut self) -> Option<Waker> {
        let (waker, waiting) = self.writers.next()?;
        let moved_in = self.buffer.offer(waiting, None);
        debug_assert!(
            matches!(moved_in, Offer::Stored { gone: None }),
            "there is room"
        );
        Some(waker)
    }

    /// Says whether a reader that looks now finds something, without taking it.
    fn would_serve_a_reader(&self) -> bool {
        if self.buffer.has_any() {
            self.buffer.is_next_here() || matches!(self.store, Stored::Here(_))
        } else {
            self.closed.is_some()
        }
    }

    /// The next reader, if there is something for it.
    #[inline]
    fn reader_to_wake(&mut self) -> Option<Waker> {
        if self.readers.is_empty() || !self.would_serve_a_reader() {
            return None;
        }
        self.readers.next().map(|(waker, ())| waker)
    }

    /// The first writer, if the store is free for it. It keeps its place.
    fn writer_to_wake(&self) -> Option<Waker> {
        match self.store {
            Stored::Here(_) => self.writers.first().cloned(),
            _ => None,
        }
    }
}
