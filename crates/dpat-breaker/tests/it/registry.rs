//! Breakers by key.

use crate::{SECOND, fragile};
use dpat_breaker::{Breakers, State};
use dpat_core::{Class, Classify, Clock, Jitter, ManualTime, SplitMix64};
use dpat_testkit::allocations;

fn registry(capacity: usize) -> (Breakers<String, ManualTime>, ManualTime) {
    let time = ManualTime::new();
    let config = fragile().build().expect("the configuration is valid");
    (Breakers::with_clock(config, capacity, time.clone()), time)
}

#[test]
fn a_key_has_one_breaker() {
    let (breakers, _) = registry(10);
    breakers.get("a").unwrap().try_acquire().unwrap().failure();
    assert_eq!(breakers.get("a").unwrap().state(), State::Open);
    assert_eq!(breakers.get("b").unwrap().state(), State::Closed);
    assert_eq!(breakers.len(), 2);
}

#[test]
fn the_limit_is_never_exceeded_and_the_least_recently_used_idle_one_goes() {
    let (breakers, _) = registry(3);
    for key in ["a", "b", "c"] {
        breakers.get(key).unwrap().try_acquire().unwrap().success();
    }
    // Which of several idle ones goes is decided within a shard; here only one is idle.
    let _held = [breakers.get("a").unwrap(), breakers.get("c").unwrap()];
    for i in 0..100 {
        drop(breakers.get(&format!("new {i}")).unwrap());
        assert_eq!(breakers.len(), 3);
    }
    let mut keys = Vec::new();
    breakers.for_each(|key, _| keys.push(key.clone()));
    keys.sort();
    assert_eq!(keys, ["a", "c", "new 99"]);
}

#[test]
fn open_and_held_breakers_are_never_dropped() {
    let (breakers, time) = registry(2);
    breakers
        .get("open")
        .unwrap()
        .try_acquire()
        .unwrap()
        .failure();
    let held = breakers.get("held").unwrap();
    let full = breakers.get("new").unwrap_err();
    assert_eq!(full.capacity(), 2);
    assert_eq!(full.class(), Class::Overloaded);
    assert_eq!(
        full.to_string(),
        "capacity: all 2 breakers are in use or not closed"
    );
    // Recovered and idle, it may go.
    time.advance(SECOND);
    let open = breakers.get("open").unwrap();
    for _ in 0..2 {
        open.try_acquire().unwrap().success();
    }
    drop(open);
    assert!(breakers.get("new").is_ok());
    drop(held);
    assert_eq!(breakers.len(), 2);
}

#[test]
fn a_known_key_costs_no_allocation() {
    let (breakers, _) = registry(10);
    drop(breakers.get("a").unwrap());
    let (found, count) = allocations(|| breakers.get("a").is_ok());
    assert_eq!((found, count), (true, 0));
}

#[test]
fn each_breaker_draws_its_own_jitter() {
    let backoff = dpat_core::Backoff::constant(10 * SECOND).with_jitter(Jitter::Full);
    let config = fragile()
        .open_time(dpat_breaker::OpenTime::backoff(backoff))
        .entropy(&SplitMix64::new(5))
        .build()
        .unwrap();
    let time = ManualTime::new();
    let breakers: Breakers<u32, _> = Breakers::with_clock(config, 10, time.clone());
    let open_for = |key: &u32| {
        let breaker = breakers.get(key).unwrap();
        breaker.try_acquire().unwrap().failure();
        breaker.snapshot().retry_at.unwrap().since(time.now())
    };
    assert_ne!(open_for(&1), open_for(&2));
}

#[test]
fn threads_share_the_limit() {
    let (breakers, _) = registry(8);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let breakers = &breakers;
            scope.spawn(move || {
                for i in 0..200 {
                    let key = format!("{}", (i * 7 + thread) % 40);
                    if let Ok(breaker) = breakers.get(&key) {
                        breaker.try_acquire().unwrap().success();
                    }
                    assert!(breakers.len() <= 8);
                }
            });
        }
    });
    let mut present = 0;
    breakers.for_each(|_, _| present += 1);
    assert_eq!(present, breakers.len());
}
