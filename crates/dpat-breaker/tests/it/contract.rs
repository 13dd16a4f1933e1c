//! Tower's rules for middleware, and what the layer adds to them.

#![cfg(feature = "tower")]

use crate::{admit, fragile, manual};
use dpat_breaker::{Breaker, BreakerLayer, BreakerService, CallError, State};
use dpat_core::ManualTime;
use dpat_testkit::tower::{Contract, Outcome, Probe};
use dpat_testkit::{Task, assert_clone, assert_send_sync};
use tower_layer::Layer;
use tower_service::Service;

#[test]
fn the_layer_keeps_the_tower_contract() {
    Contract::new(|| BreakerLayer::new(Breaker::default()), || "down").check();
}

#[test]
fn services_are_send_sync_and_clone() {
    assert_send_sync::<BreakerService<Probe<&str>>>();
    assert_clone::<BreakerService<Probe<&str>>>();
    assert_send_sync::<BreakerLayer>();
}

fn ready(service: &mut BreakerService<Probe<&'static str>, ManualTime>) {
    let ready = std::future::poll_fn(|cx| service.poll_ready(cx));
    assert!(Task::new(ready).assert_ready().is_ok());
}

fn call(
    service: &mut BreakerService<Probe<&'static str>, ManualTime>,
) -> Result<u64, CallError<&'static str>> {
    Task::new(service.call(1)).assert_ready()
}

#[test]
fn an_open_breaker_answers_without_the_inner_service() {
    let (breaker, _) = manual(fragile());
    let probe = Probe::new(8, || "down");
    let mut service = BreakerLayer::new(breaker.clone()).layer(probe.clone());
    probe.script([Outcome::Fail]);
    ready(&mut service);
    assert_eq!(call(&mut service), Err(CallError::Inner("down")));
    assert_eq!(breaker.state(), State::Open);
    ready(&mut service);
    assert!(matches!(call(&mut service), Err(CallError::Rejected(_))));
    assert_eq!(probe.calls(), 1);
    // Clones and further services of the layer share the breaker.
    let mut clone = service.clone();
    ready(&mut clone);
    assert!(matches!(call(&mut clone), Err(CallError::Rejected(_))));
    breaker.reset();
    drop(admit(&breaker));
    ready(&mut service);
    assert_eq!(call(&mut service), Ok(1));
}

#[test]
fn the_layer_classifies_responses() {
    let (breaker, _) = manual(fragile());
    let probe = Probe::new(8, || "down");
    let layer = BreakerLayer::new(breaker.clone())
        .failure_if(|result: &Result<u64, &str>| matches!(result, Ok(1)));
    let mut service = layer.layer(probe);
    let ready = Task::new(std::future::poll_fn(|cx| service.poll_ready(cx))).assert_ready();
    assert!(ready.is_ok());
    assert_eq!(Task::new(service.call(1)).assert_ready(), Ok(1));
    assert_eq!(breaker.state(), State::Open);
}
