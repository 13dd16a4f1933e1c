//! Values of many shapes.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
    pub(crate) price_cents: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marker;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cents(pub(crate) u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Payment {
    None,
    Card(String),
    Split(u64, u64),
    Transfer { iban: String, cents: Cents },
}

/// Every kind of serde's data model that the three forms have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) wide: (i128, u128),
    pub(crate) small: (i8, i16, i32, u8, u16),
    pub(crate) ratio: (f32, f64),
    pub(crate) letter: char,
    pub(crate) paid: bool,
    pub(crate) customer: String,
    pub(crate) note: Option<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) payment: Payment,
    pub(crate) marker: Marker,
    pub(crate) unit: (),
    pub(crate) tags: BTreeMap<String, Option<Cents>>,
    pub(crate) payload: bytes::Bytes,
}

impl Order {
    pub(crate) fn sample() -> Self {
        Self {
            id: 300,
            wide: (-1, u128::from(u64::MAX) + 1),
            small: (-1, 300, -70_000, 255, 65_535),
            ratio: (0.5, -1.25),
            letter: 'ä',
            paid: true,
            customer: "Ada".to_owned(),
            note: Some("door 2".to_owned()),
            items: vec![Item {
                sku: "cup".to_owned(),
                quantity: 2,
                price_cents: -5,
            }],
            payment: Payment::Transfer {
                iban: "DE1".to_owned(),
                cents: Cents(1),
            },
            marker: Marker,
            unit: (),
            tags: BTreeMap::from([("a".to_owned(), None), ("b".to_owned(), Some(Cents(9)))]),
            payload: bytes::Bytes::from_static(&[1, 2, 250]),
        }
    }
}

/// Recursive in every way that serde has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Null,
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Pair(Box<Value>, Box<Value>),
    Field { inner: Option<Box<Value>> },
    Units(Vec<()>),
    Hashed(HashMap<u16, Vec<u8>>),
}

pub(crate) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Number),
        ".{0,8}".prop_map(Value::Text),
        (0_usize..8).prop_map(|len| Value::Units(vec![(); len])),
        prop::collection::hash_map(any::<u16>(), prop::collection::vec(any::<u8>(), 0..4), 0..4)
            .prop_map(Value::Hashed),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(".{0,3}", inner.clone(), 0..4).prop_map(Value::Map),
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| Value::Pair(Box::new(left), Box::new(right))),
            prop::option::of(inner).prop_map(|inner| Value::Field {
                inner: inner.map(Box::new)
            }),
        ]
    })
}

/// Nests by newtype variants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Variants {
    Leaf,
    Node(Box<Variants>),
}

/// Nests by tuple variants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Tuples {
    Leaf,
    Node(Box<Tuples>, ()),
}

/// Nests by struct variants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Structs {
    Leaf,
    Node { next: Box<Structs> },
}

/// Nests by options in newtype structs, which JSON does not see at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain(pub(crate) Option<Box<Chain>>);

/// Nests by lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lists(pub(crate) Vec<Lists>);

/// Nests by maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Maps(pub(crate) BTreeMap<u8, Maps>);

/// A type with as many levels as asked for.
pub(crate) trait Nested: Sized {
    /// Levels that each step adds.
    const LEVELS: u32;
    fn leaf() -> Self;
    fn around(self) -> Self;

    fn with_steps(steps: u32) -> Self {
        (0..steps).fold(Self::leaf(), |inner, _| inner.around())
    }
}

macro_rules! nested {
    ($type:ty, $levels:literal, $leaf:expr, $inner:ident => $around:expr) => {
        impl Nested for $type {
            const LEVELS: u32 = $levels;
            fn leaf() -> Self {
                $leaf
            }
            fn around(self) -> Self {
                let $inner = self;
                $around
            }
        }
    };
}

nested!(Variants, 1, Self::Leaf, inner => Self::Node(Box::new(inner)));
nested!(Tuples, 2, Self::Leaf, inner => Self::Node(Box::new(inner), ()));
nested!(Structs, 2, Self::Leaf, inner => Self::Node { next: Box::new(inner) });
nested!(Chain, 2, Self(None), inner => Self(Some(Box::new(inner))));
nested!(Lists, 2, Self(Vec::new()), inner => Self(vec![inner]));
nested!(Maps, 2, Self(BTreeMap::new()), inner => Self(BTreeMap::from([(7, inner)])));
