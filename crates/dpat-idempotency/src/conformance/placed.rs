//! Stores that are opened again, and stores that are full.

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};

use super::{Harness, Violation, ensure_eq, key};
use crate::error::StoreError;
use crate::key::Key;
use crate::store::{Change, Inserted, Row, Store, Swap, Version};

/// A store with what it takes to open it again: a file, an address, a name.
///
/// What a [`Harness`] has as its store where the store does not know that by itself.
#[derive(Clone, Debug)]
pub struct Placed<S, P> {
    /// The store; every call goes to it.
    pub store: S,
    /// Where it is.
    pub place: P,
}

#[async_trait]
impl<S: Store, P: Send + Sync> Store for Placed<S, P> {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.store.load(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        self.store.swap(key, expected, change).await
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        self.store.insert(key, bytes, expires).await
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        self.store.scan(after, max).await
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        self.store.purge(now, max).await
    }
}

/// A store that is full refuses new keys and nothing else, says which limit it is, and takes new keys again once there is room.
///
/// For stores with limits of rows and bytes. `open` makes an empty one with these limits; `bytes` is room for one row of four
/// bytes under a key of five (`laws`, `a`), and not for two.
///
/// # Errors
/// How the store breaks it.
pub fn a_full_store_refuses_new_keys<H: Harness, S: Store>(
    harness: &H,
    bytes: u64,
    open: impl Fn(u64, u64) -> S,
) -> Result<(), Violation> {
    let full_of_rows = open(1, 1_000);
    refuses_while_full(
        harness,
        &full_of_rows,
        "rows: the limit of 1 is reached".to_owned(),
    )?;
    let full_of_bytes = open(9, bytes);
    let told = format!("bytes: the limit of {bytes} is reached");
    refuses_while_full(harness, &full_of_bytes, told)
}

fn refuses_while_full<H: Harness>(
    harness: &H,
    store: &impl Store,
    told: String,
) -> Result<(), Violation> {
    let put = |text: &'static str| Change::Put {
        bytes: Bytes::from_static(text.as_bytes()),
        expires: None,
    };
    let swap = |id: &str, expected, change| {
        let key = key(id);
        harness.run(async { store.swap(&key, expected, change).await })
    };
    let version = || {
        let row = harness.run(store.load(&key("a")))?;
        row.map(|row| row.version)
            .ok_or_else(|| Violation::new("what was put is gone"))
    };
    ensure_eq!(swap("a", None, put("1234"))?, Swap::Done, "a first row");
    let Err(refused) = swap("b", None, put("1234")) else {
        return Err(Violation::new(format!("a second row, where {told}")));
    };
    ensure_eq!(refused.to_string(), told, "what it says");
    ensure_eq!(
        (refused.class(), refused.effect()),
        (Class::Overloaded, Effect::NotDone),
        "class and effect"
    );
    let of_same_size = swap("a", Some(version()?), put("4321"))?;
    ensure_eq!(of_same_size, Swap::Done, "a change of what is there");
    let removed = swap("a", Some(version()?), Change::Remove)?;
    ensure_eq!(removed, Swap::Done, "a removal");
    let put_again = swap("b", None, put("1234"))?;
    ensure_eq!(put_again, Swap::Done, "a row in the room of another");
    Ok(())
}
