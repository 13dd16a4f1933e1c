//! The pure model of a hub: lists, and nothing clever.

use crate::subject::{Filter, Subject};
use std::collections::VecDeque;

/// The policies that random runs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Publishers that never wait: what has no room is lost.
    Await,
    DropOldest,
    DropNewest,
    Disconnect,
    Conflate,
}

/// A subscription or a group.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub(super) filter: Filter,
    pub(super) group: Option<u8>,
    pub(super) capacity: usize,
    pub(super) policy: Policy,
    pub(super) members: usize,
    /// Numbers of lost messages, and messages with their subjects, in their order.
    items: VecDeque<Item>,
    closed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Message(u64, Subject),
    Lost(u64),
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Message(u64),
    Lagged(u64),
    Nothing,
    Closed,
}

impl Buffer {
    pub(super) fn new(filter: Filter, group: Option<u8>, capacity: usize, policy: Policy) -> Self {
        Self {
            filter,
            group,
            capacity,
            policy,
            members: 1,
            items: VecDeque::new(),
            closed: false,
        }
    }

    /// Returns whether the message got in.
    pub(super) fn publish(&mut self, number: u64, subject: &Subject) -> bool {
        if self.closed || !self.filter.matches(subject) {
            return false;
        }
        let item = Item::Message(number, subject.clone());
        if self.policy == Policy::Conflate {
            let same = |item: &&mut Item| matches!(item, Item::Message(_, own) if own == subject);
            if let Some(older) = self.items.iter_mut().find(same) {
                *older = item;
                return true;
            }
        }
        let is_message = |item: &&Item| matches!(item, Item::Message(..));
        if self.items.iter().filter(is_message).count() < self.capacity {
            self.items.push_back(item);
            return true;
        }
        match self.policy {
            Policy::DropOldest | Policy::Conflate => {
                self.lose_oldest();
                self.items.push_back(item);
                true
            }
            Policy::Await | Policy::DropNewest => {
                self.items.push_back(Item::Lost(1));
                self.join_losses();
                false
            }
            Policy::Disconnect => {
                self.items.push_back(Item::Lost(1));
                self.closed = true;
                false
            }
        }
    }

    fn lose_oldest(&mut self) {
        let oldest = self
            .items
            .iter()
            .position(|item| matches!(item, Item::Message(..)));
        if let Some(item) = oldest.and_then(|at| self.items.get_mut(at)) {
            *item = Item::Lost(1);
        }
        self.join_losses();
    }

    /// Losses side by side are told as one.
    fn join_losses(&mut self) {
        let mut joined: VecDeque<Item> = VecDeque::new();
        for item in self.items.drain(..) {
            match (joined.back_mut(), item) {
                (Some(Item::Lost(count)), Item::Lost(more)) => *count += more,
                (_, item) => joined.push_back(item),
            }
        }
        self.items = joined;
    }

    pub(super) fn receive(&mut self) -> Answer {
        match self.items.pop_front() {
            Some(Item::Message(number, _)) => Answer::Message(number),
            Some(Item::Lost(count)) => Answer::Lagged(count),
            None if self.closed => Answer::Closed,
            None => Answer::Nothing,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}
