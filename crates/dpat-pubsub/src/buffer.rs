//! What waits for one subscriber of a backend: so many messages, and the places where others are missing.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll, Waker};

use crate::config::Overflow;
use crate::error::{Closed, Unsupported};
use crate::message::{Delivery, Message};
use crate::subscription::Stats;
use crate::sync::Lock;

/// A bounded buffer between a backend's connection and one subscriber.
///
/// It holds exactly as many messages as it was made for. What is lost, here or before, is counted where it is missing.
/// One task reads; any number may push. For those who write a [`Source`](crate::Source).
///
/// # Examples
/// ```
/// use dpat_pubsub::{Closed, Delivery, Message, Overflow, SourceBuffer};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = SourceBuffer::new("mine", 1, &Overflow::DropOldest)?;
/// buffer.push(Message::new("orders.1".parse()?, "first".into()));
/// buffer.push(Message::new("orders.2".parse()?, "second".into()));
/// buffer.end(Closed::Hub);
/// assert!(matches!(buffer.try_next()?, Some(Delivery::Lagged(1))));
/// assert!(matches!(buffer.try_next()?, Some(Delivery::Message(_))));
/// assert!(buffer.try_next().is_err()); // closed
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
pub struct SourceBuffer {
    capacity: usize,
    policy: Policy,
    state: Lock<State>,
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    DropOldest,
    DropNewest,
    Disconnect,
}

#[derive(Default)]
struct State {
    /// Two gaps never stand side by side.
    items: VecDeque<Item>,
    reader: Option<Waker>,
    end: Option<Closed>,
    stats: Stats,
}

enum Item {
    Message(Message),
    /// So many are missing that were counted; more may be if it is 0.
    Gap(u64),
}

impl SourceBuffer {
    /// Makes a buffer for so many messages; `backend` is the name that errors have.
    ///
    /// # Errors
    /// [`Unsupported`] for what needs more than a buffer: [`Await`](Overflow::Await), [`Conflate`](Overflow::Conflate) and
    /// spilling.
    pub fn new(
        backend: &'static str,
        capacity: usize,
        overflow: &Overflow,
    ) -> Result<Self, Unsupported> {
        let policy = match overflow {
            Overflow::DropOldest => Policy::DropOldest,
            Overflow::DropNewest => Policy::DropNewest,
            Overflow::Disconnect => Policy::Disconnect,
            other => return Err(Unsupported::new(other.capability().as_str(), backend)),
        };
        Ok(Self {
            capacity,
            policy,
            state: Lock::new(State::default()),
        })
    }

    /// Takes a message in; says whether more is wanted.
    ///
    /// # Complexity
    /// O(1), and a wake if the reader waits.
    pub fn push(&self, message: Message) -> bool {
        self.change(|state| {
            if state.end.is_some() {
                return false;
            }
            if state.stats.waiting < self.capacity as u64 {
                state.accept(message);
                return true;
            }
            match self.policy {
                Policy::DropOldest => {
                    state.lose_oldest();
                    state.accept(message);
                    true
                }
                Policy::DropNewest => {
                    state.gap(1);
                    true
                }
                Policy::Disconnect => {
                    let capacity = self.capacity;
                    state.gap(1);
                    state.end = Some(Closed::Overflow { capacity });
                    false
                }
            }
        })
    }

    /// Notes that so many are missing behind what is there; 0: nobody knows how many.
    pub fn gap(&self, lost: u64) {
        self.change(|state| {
            if state.end.is_none() {
                state.gap(lost);
            }
        });
    }

    /// Ends it behind what is there. The first end counts.
    pub fn end(&self, closed: Closed) {
        self.change(|state| {
            state.end.get_or_insert(closed);
        });
    }

    /// Takes the waker of the reader, if it waits. Until it asks again nothing wakes it but whoever has the waker.
    #[must_use]
    pub fn take_waker(&self) -> Option<Waker> {
        self.state.with(|state| state.reader.take())
    }

    fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, reader) = self.state.with(|state| {
            let result = work(state);
            (result, state.reader.take())
        });
        // Outside the lock: a waker may run anything.
        if let Some(reader) = reader {
            reader.wake();
        }
        result
    }

    /// Returns what is next, if something is there.
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything that did was returned.
    pub fn try_next(&self) -> Result<Option<Delivery>, Closed> {
        self.state.with(State::take)
    }

    /// Returns what is next, or waits. The waker of an earlier call is forgotten.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<Delivery, Closed>> {
        self.state.with(|state| match state.take() {
            Ok(Some(delivery)) => Poll::Ready(Ok(delivery)),
            Err(closed) => Poll::Ready(Err(closed)),
            Ok(None) => {
                let same = state.reader.as_ref();
                if !same.is_some_and(|reader| reader.will_wake(cx.waker())) {
                    state.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        })
    }

    /// Returns what it has seen.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.with(|state| state.stats)
    }
}

impl fmt::Debug for SourceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceBuffer")
            .field("capacity", &self.capacity)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl State {
    fn accept(&mut self, message: Message) {
        self.items.push_back(Item::Message(message));
        self.stats.waiting += 1;
        self.stats.accepted += 1;
    }

    fn gap(&mut self, lost: u64) {
        self.stats.lost += lost;
        match self.items.back_mut() {
            Some(Item::Gap(before)) => *before += lost,
            _ => self.items.push_back(Item::Gap(lost)),
        }
    }

    /// Makes a gap of the oldest message, with the gaps before and behind it.
    fn lose_oldest(&mut self) {
        let before = self.pop_gap();
        self.items.pop_front();
        let lost = before + 1 + self.pop_gap();
        self.items.push_front(Item::Gap(lost));
        self.stats.waiting -= 1;
        self.stats.lost += 1;
    }

    fn pop_gap(&mut self) -> u64 {
        let Some(&Item::Gap(lost)) = self.items.front() else {
            return 0;
        };
        self.items.pop_front();
        lost
    }

    fn take(&mut self) -> Result<Option<Delivery>, Closed> {
        match (self.items.pop_front(), &self.end) {
            (Some(Item::Message(message)), _) => {
                self.stats.waiting -= 1;
                self.stats.taken += 1;
                Ok(Some(Delivery::Message(message)))
            }
            (Some(Item::Gap(lost)), _) => Ok(Some(Delivery::Lagged(lost))),
            (None, Some(closed)) => Err(closed.clone()),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn new(capacity: usize, overflow: &Overflow) -> SourceBuffer {
        SourceBuffer::new("mine", capacity, overflow).unwrap()
    }

    fn push(buffer: &SourceBuffer, text: &str) -> bool {
        buffer.push(Message::new("a".parse().unwrap(), text.to_owned().into()))
    }

    /// Reads all that is there.
    fn read(buffer: &SourceBuffer) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            seen.push(match buffer.try_next() {
                Ok(Some(Delivery::Message(message))) => {
                    String::from_utf8(message.payload().to_vec()).unwrap()
                }
                Ok(Some(Delivery::Lagged(lost))) => format!("lost {lost}"),
                Ok(None) => return seen,
                Err(closed) => {
                    seen.push(closed.to_string());
                    return seen;
                }
            });
        }
    }

    #[test]
    fn a_source_counts_lag_where_messages_are_missing_and_its_capacity_is_exact() {
        let cases = [
            (Overflow::DropOldest, vec!["lost 2", "2", "3"], true),
            (Overflow::DropNewest, vec!["0", "1", "lost 2"], true),
            (
                Overflow::Disconnect,
                vec![
                    "0",
                    "1",
                    "lost 1",
                    "disconnected: more than 2 messages were waiting",
                ],
                false,
            ),
        ];
        for (overflow, expected, wants_more) in cases {
            let buffer = new(2, &overflow);
            let pushed = (0..4).map(|number| push(&buffer, &number.to_string()));
            assert_eq!(pushed.last(), Some(wants_more), "{overflow:?}");
            assert_eq!(buffer.stats().waiting, 2, "{overflow:?}");
            assert_eq!(read(&buffer), expected, "{overflow:?}");
        }
    }

    #[test]
    fn gaps_stand_where_they_happened_and_side_by_side_are_one() {
        let buffer = new(2, &Overflow::DropOldest);
        push(&buffer, "0");
        buffer.gap(3);
        buffer.gap(0);
        push(&buffer, "1");
        buffer.gap(0);
        push(&buffer, "2");
        let stats = buffer.stats();
        assert_eq!((stats.accepted, stats.lost, stats.waiting), (3, 4, 2));
        assert_eq!(read(&buffer), ["lost 4", "1", "lost 0", "2"]);
        let stats = buffer.stats();
        assert_eq!((stats.taken, stats.waiting), (2, 0));
    }

    #[test]
    fn the_end_of_a_source_comes_behind_what_is_there_and_stays() {
        let buffer = new(2, &Overflow::DropOldest);
        push(&buffer, "0");
        buffer.end(Closed::Hub);
        buffer.end(Closed::Overflow { capacity: 2 });
        assert!(!push(&buffer, "1"));
        buffer.gap(1);
        assert_eq!(read(&buffer), ["0", "the hub is closed"]);
        assert!(buffer.try_next().is_err());
    }

    #[test]
    fn whoever_has_the_waker_of_a_reader_wakes_it() {
        let woken = Arc::new(Woken::default());
        let buffer = new(2, &Overflow::DropOldest);
        assert!(buffer.take_waker().is_none());
        let read = || buffer.poll_next(&Context::from_waker(&Waker::from(Arc::clone(&woken))));
        assert!(read().is_pending());
        let waker = buffer.take_waker().unwrap();
        push(&buffer, "0");
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        waker.wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(read().is_ready() && read().is_pending());
        push(&buffer, "1");
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_needs_more_than_a_buffer_is_refused_by_name() {
        for overflow in [Overflow::Await, Overflow::Conflate(Default::default())] {
            let refused = SourceBuffer::new("mine", 1, &overflow).unwrap_err();
            let name = overflow.capability().as_str();
            assert_eq!(refused.to_string(), format!("mine does not offer {name}"));
        }
    }
}
