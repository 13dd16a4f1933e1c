//! Which orders are told in full, and how.

use std::collections::BTreeSet;

use dpat_model::Script;
use serde::{Deserialize, Serialize};

use super::chaos::{self, Do};
use super::check::{History, Stores};
use super::domain::{CARD_LIMIT_CENTS, Order, OrderRecord, Reason, State};
use super::journal::Call;
use super::record::{Span, Story};

/// Most orders that are watched.
const WATCHED_MAX: usize = 96;
/// How many orders of each promising sort are watched.
const EACH: usize = 12;

/// The orders of which every call is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// All of them.
    pub all: bool,
    /// These.
    pub ids: BTreeSet<String>,
}

impl Watched {
    /// Says whether an order is among them.
    #[must_use]
    pub fn has(&self, order_id: &str) -> bool {
        self.all || self.ids.contains(order_id)
    }
}

/// Picks the orders of which every call is written down: one of each fate should be among them.
#[must_use]
pub fn watch(script: &Script, orders: impl Iterator<Item = Order>, all: bool) -> Watched {
    let mut watched: BTreeSet<String> = chaos::orders(script).map(str::to_owned).collect();
    let mut plain = Vec::new();
    let mut declined = Vec::new();
    // Rare goods run out late.
    let mut rare = std::collections::VecDeque::new();
    for order in orders {
        if order.payment_cents > CARD_LIMIT_CENTS {
            if declined.len() < EACH {
                declined.push(order.order_id);
            }
        } else if order.items.iter().any(|item| item.sku.starts_with("rare-")) {
            if rare.len() == EACH {
                rare.pop_front();
            }
            rare.push_back(order.order_id);
        } else if plain.len() < EACH {
            plain.push(order.order_id);
        }
    }
    watched.extend(plain);
    watched.extend(declined);
    watched.extend(rare);
    while watched.len() > WATCHED_MAX {
        watched.pop_last();
    }
    Watched { all, ids: watched }
}

fn ms(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64() * 1_000.0
}

/// Tells one order of each fate.
#[must_use]
pub fn tell(script: &Script, watched: &Watched, stores: &Stores, history: &History) -> Vec<Story> {
    let calls_of = |order_id: &str| -> Vec<&Call> {
        let about = |call: &&Call| call.order_id == order_id;
        let mut calls: Vec<&Call> = history.calls.iter().filter(about).collect();
        calls.sort_by_key(|call| call.start_us);
        calls
    };
    let failed = |order_id: &str| calls_of(order_id).iter().any(|call| call.failed);
    let targeted = |kind: Do, order_id: &str| chaos::means(script, kind, order_id);
    type Fits<'f> = Box<dyn Fn(&str, &OrderRecord) -> bool + 'f>;
    let kinds: Vec<(&str, Fits<'_>)> = vec![
        (
            "completed at the first try",
            Box::new(|id, record| record.state == State::Completed && !failed(id)),
        ),
        (
            "completed although a request was lost",
            Box::new(|id, record| record.state == State::Completed && targeted(Do::Error, id)),
        ),
        (
            "completed once although an answer was lost after the charge",
            Box::new(|id, record| record.state == State::Completed && targeted(Do::Drop, id)),
        ),
        (
            "completed by a service that died before it could tell anybody",
            Box::new(|id, record| record.state == State::Completed && targeted(Do::Kill, id)),
        ),
        (
            "undone because the card was declined",
            Box::new(|_, record| record.reason == Some(Reason::CardDeclined)),
        ),
        (
            "undone because goods ran out",
            Box::new(|_, record| record.reason == Some(Reason::OutOfStock)),
        ),
        (
            "undone because a service could not be reached",
            Box::new(|_, record| record.reason == Some(Reason::Unavailable)),
        ),
    ];
    let mut stories = Vec::new();
    for (note, fits) in kinds {
        let found = watched.ids.iter().find_map(|order_id| {
            let record = stores.orders.get(order_id)?;
            fits(order_id, record).then_some((order_id, record))
        });
        let Some((order_id, record)) = found else {
            continue;
        };
        stories.push(Story {
            fate: record.state,
            note: note.to_owned(),
            order_id: order_id.clone(),
            states: record
                .history
                .iter()
                .map(|change| (change.state, ms(change.at_us)))
                .collect(),
            spans: calls_of(order_id).into_iter().map(span).collect(),
        });
    }
    stories
}

fn span(call: &Call) -> Span {
    Span {
        from: call.from,
        to: call.to,
        step: call.step,
        attempt: call.attempt,
        start_ms: ms(call.start_us),
        end_ms: ms(call.end_us),
        outcome: call.outcome.clone(),
    }
}
