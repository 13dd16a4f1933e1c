//! Orders drawn from a seed.

use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Entropy, SplitMix64};

use super::config::Config;
use super::domain::{CARD_LIMIT_CENTS, Item, Order};

/// How many SKUs there are.
const SKUS: usize = 200;
/// Every so many-th SKU is rare, so that it runs out.
const RARE_EVERY: usize = 50;
/// How many customers there are.
const CUSTOMERS: u64 = 5_000;
/// One order in so many is above the card limit.
const DECLINED_IN: u64 = 40;
/// Length of the cycle of bursts.
const CYCLE: f64 = 2.0;
/// The share of each cycle that is a burst.
const BURST_SHARE: f64 = 0.1;
/// How many times the average rate a burst has.
const BURST_RATE: f64 = 2.0;

/// An order and when it is meant to be sent.
#[derive(Clone, Debug)]
pub struct Planned {
    /// After the start of the run.
    pub at: Duration,
    /// What is ordered.
    pub order: Order,
}

/// Draws orders: SKUs by Zipf's law, arrivals as a Poisson process with bursts.
#[derive(Debug)]
pub struct Generator {
    entropy: SplitMix64,
    seed: u64,
    rate: f64,
    at: f64,
    next: u64,
    orders: u64,
    /// Cumulated weights of the SKUs.
    weights: Vec<f64>,
    /// Of the SKUs.
    names: Vec<String>,
    /// Orders given, of which only the times are drawn.
    given: Option<Arc<[Order]>>,
}

impl Generator {
    /// Starts the sequence of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut sum = 0.0;
        let weights = (1..=SKUS)
            .map(|rank| {
                sum += 1.0 / f64::from(u32::try_from(rank).unwrap_or(u32::MAX));
                sum
            })
            .collect();
        Self {
            entropy: SplitMix64::stream(config.seed, "orders"),
            seed: config.seed,
            rate: config.rate,
            at: 0.0,
            next: 0,
            orders: config.orders,
            weights,
            names: (0..SKUS).map(name).collect(),
            given: config.input.clone(),
        }
    }

    fn sku(&self) -> (usize, String) {
        let total = self.weights.last().copied().unwrap_or(1.0);
        let drawn = self.entropy.unit_f64() * total;
        let rank = self
            .weights
            .partition_point(|sum| *sum <= drawn)
            .min(SKUS - 1);
        (rank, self.names[rank].clone())
    }

    fn order(&self) -> Order {
        let order_id = format!("o{:x}-{:07}", self.seed, self.next);
        let customer = format!("c-{:04}", self.entropy.below(CUSTOMERS));
        let mut payment_cents = 0;
        let items = (0..1 + self.entropy.below(3))
            .map(|_| {
                let (rank, sku) = self.sku();
                let quantity = 1 + u32::try_from(self.entropy.below(3)).unwrap_or(0);
                let price = 199 + 37 * u64::try_from(rank).unwrap_or(0);
                payment_cents += price * u64::from(quantity);
                Item { sku, quantity }
            })
            .collect();
        if self.entropy.below(DECLINED_IN) == 0 {
            payment_cents += CARD_LIMIT_CENTS;
        }
        Order {
            order_id,
            customer,
            items,
            payment_cents,
        }
    }

    /// Returns the time between two orders at this point of the cycle.
    fn gap(&self) -> f64 {
        let burst = self.at % CYCLE < CYCLE * BURST_SHARE;
        let quiet = (1.0 - BURST_RATE * BURST_SHARE) / (1.0 - BURST_SHARE);
        let rate = self.rate * if burst { BURST_RATE } else { quiet };
        -(1.0 - self.entropy.unit_f64()).ln() / rate
    }
}

/// Names the SKU of a rank.
fn name(rank: usize) -> String {
    if rank % RARE_EVERY == RARE_EVERY - 1 {
        format!("rare-{rank:03}")
    } else {
        format!("sku-{rank:03}")
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Iterator for Generator {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.next == self.orders {
            return None;
        }
        self.at += self.gap();
        let planned = Planned {
            at: Duration::from_secs_f64(self.at),
            order: match self.given.as_ref().map(|given| given.get(index(self.next))) {
                Some(Some(order)) => order.clone(),
                Some(None) => return None,
                None => self.order(),
            },
        };
        self.next += 1;
        Some(planned)
    }
}
