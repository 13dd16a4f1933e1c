//! What waits for one subscriber: so many messages, and the places where others are missing.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use dpat_pubsub::{Closed, Delivery, Message, Overflow, Stats};

use crate::sync::Mutex;

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    DropOldest,
    DropNewest,
    Disconnect,
}

/// A bounded buffer between the connection and the subscriber.
pub(super) struct Buffer {
    capacity: usize,
    policy: Policy,
    state: Mutex<State>,
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

impl Buffer {
    pub(super) fn new(capacity: usize, overflow: &Overflow) -> Self {
        let policy = match overflow {
            Overflow::DropNewest => Policy::DropNewest,
            Overflow::Disconnect => Policy::Disconnect,
            // The others are not offered.
            _ => Policy::DropOldest,
        };
        Self {
            capacity,
            policy,
            state: Mutex::new(State::default()),
        }
    }

    pub(super) fn push(&self, message: Message) {
        self.change(|state| {
            if state.end.is_some() {
                return;
            }
            let full = state.stats.waiting >= self.capacity as u64;
            match self.policy {
                Policy::DropNewest if full => return state.gap(1),
                Policy::Disconnect if full => {
                    let capacity = self.capacity;
                    state.end = Some(Closed::Overflow { capacity });
                    return state.gap(1);
                }
                Policy::DropOldest if full => state.lose_oldest(),
                _ => {}
            }
            state.items.push_back(Item::Message(message));
            state.stats.waiting += 1;
            state.stats.accepted += 1;
        });
    }

    /// Notes that so many are missing behind what is there; 0: nobody knows how many.
    pub(super) fn gap(&self, lost: u64) {
        self.change(|state| {
            if state.end.is_none() {
                state.gap(lost);
            }
        });
    }

    /// Ends it behind what is there. The first end counts.
    pub(super) fn end(&self, closed: Closed) {
        self.change(|state| {
            state.end.get_or_insert(closed);
        });
    }

    fn change(&self, work: impl FnOnce(&mut State)) {
        let reader = self.state.with(|state| {
            work(state);
            state.reader.take()
        });
        // Outside the lock: a waker may run anything.
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn try_next(&self) -> Result<Option<Delivery>, Closed> {
        self.state.with(State::take)
    }

    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<Delivery, Closed>> {
        self.state.with(|state| match state.take() {
            Ok(Some(delivery)) => Poll::Ready(Ok(delivery)),
            Err(closed) => Poll::Ready(Err(closed)),
            Ok(None) => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }

    pub(super) fn stats(&self) -> Stats {
        self.state.with(|state| state.stats)
    }
}

impl State {
    fn gap(&mut self, lost: u64) {
        self.stats.lost += lost;
        match self.items.back_mut() {
            Some(Item::Gap(before)) => *before += lost,
            _ => self.items.push_back(Item::Gap(lost)),
        }
    }

    /// Makes a gap of the oldest message: the first item, or the one behind a gap.
    fn lose_oldest(&mut self) {
        let mut lost = 1;
        let mut gone = false;
        while let Some(item) = self.items.pop_front() {
            match item {
                Item::Gap(before) => lost += before,
                Item::Message(_) if !gone => gone = true,
                message @ Item::Message(_) => {
                    self.items.push_front(message);
                    break;
                }
            }
        }
        self.items.push_front(Item::Gap(lost));
        self.stats.waiting -= 1;
        self.stats.lost += 1;
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
    use super::*;

    fn push(buffer: &Buffer, text: &str) {
        let message = Message::new("a".parse().unwrap(), text.to_owned().into());
        buffer.push(message);
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
            (Overflow::DropOldest, vec!["lost 2", "2", "3"]),
            (Overflow::DropNewest, vec!["0", "1", "lost 2"]),
            (
                Overflow::Disconnect,
                vec![
                    "0",
                    "1",
                    "lost 1",
                    "disconnected: more than 2 messages were waiting",
                ],
            ),
        ];
        for (overflow, expected) in cases {
            let buffer = Buffer::new(2, &overflow);
            for number in 0..4 {
                push(&buffer, &number.to_string());
            }
            assert_eq!(read(&buffer), expected, "{overflow:?}");
        }
    }

    #[test]
    fn gaps_stand_where_they_happened_and_side_by_side_are_one() {
        let buffer = Buffer::new(2, &Overflow::DropOldest);
        push(&buffer, "0");
        buffer.gap(3);
        buffer.gap(0);
        push(&buffer, "1");
        buffer.gap(0);
        push(&buffer, "2");
        let stats = buffer.stats();
        assert_eq!((stats.accepted, stats.lost, stats.waiting), (3, 4, 2));
        assert_eq!(read(&buffer), ["lost 4", "1", "lost 0", "2"]);
        assert_eq!(buffer.stats().taken, 2);
    }

    #[test]
    fn the_end_comes_behind_what_is_there_and_stays() {
        let buffer = Buffer::new(2, &Overflow::DropOldest);
        push(&buffer, "0");
        buffer.end(Closed::Hub);
        buffer.end(Closed::Overflow { capacity: 2 });
        push(&buffer, "1");
        buffer.gap(1);
        assert_eq!(read(&buffer), ["0", "the hub is closed"]);
        assert!(buffer.try_next().is_err());
    }
}
