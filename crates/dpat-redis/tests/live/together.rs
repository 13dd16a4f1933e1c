//! Changes that are made at one time, in one script.

use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, TokioTime, Wall};
use dpat_idempotency::{Change, Inserted, Key, Store, StoreError, Swap};
use dpat_queue::{Backend, Message, Outcome, SettleError, Settlement};
use dpat_redis::{Config, QueueSettings, QueueStore, ResponseLimits, ResponseStore};
use dpat_testkit::live::Live;
use dpat_testkit::proxy::Proxy;
use dpat_testkit::servers::Server;
use futures_util::future::join_all;
use libtest_mimic::{Failed, Trial};

use crate::faults::scripts;
use crate::kit::{self, Admin, run};

/// How many ask at one time.
const CALLS: usize = 64;
const ZERO: Duration = Duration::ZERO;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.faults(
            "changes_of_rows_at_one_time_go_together",
            changes_of_rows_at_one_time_go_together,
        ),
        live.trial(
            "of_changes_that_go_together_each_has_its_own_answer",
            of_changes_that_go_together_each_has_its_own_answer,
        ),
        live.faults(
            "changes_whose_answer_is_cut_are_unknown_and_those_behind_them_not_done",
            changes_whose_answer_is_cut_are_unknown_and_those_behind_them_not_done,
        ),
        live.trial(
            "of_two_settlements_of_one_delivery_in_a_batch_the_second_is_stale",
            of_two_settlements_of_one_delivery_in_a_batch_the_second_is_stale,
        ),
    ]
}

fn key(id: &str) -> Key {
    Key::new("s", id).unwrap()
}

fn record(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn open(config: &Config, limits: ResponseLimits) -> Result<ResponseStore, Failed> {
    Ok(run(ResponseStore::open(config, limits))?)
}

/// Inserts all at one time.
fn inserted(store: &ResponseStore, keys: &[Key]) -> Vec<Result<Inserted, StoreError>> {
    let tasks: Vec<_> = keys
        .iter()
        .map(|key| {
            let (store, key) = (store.clone(), key.clone());
            kit::spawn(async move { store.insert(&key, record("r"), Some(Wall::MAX)).await })
        })
        .collect();
    run(async {
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap());
        }
        all
    })
}

fn changes_of_rows_at_one_time_go_together(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    let store = open(&kit::config(&server.url()), ResponseLimits::DEFAULT)?;
    // The server has the script from now on.
    run(store.insert(&key("first"), record("r"), None))?;
    let before = scripts(&admin);
    let keys: Vec<Key> = (0..CALLS).map(|number| key(&number.to_string())).collect();
    // Polled by one task, so that all have asked before the first answer is read.
    let calls = keys.iter().map(|key| store.insert(key, record("r"), None));
    for call in run(join_all(calls)) {
        assert!(matches!(call?, Inserted::New(Some(_))));
    }
    // The first two go at once, the rest behind them.
    assert_eq!(scripts(&admin) - before, 3);
    assert_eq!(run(store.scan(None, 99))?.len(), CALLS + 1);
    Ok(())
}

fn of_changes_that_go_together_each_has_its_own_answer(url: &str) -> Result<(), Failed> {
    let name = kit::name();
    let config = Config::new(url, name.as_str())?;
    let limits = ResponseLimits {
        rows: 10,
        ..ResponseLimits::DEFAULT
    };
    let store = open(&config, limits)?;
    // One row that cannot be read, and one key that several want.
    run(store.insert(&key("broken"), record("r"), None))?;
    let rows = format!("dpat:{{{name}}}:responses:rows");
    let broken = key("broken");
    let field = std::str::from_utf8(broken.as_bytes())?;
    Admin::new(url).run(&["HSET", &rows, field, "no row"]);
    let mut keys = vec![broken.clone()];
    keys.extend((0..9).map(|_| key("wanted")));
    keys.extend((0..20).map(|number| key(&number.to_string())));
    let (mut new, mut found, mut full, mut corrupt) = (0, 0, 0, 0);
    for insert in inserted(&store, &keys) {
        match insert {
            Ok(Inserted::New(version)) => new += usize::from(version.is_some()),
            Ok(Inserted::Found(row)) => {
                assert_eq!(row.unwrap().bytes, "r");
                found += 1;
            }
            Err(error) if error.class() == Class::Corrupt => corrupt += 1,
            Err(error) => {
                let expected = (Class::Overloaded, Effect::NotDone);
                assert_eq!((error.class(), error.effect()), expected, "{error}");
                full += 1;
            }
        }
    }
    assert_eq!(corrupt, 1);
    // Nine rows beside the broken one. Who finds the key of others wants no room.
    assert_eq!(new, 9);
    assert_eq!(found + full, keys.len() - 10);
    // What was counted on the way is what is there.
    let (meta, index) = (
        format!("dpat:{{{name}}}:responses:meta"),
        rows.replace("rows", "index"),
    );
    let admin = Admin::new(url);
    let count = |command: &[&str]| redis::from_redis_value::<u64>(admin.run(command));
    assert_eq!(count(&["HLEN", &rows])?, 10);
    assert_eq!(count(&["ZCARD", &index])?, 10);
    admin.run(&["HDEL", &rows, field]);
    assert_eq!(run(store.purge(Wall::MAX, 99))?, 9);
    let left: u64 = redis::from_redis_value(admin.run(&["HGET", &meta, "bytes"]))?;
    // That of the row that was broken by hand, as it was written.
    assert!(left > 0 && left < 100, "{left}");
    Ok(())
}

fn changes_whose_answer_is_cut_are_unknown_and_those_behind_them_not_done(
    server: Server,
) -> Result<(), Failed> {
    let address = format!("127.0.0.1:{}", server.port()).parse()?;
    let proxy = Proxy::start(address)?;
    let name = kit::name();
    let through = Config::new(&format!("redis://{}/", proxy.address()), name.as_str())?;
    let cut = open(&through, ResponseLimits::DEFAULT)?;
    let direct = open(&Config::new(&server.url(), name)?, ResponseLimits::DEFAULT)?;
    run(direct.insert(&key("first"), record("r"), None))?;
    run(cut.swap(&key("first"), None, Change::Remove))?;
    proxy.cut_answers(true);
    let keys: Vec<Key> = (0..CALLS).map(|number| key(&number.to_string())).collect();
    let inserted = inserted(&cut, &keys);
    let (mut unknown, mut not_done) = (0, 0);
    for (key, insert) in keys.iter().zip(inserted) {
        let error = insert.unwrap_err();
        match error.effect() {
            Effect::Unknown => unknown += 1,
            Effect::NotDone => {
                not_done += 1;
                assert_eq!(run(direct.load(key))?, None, "{error}");
            }
        }
    }
    assert!(unknown > 0, "{not_done} not done");
    assert_eq!(unknown + not_done, CALLS);
    proxy.cut_answers(false);
    let again = run(cut.swap(&key("after"), None, put("r")))?;
    assert_eq!(again, Swap::Done);
    Ok(())
}

fn put(text: &str) -> Change {
    Change::Put {
        bytes: record(text),
        expires: None,
    }
}

fn of_two_settlements_of_one_delivery_in_a_batch_the_second_is_stale(
    url: &str,
) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        let store = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
        let queue = store.queue();
        for message in [
            Message::new("done"),
            Message::new("retried"),
            Message::new("rejected"),
            Message::new("keyed").key("k"),
            Message::new("behind it").key("k"),
            Message::new("ends").ttl(Duration::from_secs(600)),
        ] {
            queue.send(message).await?;
        }
        let received = queue.receive_batch(9, ZERO).await?;
        assert_eq!(received.len(), 5, "one of a key");
        let settlements = received.iter().map(|one| {
            let outcome = match &one.payload()[..] {
                b"retried" => Outcome::Retry {
                    delay: Duration::from_secs(600),
                    reason: String::new(),
                },
                b"rejected" => Outcome::Reject {
                    reason: "bad".to_owned(),
                },
                _ => Outcome::Done,
            };
            Settlement {
                receipt: one.receipt,
                outcome,
            }
        });
        let mut batch: Vec<Settlement> = settlements.collect();
        batch.extend(batch.clone());
        let settled = store.settle(batch).await;
        let (first, second) = settled.split_at(received.len());
        assert!(first.iter().all(Result::is_ok), "{first:?}");
        let is_stale = |one: &Result<(), SettleError>| matches!(one, Err(SettleError::Stale));
        assert!(second.iter().all(is_stale), "{second:?}");
        let stats = queue.stats().await?;
        assert_eq!((stats.ready, stats.waiting, stats.leased), (1, 1, 0));
        assert_eq!((stats.done, stats.retried, stats.rejected), (3, 1, 1));
        assert_eq!(stats.dead, 1);
        let next = queue.receive_batch(9, ZERO).await?;
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].payload(), "behind it");
        Ok(())
    })
}
