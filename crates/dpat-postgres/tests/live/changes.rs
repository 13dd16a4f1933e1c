//! Changes of rows of a response store that are made at one time, in one statement.

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, Wall};
use dpat_idempotency::{Change, Inserted, Key, Store, StoreError, Swap, Version};
use dpat_postgres::{Config, ResponseLimits, ResponseStore};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use futures_util::future::{join, join_all};
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// How many ask at one time.
const CALLS: usize = 64;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.trial(
            "changes_of_rows_at_one_time_go_in_few_transactions",
            changes_of_rows_at_one_time_go_in_few_transactions,
        ),
        live.trial(
            "of_changes_that_go_together_each_has_its_own_answer",
            of_changes_that_go_together_each_has_its_own_answer,
        ),
        live.trial(
            "stores_that_change_the_same_rows_at_once_let_each_other_through",
            stores_that_change_the_same_rows_at_once_let_each_other_through,
        ),
        live.faults(
            "changes_at_one_time_whose_answer_is_cut_are_unknown_or_not_done",
            changes_at_one_time_whose_answer_is_cut_are_unknown_or_not_done,
        ),
    ]
}

fn key(id: impl ToString) -> Key {
    Key::new("s", &id.to_string()).unwrap()
}

fn keys() -> Vec<Key> {
    (0..CALLS).map(key).collect()
}

fn record(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(text: &str) -> Change {
    Change::Put {
        bytes: record(text),
        expires: Some(Wall::MAX),
    }
}

async fn open(config: &Config) -> Result<ResponseStore, Failed> {
    Ok(ResponseStore::open(config, ResponseLimits::DEFAULT).await?)
}

/// All at one time.
async fn insert(
    store: &ResponseStore,
    keys: impl IntoIterator<Item = &Key>,
) -> Vec<Result<Inserted, StoreError>> {
    let calls = keys
        .into_iter()
        .map(|key| store.insert(key, record("r"), None));
    join_all(calls).await
}

async fn versions(store: &ResponseStore, keys: &[Key]) -> Result<Vec<Version>, Failed> {
    let mut versions = Vec::new();
    for key in keys {
        versions.push(store.load(key).await?.ok_or("a row")?.version);
    }
    Ok(versions)
}

/// How many transactions have written the rows that are there.
async fn transactions(url: &str, config: &Config) -> Result<i64, Failed> {
    let text = config.sql("SELECT count(DISTINCT xmin::text) FROM {prefix}_records");
    let row = kit::client(url).await.query_one(&text, &[]).await?;
    Ok(row.get(0))
}

fn changes_of_rows_at_one_time_go_in_few_transactions(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        let store = open(&config).await?;
        let keys = keys();
        // All are asked for before the first is answered.
        for inserted in insert(&store, &keys).await {
            assert!(matches!(inserted?, Inserted::New(Some(_))));
        }
        let wrote = transactions(url, &config).await?;
        assert!(wrote <= 4, "{wrote} transactions for {CALLS} inserts");
        let versions = versions(&store, &keys).await?;
        let updates = keys.iter().zip(&versions);
        let updates = updates.map(|(key, version)| store.swap(key, Some(*version), put("new")));
        for swapped in join_all(updates).await {
            assert_eq!(swapped?, Swap::Done);
        }
        let wrote = transactions(url, &config).await?;
        assert!(wrote <= 4, "{wrote} transactions for {CALLS} updates");
        let rows = store.scan(None, CALLS + 1).await?;
        assert_eq!(rows.len(), CALLS);
        assert!(rows.iter().all(|(_, row)| row.bytes == "new"));
        assert_eq!(store.purge(Wall::MAX, CALLS + 1).await?, CALLS);
        Ok(())
    })
}

fn of_changes_that_go_together_each_has_its_own_answer(url: &str) -> Result<(), Failed> {
    let limits = ResponseLimits {
        rows: 10,
        ..ResponseLimits::DEFAULT
    };
    run(async {
        let store = ResponseStore::open(&kit::config(url), limits).await?;
        let mut asked = vec![key("alone")];
        asked.extend((0..9).map(|_| key("wanted")));
        asked.extend((0..20).map(key));
        let (mut new, mut found) = (Vec::new(), 0);
        for (key, inserted) in asked.iter().zip(insert(&store, &asked).await) {
            match inserted {
                Ok(Inserted::New(version)) => new.push((key, version.ok_or("a version")?)),
                Ok(Inserted::Found(row)) => {
                    assert_eq!(row.ok_or("a row")?.bytes, "r");
                    found += 1;
                }
                Err(error) => {
                    let expected = (Class::Overloaded, Effect::NotDone);
                    assert_eq!((error.class(), error.effect()), expected, "{error}");
                }
            }
        }
        assert_eq!(
            (new.len(), found),
            (10, 8),
            "as if one came after the other"
        );
        // Each twice, and each with a version that is none.
        let wrong = Version(u64::from(u32::MAX));
        let swaps = new.iter().flat_map(|(key, version)| {
            [wrong, *version, *version].map(|over| store.swap(key, Some(over), put("new")))
        });
        let swapped: Result<Vec<Swap>, _> = join_all(swaps).await.into_iter().collect();
        for swapped in swapped?.chunks(3) {
            assert_eq!(swapped, [Swap::Conflict, Swap::Done, Swap::Conflict]);
        }
        let there = versions(&store, &[key("alone"), key("wanted")]).await?;
        assert!(
            there
                .iter()
                .all(|version| new.iter().all(|(_, old)| version != old))
        );
        Ok(())
    })
}

fn stores_that_change_the_same_rows_at_once_let_each_other_through(
    url: &str,
) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        let (one, other) = (open(&config).await?, open(&config).await?);
        let keys = keys();
        for round in 0..20 {
            // In opposite orders: who locked rows as they come would wait for who waits for it.
            let both = join(insert(&one, &keys), insert(&other, keys.iter().rev())).await;
            let all: Result<Vec<Inserted>, _> = both.0.into_iter().chain(both.1).collect();
            let is_new = |one: &&Inserted| matches!(one, Inserted::New(_));
            assert_eq!(all?.iter().filter(is_new).count(), CALLS, "round {round}");
            let versions = versions(&one, &keys).await?;
            let all: Vec<_> = keys.iter().zip(&versions).collect();
            let swap = |store: &ResponseStore, (key, over): &(&Key, &Version)| {
                let (store, key, over) = (store.clone(), (*key).clone(), **over);
                async move { store.swap(&key, Some(over), put("new")).await }
            };
            let first = join_all(all.iter().map(|row| swap(&one, row)));
            let second = join_all(all.iter().rev().map(|row| swap(&other, row)));
            let both = join(first, second).await;
            let all: Result<Vec<Swap>, _> = both.0.into_iter().chain(both.1).collect();
            let done = all?.iter().filter(|one| **one == Swap::Done).count();
            assert_eq!(done, CALLS, "round {round}");
            assert_eq!(one.purge(Wall::MAX, CALLS + 1).await?, CALLS);
        }
        Ok(())
    })
}

fn changes_at_one_time_whose_answer_is_cut_are_unknown_or_not_done(
    server: Server,
) -> Result<(), Failed> {
    let (proxy, through) = kit::behind(&server.url())?;
    let name = kit::name();
    run(async {
        let sees = open(&Config::new(&server.url(), name.as_str())?).await?;
        let cut = open(&Config::new(&through, name)?).await?;
        assert!(matches!(
            cut.insert(&key("first"), record("r"), None).await?,
            Inserted::New(Some(_))
        ));
        proxy.cut_answers(true);
        let keys = keys();
        let mut unknown = 0;
        for (key, inserted) in keys.iter().zip(insert(&cut, &keys).await) {
            let error = inserted.unwrap_err();
            match error.effect() {
                Effect::Unknown => unknown += 1,
                Effect::NotDone => assert_eq!(sees.load(key).await?, None, "{error}"),
            }
        }
        assert!(unknown > 0);
        proxy.cut_answers(false);
        let swapped = cut.swap(&key("after"), None, put("r")).await?;
        assert_eq!(swapped, Swap::Done);
        Ok(())
    })
}
