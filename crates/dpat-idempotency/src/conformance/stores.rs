//! The laws of a store.

use bytes::Bytes;
use dpat_core::Wall;

use super::random::{self, SEEDS};
use super::{Harness, Violation, ensure_eq, key, together};
use crate::error::StoreError;
use crate::key::Key;
use crate::store::{Change, Inserted, Row, Store, Swap, Version};

fn put(text: &'static str) -> Change {
    Change::Put {
        bytes: Bytes::from_static(text.as_bytes()),
        expires: None,
    }
}

fn put_until(text: &'static str, expires: u64) -> Change {
    Change::Put {
        bytes: Bytes::from_static(text.as_bytes()),
        expires: Some(Wall::from_nanos(expires)),
    }
}

/// Loads a row that must be there.
async fn version(store: &impl Store, key: &Key) -> Result<Version, Violation> {
    match store.load(key).await? {
        Some(row) => Ok(row.version),
        None => Err(Violation::new(format!("the row {key} is not there"))),
    }
}

async fn text(store: &impl Store, key: &Key) -> Result<Option<Bytes>, StoreError> {
    Ok(store.load(key).await?.map(|row| row.bytes))
}

/// A row is put only where there is none, and read as it was put.
///
/// # Errors
/// [`Violation`].
pub fn a_row_is_put_where_there_is_none<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let key = key("a");
        ensure_eq!(store.load(&key).await?, None, "load of an absent row");
        ensure_eq!(
            store.swap(&key, None, put("one")).await?,
            Swap::Done,
            "the first put"
        );
        ensure_eq!(text(&store, &key).await?, Some("one".into()), "load");
        ensure_eq!(
            store.swap(&key, None, put("two")).await?,
            Swap::Conflict,
            "a second put"
        );
        ensure_eq!(
            text(&store, &key).await?,
            Some("one".into()),
            "load after a conflict"
        );
        Ok(())
    })
}

/// A row changes only from the version that was read, which it then never has again.
///
/// # Errors
/// [`Violation`].
pub fn a_version_is_swapped_once<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let key = key("a");
        ensure_eq!(
            store.swap(&key, Some(Version(1)), put("no")).await?,
            Swap::Conflict,
            "no row"
        );
        store.swap(&key, None, put("one")).await?;
        let first = version(&store, &key).await?;
        ensure_eq!(
            store.swap(&key, Some(first), put("two")).await?,
            Swap::Done,
            "swap"
        );
        ensure_eq!(
            store.swap(&key, Some(first), put("no")).await?,
            Swap::Conflict,
            "again"
        );
        ensure_eq!(text(&store, &key).await?, Some("two".into()), "load");
        // Also to what it is already.
        let second = version(&store, &key).await?;
        ensure_eq!(
            store.swap(&key, Some(second), put("two")).await?,
            Swap::Done,
            "same content"
        );
        ensure_eq!(
            version(&store, &key).await? == second,
            false,
            "the version of a swap"
        );
        Ok(())
    })
}

/// A row is removed only from the version that was read.
///
/// # Errors
/// [`Violation`].
pub fn a_removed_row_is_gone<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let key = key("a");
        ensure_eq!(
            store.swap(&key, None, Change::Remove).await?,
            Swap::Done,
            "removal of none"
        );
        store.swap(&key, None, put("one")).await?;
        let first = version(&store, &key).await?;
        store.swap(&key, Some(first), put("two")).await?;
        let stale = store.swap(&key, Some(first), Change::Remove).await?;
        ensure_eq!(stale, Swap::Conflict, "removal of an old version");
        ensure_eq!(
            store.swap(&key, None, Change::Remove).await?,
            Swap::Conflict,
            "of none"
        );
        let second = version(&store, &key).await?;
        let removed = store.swap(&key, Some(second), Change::Remove).await?;
        ensure_eq!(removed, Swap::Done, "removal");
        ensure_eq!(store.load(&key).await?, None, "load after removal");
        ensure_eq!(store.scan(None, 9).await?, vec![], "scan after removal");
        Ok(())
    })
}

/// A row that was removed and put again is not mistaken for what it was.
///
/// # Errors
/// [`Violation`].
pub fn versions_never_come_back<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    let mut seen = Vec::new();
    let store = harness.run(async {
        let key = key("a");
        for _ in 0..3 {
            store.swap(&key, None, put("same")).await?;
            let now = version(&store, &key).await?;
            ensure_eq!(
                seen.contains(&now),
                false,
                format!("the version {now:?} comes back")
            );
            for old in &seen {
                let stale = store.swap(&key, Some(*old), put("no")).await?;
                ensure_eq!(stale, Swap::Conflict, "swap of an earlier row's version");
            }
            seen.push(now);
            store.swap(&key, Some(now), Change::Remove).await?;
        }
        Ok::<_, Violation>(store)
    })?;
    let store = harness.reopen(store);
    harness.run(async {
        store.swap(&key("a"), None, put("same")).await?;
        let now = version(&store, &key("a")).await?;
        ensure_eq!(
            seen.contains(&now),
            false,
            "the version comes back after reopening"
        );
        Ok(())
    })
}

/// Keys whose texts read alike are different rows.
///
/// # Errors
/// [`Violation`].
pub fn rows_are_kept_apart<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let parts = [
            ("", "a/b"),
            ("a", "b"),
            ("a/", "b"),
            ("a", "B"),
            ("a", "b "),
            ("a", "ä"),
            ("a", "a\u{308}"),
        ];
        for (scope, id) in parts {
            let key = Key::new(scope, id)?;
            let swapped = store.swap(&key, None, put("x")).await?;
            ensure_eq!(swapped, Swap::Done, format!("put of {scope:?} {id:?}"));
        }
        ensure_eq!(store.scan(None, 99).await?.len(), parts.len(), "rows");
        Ok(())
    })
}

/// A scan returns every row once, in the order of the keys' bytes.
///
/// # Errors
/// [`Violation`].
pub fn scans_go_in_order_and_pages<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let mut keys: Vec<Key> = ["b", "a", "aa", "z", "ab", "c", "\u{80}"].map(key).into();
        for key in &keys {
            store.swap(key, None, put("x")).await?;
        }
        keys.sort();
        for page in [1, 2, 3, 7, 100] {
            let mut found: Vec<Key> = Vec::new();
            loop {
                let rows = store.scan(found.last(), page).await?;
                ensure_eq!(rows.len() <= page, true, format!("a page of {page}"));
                if rows.is_empty() {
                    break;
                }
                for (key, row) in rows {
                    ensure_eq!(store.load(&key).await?, Some(row), "a row of a scan");
                    found.push(key);
                }
                ensure_eq!(
                    found.len() <= keys.len(),
                    true,
                    "a scan that comes to its end"
                );
            }
            ensure_eq!(found, keys, format!("scan in pages of {page}"));
        }
        Ok(())
    })
}

/// Rows are forgotten from their time on, not earlier, and not those that have none.
///
/// # Errors
/// [`Violation`].
pub fn purging_takes_what_may_be_forgotten<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let at = Wall::from_nanos;
        for (id, expires) in [("a", 10), ("b", 20), ("c", 30), ("d", 30), ("e", 20)] {
            store.swap(&key(id), None, put_until("x", expires)).await?;
        }
        store.swap(&key("f"), None, put("kept")).await?;
        // Put again: the newer time counts, or none.
        let row = version(&store, &key("b")).await?;
        store.swap(&key("b"), Some(row), put_until("x", 50)).await?;
        let row = version(&store, &key("e")).await?;
        store.swap(&key("e"), Some(row), put("kept")).await?;
        ensure_eq!(store.purge(at(9), 99).await?, 0, "too early");
        ensure_eq!(store.purge(at(10), 99).await?, 1, "at its time");
        ensure_eq!(store.load(&key("a")).await?, None, "load after purge");
        ensure_eq!(store.purge(at(29), 99).await?, 0, "put again");
        ensure_eq!(store.purge(at(49), 1).await?, 1, "at most one");
        ensure_eq!(store.purge(at(49), 99).await?, 1, "the rest");
        ensure_eq!(store.purge(Wall::MAX, 99).await?, 1, "the latest");
        let left: Vec<Key> = store
            .scan(None, 9)
            .await?
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        ensure_eq!(left, [key("e"), key("f")], "rows that may not be forgotten");
        Ok(())
    })
}

/// A row of a megabyte comes back whole, or the largest where rows are smaller.
///
/// # Errors
/// [`Violation`].
pub fn large_rows_come_back_whole<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let mut bytes: Bytes = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
        bytes.truncate(harness.row_bytes_max());
        let change = Change::Put {
            bytes: bytes.clone(),
            expires: None,
        };
        store.swap(&key("a"), None, change).await?;
        ensure_eq!(
            text(&store, &key("a")).await? == Some(bytes),
            true,
            "the large row is whole"
        );
        Ok(())
    })
}

/// Rows, versions and times survive a restart.
///
/// # Errors
/// [`Violation`].
pub fn rows_survive_reopening<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    let before: Vec<(Key, Row)> = harness.run(async {
        store.swap(&key("a"), None, put_until("one", 10)).await?;
        store.swap(&key("b"), None, put("two")).await?;
        store.scan(None, 9).await
    })?;
    let store = harness.reopen(store);
    harness.run(async {
        ensure_eq!(store.scan(None, 9).await?, before, "rows after reopening");
        ensure_eq!(
            store.purge(Wall::from_nanos(10), 9).await?,
            1,
            "times after reopening"
        );
        Ok(())
    })
}

/// An insert puts a row where there is none, with its time, and returns the one that is there.
///
/// # Errors
/// [`Violation`].
pub fn an_insert_tells_what_is_there<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let key = key("a");
        let until = Some(Wall::from_nanos(10));
        for round in ["the first", "the one after a removal"] {
            let inserted = store.insert(&key, "one".into(), until).await?;
            let Some(row) = store.load(&key).await? else {
                return Err(Violation::new(format!("the row of {round} is not there")));
            };
            ensure_eq!(row.bytes, Bytes::from("one"), format!("load of {round}"));
            match inserted {
                Inserted::New(None) => {}
                Inserted::New(Some(version)) => {
                    ensure_eq!(version, row.version, format!("the version of {round}"));
                }
                Inserted::Found(found) => {
                    let text = format!("{round} found {found:?}");
                    return Err(Violation::new(text));
                }
            }
            let again = store.insert(&key, "two".into(), None).await?;
            let found = Inserted::Found(Some(row.clone()));
            ensure_eq!(again, found, format!("an insert behind {round}"));
            let after = store.load(&key).await?;
            ensure_eq!(after, Some(row.clone()), "load behind both");
            let removed = store.swap(&key, Some(row.version), Change::Remove).await?;
            ensure_eq!(removed, Swap::Done, "removal of what was inserted");
        }
        store.insert(&key, "one".into(), until).await?;
        ensure_eq!(store.purge(Wall::from_nanos(10), 9).await?, 1, "purged");
        Ok(())
    })
}

/// Of inserts that race, one wins, and the others find it.
///
/// # Errors
/// [`Violation`].
pub fn one_of_many_inserts_wins_and_is_found<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        for round in 0..4 {
            let key = key(&round.to_string());
            let texts = || (0..8).map(|number| Bytes::from(format!("by {number}")));
            let inserts = texts().map(|text| store.insert(&key, text, None)).collect();
            let mut winners = Vec::new();
            let mut found = Vec::new();
            for (text, inserted) in texts().zip(together(inserts).await) {
                match inserted? {
                    Inserted::New(_) => winners.push(text),
                    Inserted::Found(Some(row)) => found.push(row.bytes),
                    // It was not there yet when it was looked at.
                    Inserted::Found(None) => {}
                }
            }
            ensure_eq!(winners.len(), 1, format!("winners of round {round}"));
            for bytes in found {
                ensure_eq!(bytes, winners[0], format!("what others found in {round}"));
            }
        }
        Ok(())
    })
}

/// Of swaps that race from one version, one wins.
///
/// # Errors
/// [`Violation`].
pub fn one_of_many_swaps_wins<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    harness.run(async {
        let key = key("a");
        for round in 0..8 {
            let expected = store.load(&key).await?.map(|row| row.version);
            let swaps = (0..8)
                .map(|_| store.swap(&key, expected, put("x")))
                .collect();
            let mut won = 0;
            for swapped in together(swaps).await {
                won += u32::from(swapped? == Swap::Done);
            }
            ensure_eq!(won, 1, format!("winners of round {round}"));
        }
        Ok(())
    })
}

/// Random operations have the results that a map has.
///
/// # Errors
/// [`Violation`], with the fewest operations that show it.
pub fn random_swaps_match_the_model<H: Harness>(harness: &H) -> Result<(), Violation> {
    (0..SEEDS).try_for_each(|seed| random::check(harness, seed))
}
