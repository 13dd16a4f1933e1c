//! The services over a network in memory: what they promise each other, without sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dpat_cases::shop::domain::{Item, Order, Reason};
use dpat_cases::shop::idempotency::Memory;
use dpat_cases::shop::service::inventory::{Inventory, on_hand};
use dpat_cases::shop::service::payment::{Kind, Payment, movements};
use dpat_cases::shop::service::ports::{
    CallError, Peer, Reply, Request, Service, Step, Store, Transport,
};
use dpat_cases::shop::service::shipping::{QUEUE_BYTES_MAX, SHIPMENTS, Shipping};
use dpat_core::{Class, Deadline};
use futures_util::FutureExt;

use crate::world::{World, now, with_world};

/// Nobody is reachable.
#[derive(Clone)]
struct Alone;

impl Transport for Alone {
    async fn call(&self, _: Peer, _: Request, _: Deadline) -> Result<Reply, CallError> {
        Err(CallError::not_done(Class::Unavailable, "alone"))
    }
}

type TestEnv = World<Alone>;

fn with_env(test: impl AsyncFnOnce(TestEnv)) {
    with_world(Alone, test);
}

async fn ask(service: &impl Service, step: Step, body: &str) -> Reply {
    let request = Request::new(step, "o1", Bytes::copy_from_slice(body.as_bytes()));
    service.handle(request, Deadline::NEVER).await.unwrap()
}

const RESERVE: &str = r#"{"items":[{"sku":"rare-1","quantity":4},{"sku":"rare-1","quantity":3}]}"#;
const CHARGE: &str = r#"{"customer":"c","cents":500}"#;

fn stock(env: &TestEnv) -> u64 {
    now(env.store.read(|tx| on_hand(tx, "rare-1"))).unwrap()
}

fn money(env: &TestEnv) -> Vec<(Kind, u64)> {
    let entries = now(env.store.read(|tx| movements(tx, "o1"))).unwrap();
    entries
        .iter()
        .map(|entry| (entry.kind, entry.cents))
        .collect()
}

#[test]
fn reserving_twice_takes_once_and_releasing_twice_gives_back_once() {
    with_env(async |env| {
        let inventory = Inventory::new(env.clone());
        for _ in 0..2 {
            assert_eq!(ask(&inventory, Step::Reserve, RESERVE).await, Reply::Done);
            assert_eq!(stock(&env), 3);
        }
        for _ in 0..2 {
            assert_eq!(ask(&inventory, Step::Release, "{}").await, Reply::Done);
            assert_eq!(stock(&env), 10);
        }
    });
}

#[test]
fn a_reservation_that_comes_after_its_release_is_refused() {
    with_env(async |env| {
        let inventory = Inventory::new(env.clone());
        assert_eq!(ask(&inventory, Step::Release, "{}").await, Reply::Done);
        let late = ask(&inventory, Step::Reserve, RESERVE).await;
        assert_eq!(late, Reply::Refused(Reason::Cancelled));
        assert_eq!(stock(&env), 10);
    });
}

#[test]
fn lines_with_the_same_sku_are_added_up_before_the_stock_is_looked_at() {
    with_env(async |env| {
        let inventory = Inventory::new(env.clone());
        let body = r#"{"items":[{"sku":"rare-1","quantity":6},{"sku":"rare-1","quantity":6}]}"#;
        let reply = ask(&inventory, Step::Reserve, body).await;
        assert_eq!(reply, Reply::Refused(Reason::OutOfStock));
        assert_eq!(stock(&env), 10);
    });
}

#[test]
fn charging_twice_takes_once_and_voiding_refunds_it() {
    with_env(async |env| {
        let payment = Payment::new(env.clone(), Memory::On);
        for _ in 0..2 {
            assert_eq!(ask(&payment, Step::Charge, CHARGE).await, Reply::Done);
            assert_eq!(money(&env), [(Kind::Charge, 500)]);
        }
        for _ in 0..2 {
            assert_eq!(ask(&payment, Step::Void, "{}").await, Reply::Done);
            assert_eq!(money(&env), [(Kind::Charge, 500), (Kind::Refund, 500)]);
        }
        let late = ask(&payment, Step::Charge, CHARGE).await;
        assert_eq!(late, Reply::Refused(Reason::Cancelled));
    });
}

#[test]
fn without_memory_a_repetition_charges_again_and_a_void_refunds_all() {
    with_env(async |env| {
        let payment = Payment::new(env.clone(), Memory::Off);
        ask(&payment, Step::Charge, CHARGE).await;
        ask(&payment, Step::Charge, CHARGE).await;
        assert_eq!(money(&env).len(), 2);
        ask(&payment, Step::Void, "{}").await;
        let refunds = money(&env)
            .iter()
            .filter(|(kind, _)| *kind == Kind::Refund)
            .count();
        assert_eq!(refunds, 2);
        let late = ask(&payment, Step::Charge, CHARGE).await;
        assert_eq!(late, Reply::Refused(Reason::Cancelled));
    });
}

fn parcels(env: &TestEnv) -> u64 {
    let counted = env.store.read(|tx| {
        let mut parcels = 0;
        tx.scan(SHIPMENTS, "", &mut |_, _| {
            parcels += 1;
            true
        })?;
        Ok(parcels)
    });
    now(counted).unwrap()
}

/// Packs until nothing waits; retries come in virtual time.
async fn pack(env: &TestEnv, shipping: &Shipping<TestEnv>) {
    let done = async {
        while now(shipping.gauges()).queued > 0 {
            env.store.transact(|_| Ok(())).await.unwrap();
            tokio::task::yield_now().await;
            env.time.advance(Duration::from_millis(1));
        }
    };
    tokio::select! {
        ended = shipping.run() => panic!("{ended:?}"),
        () = done => {}
    }
}

const EVENT: &str = r#"{"event_id":"o1.completed","order_id":"o1","items":[]}"#;

#[test]
fn an_event_that_comes_twice_is_shipped_once() {
    with_env(async |env| {
        let shipping = Shipping::new(env.clone(), env.queue.clone(), true).unwrap();
        for _ in 0..2 {
            assert_eq!(ask(&shipping, Step::Ship, EVENT).await, Reply::Done);
        }
        assert_eq!(now(shipping.gauges()).queued, 2);
        pack(&env, &shipping).await;
        assert_eq!(parcels(&env), 1);
        assert_eq!(env.queue.stats().await.unwrap().done, 2);
    });
}

#[test]
fn a_full_queue_makes_senders_wait_until_parcels_are_packed() {
    with_env(async |env| {
        let shipping = Shipping::new(env.clone(), env.queue.clone(), true).unwrap();
        let ship = async |number: u32| {
            let event = EVENT.replace("o1", &format!("o{number}"));
            let request = Request::new(Step::Ship, &format!("o{number}"), Bytes::from(event));
            shipping.handle(request, Deadline::NEVER).await
        };
        let mut taken = 0;
        while let Some(answer) = ship(taken).now_or_never() {
            assert_eq!(answer, Ok(Reply::Done));
            taken += 1;
        }
        let bytes = env.queue.stats().await.unwrap().bytes;
        assert!(bytes <= QUEUE_BYTES_MAX, "{bytes}");
        // One more waits, and goes in as soon as there is room.
        let mut waiting = std::pin::pin!(ship(taken));
        assert!(waiting.as_mut().now_or_never().is_none());
        pack(&env, &shipping).await;
        assert_eq!(waiting.await, Ok(Reply::Done));
        pack(&env, &shipping).await;
        assert_eq!(parcels(&env), u64::from(taken) + 1);
    });
}

#[test]
fn a_charge_of_another_amount_under_the_same_order_is_a_conflict() {
    with_env(async |env| {
        let payment = Payment::new(env.clone(), Memory::On);
        assert_eq!(ask(&payment, Step::Charge, CHARGE).await, Reply::Done);
        let other = CHARGE.replace("500", "600");
        assert_eq!(ask(&payment, Step::Charge, &other).await, Reply::Conflict);
        assert_eq!(ask(&payment, Step::Charge, CHARGE).await, Reply::Done);
        assert_eq!(money(&env), [(Kind::Charge, 500)]);
    });
}

#[test]
fn an_order_is_the_same_only_if_every_field_is() {
    let order = Order {
        order_id: "a".to_owned(),
        customer: "c".to_owned(),
        items: vec![Item {
            sku: "s".to_owned(),
            quantity: 1,
        }],
        payment_cents: 5,
    };
    let mut others = BTreeMap::new();
    let mut other = |name, change: fn(&mut Order)| {
        let mut changed = order.clone();
        change(&mut changed);
        others.insert(name, changed.fingerprint());
    };
    other("customer", |order| order.customer = "d".to_owned());
    other("sku", |order| order.items[0].sku = "t".to_owned());
    other("quantity", |order| order.items[0].quantity = 2);
    other("cents", |order| order.payment_cents = 6);
    other("one more", |order| order.items.push(order.items[0].clone()));
    assert_eq!(order.fingerprint(), order.clone().fingerprint());
    for (name, fingerprint) in others {
        assert_ne!(fingerprint, order.fingerprint(), "{name}");
    }
}
