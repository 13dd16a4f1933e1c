//! What is encoded.

use bytes::Bytes;
use dpat_codec::Flat;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A value of the cases.
pub(super) trait Message: Serialize + DeserializeOwned + Flat + Clone + 'static {}
impl<T: Serialize + DeserializeOwned + Flat + Clone + 'static> Message for T {}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Vote {
    term: u64,
    from: u32,
    kind: Kind,
}

#[derive(Clone, Serialize, Deserialize)]
enum Kind {
    Pre,
    Vote { granted: bool },
}

impl Flat for Vote {}
impl Flat for Order {}
impl Flat for Numbers {}
impl Flat for Payload {}

impl Vote {
    pub(super) fn sample() -> Self {
        let _ = Kind::Pre;
        Self {
            term: 1_234_567,
            from: 3,
            kind: Kind::Vote { granted: true },
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    sku: String,
    quantity: u32,
    price_cents: u64,
    note: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Order {
    order_id: String,
    customer: String,
    placed_at_ns: u64,
    coupon: Option<String>,
    address: Option<String>,
    total: f64,
    items: Vec<Item>,
}

impl Order {
    pub(super) fn sample() -> Self {
        let item = |n: u32| Item {
            sku: format!("sku-{n:06}"),
            quantity: 1 + n % 5,
            price_cents: 1_000 + u64::from(n) * 37,
            note: (n % 4 == 0).then(|| "gift wrap, please".to_owned()),
        };
        Self {
            order_id: "018cc251-f400-7abc-8def-0123456789ab".to_owned(),
            customer: "customer-42".to_owned(),
            placed_at_ns: 1_704_067_200_000_000_000,
            coupon: None,
            address: Some("1 Example Street, Sample Town".to_owned()),
            total: 1234.5,
            items: (0..20).map(item).collect(),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Numbers(Vec<u64>);

pub(super) fn numbers() -> Numbers {
    Numbers((0..1000).map(|n| n * n).collect())
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Payload {
    key: u64,
    payload: Bytes,
}

impl Payload {
    pub(super) fn sample() -> Self {
        Self {
            key: 7,
            payload: Bytes::from(vec![0xa5; 64 << 10]),
        }
    }
}
