//! What waits for one subscriber: exactly so many messages, and the places where others are missing.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use dpat_pubsub::{Closed, Delivery, Message, Stats};

use crate::sync::Mutex;

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    DropOldest,
    DropNewest,
    Disconnect,
}

/// A bounded buffer between the task that reads from the server and the subscriber.
pub(crate) struct Buffer {
    capacity: usize,
    policy: Policy,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Two losses never stand side by side.
    items: VecDeque<Item>,
    messages: usize,
    reader: Option<Waker>,
    end: Option<Closed>,
    stats: Stats,
}

enum Item {
    Message(Message),
    Lost(u64),
}

impl Buffer {
    pub(crate) fn new(capacity: usize, policy: Policy) -> Self {
        Self {
            capacity,
            policy,
            state: Mutex::new(State::default()),
        }
    }

    /// Takes a message in; false once nothing more is wanted.
    pub(crate) fn push(&self, message: Message) -> bool {
        self.change(|state| {
            if state.end.is_some() {
                return false;
            }
            if state.messages < self.capacity {
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
                    state.lose(1);
                    true
                }
                Policy::Disconnect => {
                    state.lose(1);
                    state.end = Some(Closed::Overflow {
                        capacity: self.capacity,
                    });
                    false
                }
            }
        })
    }

    /// Notes messages that were lost before they came here.
    pub(crate) fn lose(&self, count: u64) {
        self.change(|state| {
            if state.end.is_none() {
                state.lose(count);
            }
        });
    }

    /// Ends it behind what is in it. The first end counts.
    pub(crate) fn end(&self, closed: Closed) {
        self.change(|state| {
            state.end.get_or_insert(closed);
        });
    }

    fn change<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, reader) = self.state.with(|state| {
            let result = work(state);
            (result, state.reader.take())
        });
        if let Some(reader) = reader {
            reader.wake();
        }
        result
    }

    pub(crate) fn try_next(&self) -> Result<Option<Delivery>, Closed> {
        self.state.with(State::take)
    }

    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<Delivery, Closed>> {
        self.state.with(|state| match state.take() {
            Ok(Some(delivery)) => Poll::Ready(Ok(delivery)),
            Err(closed) => Poll::Ready(Err(closed)),
            Ok(None) => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        self.state.with(|state| {
            let mut stats = state.stats;
            stats.waiting = state.messages as u64;
            stats
        })
    }
}

impl State {
    fn accept(&mut self, message: Message) {
        self.items.push_back(Item::Message(message));
        self.messages += 1;
        self.stats.accepted += 1;
    }

    /// Notes losses behind what is there.
    fn lose(&mut self, count: u64) {
        self.stats.lost += count;
        match self.items.back_mut() {
            Some(Item::Lost(lost)) => *lost += count,
            _ => self.items.push_back(Item::Lost(count)),
        }
    }

    /// Makes a loss of the first message. It is the first item, or the second behind a loss.
    fn lose_oldest(&mut self) {
        let mut lost = 1;
        if let Some(Item::Lost(before)) = self.items.front() {
            lost += before;
            self.items.pop_front();
        }
        self.items.pop_front();
        if let Some(Item::Lost(behind)) = self.items.front() {
            lost += behind;
            self.items.pop_front();
        }
        self.items.push_front(Item::Lost(lost));
        self.messages -= 1;
        self.stats.lost += 1;
    }

    fn take(&mut self) -> Result<Option<Delivery>, Closed> {
        match (self.items.pop_front(), &self.end) {
            (Some(Item::Message(message)), _) => {
                self.messages -= 1;
                self.stats.taken += 1;
                Ok(Some(Delivery::Message(message)))
            }
            (Some(Item::Lost(lost)), _) => Ok(Some(Delivery::Lagged(lost))),
            (None, Some(closed)) => Err(closed.clone()),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::new("a".parse().unwrap(), text.to_owned().into())
    }

    /// Reads all that is there.
    fn read(buffer: &Buffer) -> Vec<String> {
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
    fn lag_is_counted_where_messages_are_missing_and_capacity_is_exact() {
        let cases = [
            (Policy::DropOldest, vec!["lost 2", "2", "3"]),
            (Policy::DropNewest, vec!["0", "1", "lost 2"]),
            (
                Policy::Disconnect,
                vec![
                    "0",
                    "1",
                    "lost 1",
                    "disconnected: more than 2 messages were waiting",
                ],
            ),
        ];
        for (policy, expected) in cases {
            let buffer = Buffer::new(2, policy);
            for number in 0..4 {
                buffer.push(message(&number.to_string()));
            }
            assert_eq!(read(&buffer), expected, "{policy:?}");
        }
    }

    #[test]
    fn losses_before_the_buffer_stand_where_they_happened_and_are_told_as_one() {
        let buffer = Buffer::new(2, Policy::DropOldest);
        buffer.push(message("0"));
        buffer.lose(3);
        buffer.push(message("1"));
        buffer.lose(1);
        buffer.push(message("2"));
        assert_eq!(buffer.stats().lost, 5);
        assert_eq!(read(&buffer), ["lost 4", "1", "lost 1", "2"]);
        let stats = buffer.stats();
        assert_eq!(
            (stats.accepted, stats.taken, stats.lost, stats.waiting),
            (3, 2, 5, 0)
        );
    }

    #[test]
    fn the_end_comes_behind_what_is_there_and_stays() {
        let buffer = Buffer::new(2, Policy::DropOldest);
        buffer.push(message("0"));
        buffer.end(Closed::Hub);
        buffer.end(Closed::Overflow { capacity: 2 });
        assert!(!buffer.push(message("1")));
        assert_eq!(read(&buffer), ["0", "the hub is closed"]);
        assert!(buffer.try_next().is_err());
    }
}
