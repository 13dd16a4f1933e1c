//! The store of the shop on PostgreSQL, of which each answer of the server is lost in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dpat_cases::shop::engine::{Engine, Place};
use dpat_cases::shop::service::ports::{Peer, Store, StoreError, Table, Write};
use dpat_cases::shop::shell::{NodeStore, StoreOwner, postgres};
use dpat_core::Wall;
use dpat_idempotency::Key;
use dpat_testkit::live::Live;
use dpat_testkit::proxy::Proxy;
use dpat_testkit::servers::{self, Server};
use libtest_mimic::{Failed, Trial};

const TABLE: Table = Table("things");

pub(crate) fn trials() -> [Trial; 2] {
    let live = Live::of(servers::Engine::Postgres);
    [
        live.faults(
            "whichever_answer_is_lost_a_transaction_is_committed_once",
            whichever_answer_is_lost_a_transaction_is_committed_once,
        ),
        live.faults(
            "a_life_that_is_over_writes_no_more",
            a_life_that_is_over_writes_no_more,
        ),
    ]
}

fn place(url: String) -> Place {
    Place {
        engine: Engine::Postgres,
        url: url.as_str().into(),
        run: "stores".to_owned(),
    }
}

async fn open(url: String) -> Result<(NodeStore, StoreOwner), StoreError> {
    postgres::open(&place(url), Peer::Payment, Arc::default()).await
}

fn close(store: NodeStore, owner: StoreOwner) -> Result<(), StoreError> {
    drop(store);
    owner.join()
}

fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(1).enable_all().build()?)
}

/// Counts one more, with a marker; returns how many there are.
fn count(tx: &mut dyn Write) -> Result<u8, StoreError> {
    let next = tx.get(TABLE, "n")?.map_or(0, |row| row[0]) + 1;
    tx.put(TABLE, "n", &[next])?;
    let id = next.to_string();
    let key = Key::new("stores", &id).map_err(|error| StoreError::Engine(error.to_string()))?;
    let known = tx.marker(&key)?;
    tx.set_marker(&key, Bytes::from(id), Wall::from_nanos(1))?;
    match known {
        None => Ok(next),
        Some(_) => Err(StoreError::Engine(format!("{next} has a marker already"))),
    }
}

/// Loses in each transaction one answer later than in the one before it, until there is none; returns how often each was run.
fn runs_of_each_loss(
    runtime: &tokio::runtime::Runtime,
    store: &NodeStore,
    proxy: &Proxy,
    counts: &mut u8,
) -> Vec<u64> {
    let mut runs_of_each = Vec::new();
    for nth in 1.. {
        let runs = Arc::new(AtomicU64::new(0));
        let ran = Arc::clone(&runs);
        proxy.cut_answer(nth);
        let counted = runtime.block_on(store.transact(move |tx| {
            ran.fetch_add(1, Ordering::Relaxed);
            count(tx)
        }));
        *counts += 1;
        assert_eq!(counted.expect("it is run again"), *counts);
        if proxy.is_answer_left() {
            break;
        }
        runs_of_each.push(runs.load(Ordering::Relaxed));
    }
    runs_of_each
}

fn whichever_answer_is_lost_a_transaction_is_committed_once(server: Server) -> Result<(), Failed> {
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into())?;
    let port = |port: u16| format!(":{port}/");
    let (theirs, ours) = (port(server.port()), port(proxy.address().port()));
    let url = server.url().replace(&theirs, &ours);
    let runtime = runtime()?;
    let (store, owner) = runtime.block_on(open(url))?;
    let mut counts = 0;
    let mut cut = 0;
    // An answer may come in pieces, so that one round may pass over the end of a transaction.
    let found_done = (0..20).any(|_| {
        let lost = runs_of_each_loss(&runtime, &store, &proxy, &mut counts);
        cut += lost.len() as u64;
        // Lost in the middle, a transaction is run again; lost at the end, it is found to be done.
        assert!(lost.contains(&2), "{lost:?}");
        lost.last() == Some(&1)
    });
    assert!(found_done);
    proxy.cut_answer(0);
    assert_eq!(proxy.connections_cut(), cut);
    close(store, owner)?;
    Ok(())
}

fn a_life_that_is_over_writes_no_more(server: Server) -> Result<(), Failed> {
    let runtime = runtime()?;
    let (first, first_owner) = runtime.block_on(open(server.url()))?;
    assert_eq!(runtime.block_on(first.transact(count))?, 1);
    let (second, second_owner) = runtime.block_on(open(server.url()))?;
    let refused = runtime.block_on(first.transact(count));
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    assert_eq!(runtime.block_on(second.transact(count))?, 2);
    close(first, first_owner)?;
    close(second, second_owner)?;
    Ok(())
}
