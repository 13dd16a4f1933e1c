//! Tells whoever listens what becomes of orders: at most once, in memory, after it is durable.
//!
//! A listener that is slow loses the oldest and is told how many; nobody waits for it. What must be done for an order
//! goes through the outbox and the queue instead.

use std::sync::Arc;

use bytes::Bytes;
use dpat_core::Instant;
use dpat_pubsub::{Delivery, Overflow, PubSub, Publisher, SubscribeError, Subscription};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::domain::{OrderRecord, State};
use super::workflow::micros;
use crate::sync::Mutex;

/// What every subject begins with.
const PREFIX: &str = "orders.";
/// How many notices of each state are kept for those who come later.
pub const RECENT: usize = 4;
/// How many notices wait for a slow listener.
const CAPACITY: usize = 256;
/// How many may listen at once.
pub const LISTENERS_MAX: usize = 64;

fn subject(state: State) -> String {
    format!("{PREFIX}{}", state.name())
}

/// An order has come to a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Which order.
    pub order_id: String,
    /// The state.
    pub state: State,
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
}

/// A notice on its way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its subject: `orders.STATE`.
    pub subject: String,
    /// The notice in JSON.
    pub payload: Bytes,
}

/// The subjects `orders.STATE`.
#[derive(Clone, Debug)]
pub struct Notices {
    hub: PubSub,
    /// One for each state, in the order of [`State::ALL`].
    publishers: Arc<[Mutex<Publisher>]>,
    /// Where notices go that come back from a server.
    out: Option<mpsc::Sender<Told>>,
}

impl Default for Notices {
    fn default() -> Self {
        let builder = PubSub::builder().name("orders").retain("orders.*", RECENT);
        // One place is for the look at what is recent.
        let hub = builder.subscriptions_max(LISTENERS_MAX + 1).build();
        let hub = hub.unwrap_or_default();
        let publishers = State::ALL.map(|state| hub.publisher(subject(state)).map(Mutex::new));
        Self {
            publishers: publishers.into_iter().flatten().collect(),
            hub,
            out: None,
        }
    }
}

impl Notices {
    /// Makes notices that are told to a server, and heard when they [come back](Self::hear).
    #[must_use]
    pub fn through(out: mpsc::Sender<Told>) -> Self {
        Self {
            out: Some(out),
            ..Self::default()
        }
    }

    /// Lets listeners hear what has come from a server.
    pub fn hear(&self, subject: &str, payload: Bytes) {
        let state = subject.strip_prefix(PREFIX).and_then(State::named);
        if let Some(state) = state {
            self.publish(state, payload);
        }
    }

    fn publish(&self, state: State, payload: Bytes) {
        let publisher = State::ALL.iter().position(|known| *known == state);
        if let Some(publisher) = publisher.and_then(|place| self.publishers.get(place)) {
            // At most once: what cannot be heard is not.
            let _heard = publisher.lock().publish_now(payload);
        }
    }

    /// Tells that an order has come to its present state.
    pub fn tell(&self, record: &OrderRecord, now: Instant) {
        let notice = Notice {
            order_id: record.order.order_id.clone(),
            state: record.state,
            at_us: micros(now),
        };
        let payload = serde_json::to_vec(&notice).map(Bytes::from);
        match (payload, &self.out) {
            // At most once: what is too large to tell, or finds no place, is not told.
            (Ok(payload), None) => self.publish(notice.state, payload),
            (Ok(payload), Some(out)) => {
                let subject = subject(notice.state);
                drop(out.try_send(Told { subject, payload }));
            }
            (Err(_), _) => {}
        }
    }

    /// Listens to one state, or to all, beginning with what is recent.
    ///
    /// # Errors
    /// [`SubscribeError`] if too many listen.
    pub fn listen(&self, state: Option<State>) -> Result<Subscription, SubscribeError> {
        let filter = match state {
            Some(state) => subject(state),
            None => format!("{PREFIX}*"),
        };
        let subscribe = self.hub.subscribe(filter.as_str()).capacity(CAPACITY);
        subscribe
            .overflow(Overflow::DropOldest)
            .replay(RECENT)
            .now()
    }

    /// Returns the newest notices, the newest last.
    #[must_use]
    pub fn recent(&self) -> Vec<Notice> {
        let mut recent = Vec::new();
        if let Ok(mut subscription) = self.listen(None) {
            while let Ok(Some(delivery)) = subscription.try_recv() {
                let notice = delivery
                    .message()
                    .and_then(|message| serde_json::from_slice(message.payload()).ok());
                recent.extend(notice);
            }
        }
        recent.sort_by_key(|notice: &Notice| notice.at_us);
        recent.split_off(recent.len().saturating_sub(RECENT))
    }
}

/// Renders what a listener hears as a server-sent event (WHATWG HTML, § 9.2).
#[must_use]
pub fn as_event(delivery: &Delivery) -> Bytes {
    let (name, data) = match delivery {
        Delivery::Message(message) => {
            let subject = message.subject().as_str();
            let name = subject.rsplit('.').next().unwrap_or(subject);
            let data = String::from_utf8_lossy(message.payload()).into_owned();
            (name, data)
        }
        Delivery::Lagged(missed) => ("lagged", format!("{{\"missed\":{missed}}}")),
    };
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::domain::Order;

    fn record(n: u64, state: State) -> OrderRecord {
        let text = format!(
            r#"{{"order_id":"o {n}","customer":"c","items":[{{"sku":"s","quantity":1}}],"payment_cents":1}}"#
        );
        let order: Order = serde_json::from_str(&text).unwrap();
        OrderRecord {
            fingerprint: order.fingerprint(),
            order,
            state,
            reason: None,
            charge_tried: false,
            history: Vec::new(),
        }
    }

    fn told(subscription: &mut Subscription) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(delivery) = subscription.try_recv().unwrap() {
            events.push(String::from_utf8(as_event(&delivery).to_vec()).unwrap());
        }
        events
    }

    #[test]
    fn listeners_hear_the_states_that_they_want() {
        let notices = Notices::default();
        notices.tell(&record(0, State::Completed), Instant::from_nanos(1_000));
        let mut all = notices.listen(None).unwrap();
        let mut compensated = notices.listen(Some(State::Compensated)).unwrap();
        notices.tell(&record(1, State::Compensated), Instant::from_nanos(2_000));
        let one = "event: compensated\ndata: {\"order_id\":\"o 1\",\"state\":\"compensated\",\"at_us\":2}\n\n";
        assert_eq!(told(&mut compensated), [one]);
        let zero = "event: completed\ndata: {\"order_id\":\"o 0\",\"state\":\"completed\",\"at_us\":1}\n\n";
        assert_eq!(told(&mut all), [zero, one]);
    }

    #[test]
    fn what_is_recent_is_kept_and_who_is_slow_is_told() {
        let notices = Notices::default();
        let mut slow = notices.listen(None).unwrap();
        for n in 0..300 {
            notices.tell(&record(n, State::Accepted), Instant::from_nanos(n * 1_000));
        }
        let recent: Vec<u64> = notices.recent().iter().map(|notice| notice.at_us).collect();
        assert_eq!(recent, [296, 297, 298, 299]);
        let events = told(&mut slow);
        assert_eq!(events[0], "event: lagged\ndata: {\"missed\":44}\n\n");
        assert_eq!(events.len(), 1 + CAPACITY);
    }

    #[test]
    fn listeners_are_bounded() {
        let notices = Notices::default();
        let listening: Vec<_> = (0..=LISTENERS_MAX)
            .map(|_| notices.listen(None).unwrap())
            .collect();
        assert!(notices.listen(None).is_err());
        assert!(notices.recent().is_empty());
        drop(listening);
        notices.listen(None).unwrap();
    }
}
