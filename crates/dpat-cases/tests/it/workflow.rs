//! The flow of one order: through, back, and on after a crash at any call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dpat_cases::shop::domain::{OrderRecord, Reason, State};
use dpat_cases::shop::service::order::{OrderConfig, OrderService};
use dpat_cases::shop::service::ports::{
    CallError, Peer, Reply, Request, Service, Step, Store, Transport, decode,
};
use dpat_cases::shop::workflow::{FlowConfig, ORDERS};
use dpat_core::{Backoff, Class, Deadline};
use dpat_outbox::{Limits, RelayConfig};
use tokio::sync::Notify;

use crate::world::{World, now, with_limits, with_world};

const ORDER: &str =
    r#"{"order_id":"o1","customer":"c","items":[{"sku":"s","quantity":1}],"payment_cents":5}"#;

/// Answers by a rule, and counts; one call may be swallowed.
#[derive(Clone)]
struct Scripted {
    rule: fn(Step, u32) -> Result<Reply, CallError>,
    calls: Arc<AtomicU32>,
    swallow: Option<u32>,
    swallowed: Arc<Notify>,
    by_step: Arc<BTreeMap<Step, AtomicU32>>,
}

impl Scripted {
    fn new(rule: fn(Step, u32) -> Result<Reply, CallError>) -> Self {
        Self {
            rule,
            calls: Arc::default(),
            swallow: None,
            swallowed: Arc::default(),
            by_step: Arc::new(Step::ALL.map(|step| (step, AtomicU32::new(0))).into()),
        }
    }

    fn count(&self, step: Step) -> u32 {
        self.by_step[&step].load(Ordering::Relaxed)
    }
}

impl Transport for Scripted {
    async fn call(&self, _: Peer, request: Request, _: Deadline) -> Result<Reply, CallError> {
        if Some(self.calls.fetch_add(1, Ordering::Relaxed)) == self.swallow {
            self.swallowed.notify_one();
            std::future::pending::<()>().await;
        }
        let earlier = self.by_step[&request.step].fetch_add(1, Ordering::Relaxed);
        (self.rule)(request.step, earlier)
    }
}

fn config() -> OrderConfig {
    let redrive = Backoff::constant(Duration::from_secs(1));
    OrderConfig {
        flow: FlowConfig {
            patience: Duration::from_secs(60),
            call_timeout: Duration::from_secs(2),
            redrive,
            persistent: true,
            outbox: true,
        },
        concurrency: 8,
        backlog_max: 10,
        relay: RelayConfig::builder().backoff(redrive).build().unwrap(),
        delivery_timeout: Duration::from_secs(2),
    }
}

fn record(world: &World<Scripted>) -> OrderRecord {
    let row = now(world.store.read(|tx| tx.get(ORDERS, "o1"))).unwrap();
    decode(ORDERS, &row.unwrap()).unwrap()
}

async fn accept(service: &OrderService<World<Scripted>>) -> Result<Reply, CallError> {
    let request = Request::new(Step::Accept, "o1", Bytes::from_static(ORDER.as_bytes()));
    service.handle(request, Deadline::NEVER).await
}

/// Runs the service until nothing is left to do. Virtual time goes on once the store, which has a thread of its own, has
/// answered whoever waited for it.
async fn finish(service: &OrderService<World<Scripted>>, world: &World<Scripted>) {
    let done = async {
        loop {
            let gauges = service.gauges().await;
            if gauges.open == 0 && gauges.outbox == 0 {
                return;
            }
            // The longest chain of commits of an order without a wait.
            for _ in 0..4 {
                world.store.transact(|_| Ok(())).await.unwrap();
                tokio::task::yield_now().await;
            }
            if let Some(next) = world.time.next_wake() {
                world.time.advance_to(next);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = service.run() => panic!("{ended:?}"),
        () = done => {}
    }
}

/// Runs one order to its end.
fn run(rule: fn(Step, u32) -> Result<Reply, CallError>, check: fn(&World<Scripted>, &OrderRecord)) {
    with_world(Scripted::new(rule), async |world| {
        let service = OrderService::new(world.clone(), config());
        assert_eq!(accept(&service).await, Ok(Reply::Accepted));
        finish(&service, &world).await;
        check(&world, &record(&world));
    });
}

fn away() -> CallError {
    CallError::unknown(Class::Unavailable, "away")
}

#[test]
fn an_order_goes_through() {
    run(
        |_, _| Ok(Reply::Done),
        |world, record| {
            assert_eq!(record.state, State::Completed);
            let states: Vec<State> = record.history.iter().map(|change| change.state).collect();
            assert_eq!(states, [State::Accepted, State::Reserved, State::Completed]);
            assert_eq!(world.transport.count(Step::Ship), 1);
            assert_eq!(world.transport.count(Step::Void), 0);
        },
    );
}

#[test]
fn a_declined_card_gives_the_goods_back() {
    run(
        |step, _| match step {
            Step::Charge => Ok(Reply::Refused(Reason::CardDeclined)),
            _ => Ok(Reply::Done),
        },
        |world, record| {
            assert_eq!(record.state, State::Compensated);
            assert_eq!(record.reason, Some(Reason::CardDeclined));
            assert_eq!(world.transport.count(Step::Release), 1);
            assert_eq!(world.transport.count(Step::Ship), 0);
        },
    );
}

#[test]
fn a_service_that_comes_back_within_the_patience_stops_nothing() {
    run(
        |step, earlier| match step {
            Step::Charge if earlier < 20 => Err(away()),
            _ => Ok(Reply::Done),
        },
        |world, record| {
            assert_eq!(record.state, State::Completed);
            assert_eq!(world.transport.count(Step::Charge), 21);
        },
    );
}

#[test]
fn patience_ends_and_undoing_does_not() {
    run(
        |step, earlier| match step {
            Step::Charge => Err(away()),
            Step::Void if earlier < 200 => Err(away()),
            _ => Ok(Reply::Done),
        },
        |world, record| {
            assert_eq!(record.state, State::Compensated);
            assert_eq!(record.reason, Some(Reason::Unavailable));
            // Longer than the patience, and yet it goes on.
            assert_eq!(world.transport.count(Step::Void), 201);
            assert_eq!(world.transport.count(Step::Release), 1);
        },
    );
}

#[test]
fn an_event_is_sent_until_it_arrives() {
    run(
        |step, earlier| match step {
            Step::Ship if earlier < 100 => Err(away()),
            _ => Ok(Reply::Done),
        },
        |world, record| {
            assert_eq!(record.state, State::Completed);
            assert_eq!(world.transport.count(Step::Ship), 101);
        },
    );
}

#[test]
fn a_crash_at_any_call_is_taken_up_by_the_next_start() {
    for declined in [false, true] {
        // Reserve, charge, ship; or reserve, charge, void, release.
        for crash_at in 0..4 {
            let rule: fn(Step, u32) -> Result<Reply, CallError> = if declined {
                |step, _| match step {
                    Step::Charge => Ok(Reply::Refused(Reason::CardDeclined)),
                    _ => Ok(Reply::Done),
                }
            } else {
                |_, _| Ok(Reply::Done)
            };
            let calls = if declined { 4 } else { 3 };
            if crash_at >= calls {
                continue;
            }
            let mut transport = Scripted::new(rule);
            transport.swallow = Some(crash_at);
            with_world(transport, async |world| {
                let first = OrderService::new(world.clone(), config());
                assert_eq!(accept(&first).await, Ok(Reply::Accepted));
                tokio::select! {
                    ended = first.run() => panic!("{ended:?}"),
                    () = world.transport.swallowed.notified() => {}
                }
                drop(first);

                let second = OrderService::new(world.clone(), config());
                second.resume().await.unwrap();
                finish(&second, &world).await;
                let record = record(&world);
                let terminal = record
                    .history
                    .iter()
                    .filter(|change| change.state.is_terminal());
                assert_eq!(terminal.count(), 1, "crash at call {crash_at}");
                let expected = if declined {
                    State::Compensated
                } else {
                    State::Completed
                };
                assert_eq!(record.state, expected, "crash at call {crash_at}");
                assert_eq!(world.transport.count(Step::Ship), u32::from(!declined));
                // The same order again gets the same answer, and nothing happens.
                assert_eq!(accept(&second).await, Ok(Reply::Accepted));
                assert_eq!(second.gauges().await.open, 0);
            });
        }
    }
}

#[test]
fn the_same_id_with_another_body_is_a_conflict() {
    with_world(Scripted::new(|_, _| Ok(Reply::Done)), async |world| {
        let service = OrderService::new(world.clone(), config());
        assert_eq!(accept(&service).await, Ok(Reply::Accepted));
        let other = Bytes::from(ORDER.replace(":5}", ":6}"));
        let request = Request::new(Step::Accept, "o1", other);
        let answer = service.handle(request, Deadline::NEVER).await;
        assert_eq!(answer, Ok(Reply::Conflict));
    });
}

#[test]
fn a_full_backlog_turns_orders_away_before_they_are_stored() {
    with_world(Scripted::new(|_, _| Ok(Reply::Done)), async |world| {
        let config = OrderConfig {
            backlog_max: 0,
            ..config()
        };
        let service = OrderService::new(world.clone(), config);
        let error = accept(&service).await.unwrap_err();
        assert_eq!(error.class, Class::Overloaded);
        assert!(error.retry_after.is_some());
        let row = world.store.read(|tx| tx.get(ORDERS, "o1")).await;
        assert_eq!(row, Ok(None));
    });
}

#[test]
fn a_full_outbox_keeps_orders_open_until_the_relay_has_made_room() {
    let limits = Limits {
        backlog_rows: 1,
        ..Limits::DEFAULT
    };
    let transport = Scripted::new(|step, earlier| match step {
        Step::Ship if earlier < 5 => Err(away()),
        _ => Ok(Reply::Done),
    });
    with_limits(limits, transport, async |world| {
        let service = OrderService::new(world.clone(), config());
        for id in ["o1", "o2", "o3"] {
            let order = Bytes::from(ORDER.replace("o1", id));
            let request = Request::new(Step::Accept, id, order);
            let answer = service.handle(request, Deadline::NEVER).await;
            assert_eq!(answer, Ok(Reply::Accepted));
        }
        finish(&service, &world).await;
        assert_eq!(service.gauges().await.completed, 3);
        assert_eq!(world.transport.count(Step::Ship), 5 + 3);
    });
}
