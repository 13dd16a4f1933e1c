//! Futures dropped at every await, and calls that panic.

use crate::{SECOND, fragile, manual, until_probes};
use dpat_breaker::{Breaker, CallError, State};
use dpat_core::{ManualTime, Sleep};
use dpat_testkit::drop_at_every_await;

/// A half-open breaker with one permit and the future of a probe that sleeps twice.
fn probe() -> (
    impl Future<Output = Result<(), CallError<()>>>,
    (Breaker<ManualTime>, ManualTime),
) {
    let (breaker, time) = manual(fragile().half_open_permits(1));
    until_probes(&breaker, &time);
    let (caller, sleep) = (breaker.clone(), time.clone());
    let future = async move {
        let work = async {
            sleep.sleep(SECOND).await;
            sleep.sleep(SECOND).await;
            Ok(())
        };
        caller.call(work).await
    };
    (future, (breaker, time))
}

#[test]
fn a_call_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        probe,
        |(_, time)| time.advance(SECOND),
        |(breaker, _), end| {
            let snapshot = breaker.snapshot();
            assert_eq!(snapshot.probes_in_flight, 0, "the permit came back");
            if end.is_dropped() {
                assert!(matches!(snapshot.state, State::Open | State::HalfOpen));
                assert!(breaker.try_acquire().is_ok(), "and once only is enough");
            }
        },
    );
    assert_eq!(awaits, 2);
}

#[test]
fn a_panicking_call_returns_its_permit() {
    let (breaker, time) = manual(fragile().half_open_permits(1));
    until_probes(&breaker, &time);
    let call = std::panic::AssertUnwindSafe(|| {
        breaker.call_sync(|| -> Result<(), ()> { panic!("the call dies") })
    });
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(breaker.snapshot().probes_in_flight, 0);
    assert!(breaker.try_acquire().is_ok());
}

#[cfg(feature = "tower")]
#[test]
fn a_tower_response_may_be_dropped_at_every_await() {
    use dpat_breaker::BreakerLayer;
    use tower_layer::Layer;
    use tower_service::Service;

    #[derive(Clone)]
    struct Sleeper(ManualTime);
    impl Service<()> for Sleeper {
        type Response = ();
        type Error = ();
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<(), ()>>>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), ()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            let time = self.0.clone();
            Box::pin(async move {
                time.sleep(SECOND).await;
                Ok(())
            })
        }
    }

    let awaits = drop_at_every_await(
        || {
            let (breaker, time) = manual(fragile().half_open_permits(1));
            until_probes(&breaker, &time);
            let mut service = BreakerLayer::new(breaker.clone()).layer(Sleeper(time.clone()));
            (service.call(()), (breaker, time))
        },
        |(_, time)| time.advance(SECOND),
        |(breaker, _), _| assert_eq!(breaker.snapshot().probes_in_flight, 0),
    );
    assert_eq!(awaits, 1);
}
