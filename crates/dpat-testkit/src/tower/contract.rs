//! The laws.

use super::probe::{Outcome, Probe};
use crate::task::{Task, run_with};
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tower_layer::Layer;
use tower_service::Service;

/// How often a fault is repeated before the service must still work.
const ROUNDS: u64 = 16;

/// The laws of tower middleware, checked against one layer.
///
/// `layer` makes a fresh layer for each law; `error` makes the inner service's errors. Configure the layer so that
/// sixteen cancelled or panicking calls and one failed call do not make it refuse the next one (a breaker: a minimum
/// number of calls above that); a layer may retry the failed call.
///
/// Run [`Contract::check`], or the laws one by one.
#[derive(Clone, Copy, Debug)]
pub struct Contract<M, E, D> {
    layer: M,
    error: fn() -> E,
    drive: D,
}

impl<M, L, E> Contract<M, E, fn() -> bool>
where
    M: Fn() -> L,
{
    /// Takes a factory of layers and one of errors.
    pub fn new(layer: M, error: fn() -> E) -> Self {
        Self {
            layer,
            error,
            drive: || false,
        }
    }

    /// Sets what lets time pass when a future waits; see [`run_with`].
    pub fn drive<D: Fn() -> bool>(self, drive: D) -> Contract<M, E, D> {
        Contract {
            layer: self.layer,
            error: self.error,
            drive,
        }
    }
}

impl<M, L, S, E, D> Contract<M, E, D>
where
    M: Fn() -> L,
    L: Layer<Probe<E>, Service = S>,
    S: Service<u64, Response = u64> + Clone + Send + 'static,
    S::Error: Debug + Send + 'static,
    S::Future: Send + 'static,
    E: Send + Sync + 'static,
    D: Fn() -> bool,
{
    /// Checks every law.
    ///
    /// # Panics
    /// With the law that is broken.
    pub fn check(&self) {
        self.readies_inner_before_call();
        self.readiness_is_reserved_once();
        self.error_does_not_poison();
        self.refused_readiness_does_not_poison();
        self.clones_are_independent();
        self.ready_instance_can_be_replaced();
        self.backpressure_propagates();
        self.dropped_service_releases_readiness();
        self.dropped_future_releases();
        self.panic_releases();
    }

    fn setup(&self, permits: usize) -> (Probe<E>, S) {
        let probe = Probe::new(permits, self.error);
        let service = (self.layer)().layer(probe.clone());
        (probe, service)
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        run_with(&self.drive, future)
    }

    fn ready(&self, service: &mut S, law: &str) {
        if let Err(error) = self.run(poll_fn(|cx| service.poll_ready(cx))) {
            panic!("{law}: poll_ready failed: {error:?}");
        }
    }

    fn answer(&self, service: &mut S, request: u64, law: &str) {
        self.ready(service, law);
        match self.run(service.call(request)) {
            Ok(response) => assert_eq!(response, request, "{law}: wrong response"),
            Err(error) => panic!("{law}: the call failed: {error:?}"),
        }
    }

    /// Only an inner instance whose `poll_ready` returned ready is called.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn readies_inner_before_call(&self) {
        const LAW: &str = "readies_inner_before_call";
        let (probe, mut service) = self.setup(4);
        for request in 0..ROUNDS {
            if request % 2 == 1 {
                probe.script([Outcome::Later]);
            }
            self.answer(&mut service, request, LAW);
        }
        no_violations(&probe, LAW);
    }

    /// Polling readiness again before the call reserves nothing twice.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn readiness_is_reserved_once(&self) {
        const LAW: &str = "readiness_is_reserved_once";
        let (probe, mut service) = self.setup(1);
        for request in 0..3 {
            self.ready(&mut service, LAW);
            self.ready(&mut service, LAW);
            self.answer(&mut service, request, LAW);
        }
        no_violations(&probe, LAW);
    }

    /// After a failed call the service works.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn error_does_not_poison(&self) {
        const LAW: &str = "error_does_not_poison";
        let (probe, mut service) = self.setup(1);
        probe.script([Outcome::Fail]);
        self.ready(&mut service, LAW);
        // A layer may answer in spite of the failure (retry, fallback).
        let _ = self.run(service.call(0));
        probe.clear_script();
        for request in 1..4 {
            self.answer(&mut service, request, LAW);
        }
        no_violations(&probe, LAW);
    }

    /// After a failed `poll_ready` of the inner service, the service works once that is over.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn refused_readiness_does_not_poison(&self) {
        const LAW: &str = "refused_readiness_does_not_poison";
        let (probe, mut service) = self.setup(1);
        probe.refuse(true);
        if self.run(poll_fn(|cx| service.poll_ready(cx))).is_ok() {
            // Readiness may be asked for in the call instead; then the call must tell.
            let _ = self.run(service.call(0));
            assert_eq!(
                probe.calls(),
                0,
                "{LAW}: called an inner service that refused"
            );
        }
        probe.refuse(false);
        for request in 1..4 {
            self.answer(&mut service, request, LAW);
        }
        no_violations(&probe, LAW);
    }

    /// A clone does not take over readiness: each instance is made ready and called by itself.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn clones_are_independent(&self) {
        const LAW: &str = "clones_are_independent";
        let (probe, mut service) = self.setup(2);
        self.ready(&mut service, LAW);
        let mut clone = service.clone();
        self.answer(&mut clone, 1, LAW);
        match self.run(service.call(2)) {
            Ok(response) => assert_eq!(response, 2, "{LAW}: wrong response"),
            Err(error) => panic!("{LAW}: the call failed: {error:?}"),
        }
        // Two calls in flight from two clones.
        probe.script([Outcome::Hang, Outcome::Ok]);
        self.ready(&mut service, LAW);
        let mut hanging = Task::new(service.call(3));
        hanging.assert_pending();
        self.answer(&mut clone, 4, LAW);
        drop(hanging);
        drop(clone);
        self.answer(&mut service, 5, LAW);
        no_violations(&probe, LAW);
    }

    /// The instance that is ready can be taken out with `mem::replace` and called elsewhere.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn ready_instance_can_be_replaced(&self) {
        const LAW: &str = "ready_instance_can_be_replaced";
        let (probe, mut service) = self.setup(1);
        for request in 0..3 {
            self.ready(&mut service, LAW);
            let clone = service.clone();
            let mut ready = std::mem::replace(&mut service, clone);
            let answer = self.run(async move { ready.call(request).await });
            match answer {
                Ok(response) => assert_eq!(response, request, "{LAW}: wrong response"),
                Err(error) => panic!("{LAW}: the call failed: {error:?}"),
            }
        }
        no_violations(&probe, LAW);
    }

    /// Who waits for a busy inner service is woken when it is ready.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn backpressure_propagates(&self) {
        const LAW: &str = "backpressure_propagates";
        let (probe, mut service) = self.setup(0);
        {
            let mut readiness = Task::new(poll_fn(|cx| service.poll_ready(cx)));
            assert!(
                readiness.poll().is_pending(),
                "{LAW}: ready although the inner service is busy"
            );
            probe.set_permits(1);
            assert!(
                readiness.is_woken(),
                "{LAW}: not woken when the inner service has room"
            );
            assert!(
                matches!(readiness.poll(), std::task::Poll::Ready(Ok(()))),
                "{LAW}: not ready although the inner service has room"
            );
        }
        self.answer(&mut service, 7, LAW);
        no_violations(&probe, LAW);
    }

    /// A service that was made ready and is dropped uncalled gives its reservation back.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn dropped_service_releases_readiness(&self) {
        const LAW: &str = "dropped_service_releases_readiness";
        let (probe, service) = self.setup(1);
        for _ in 0..ROUNDS {
            let mut clone = service.clone();
            self.ready(&mut clone, LAW);
            drop(clone);
        }
        assert_eq!(
            probe.held(),
            0,
            "{LAW}: the inner reservation is still held"
        );
        self.answer(&mut service.clone(), 1, LAW);
        no_violations(&probe, LAW);
    }

    /// A future that is dropped, polled or not, gives back everything.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn dropped_future_releases(&self) {
        const LAW: &str = "dropped_future_releases";
        for polls in [0, 1, 2] {
            let (probe, mut service) = self.setup(1);
            for request in 0..ROUNDS {
                probe.script([Outcome::Hang]);
                self.ready(&mut service, LAW);
                let mut task = Task::new(service.call(request));
                for _ in 0..polls {
                    assert!(
                        task.poll().is_pending(),
                        "{LAW}: answered a call that hangs"
                    );
                }
                drop(task);
                probe.clear_script();
                assert_eq!(probe.held(), 0, "{LAW}: the inner permit is still held");
            }
            self.answer(&mut service, 99, LAW);
            no_violations(&probe, LAW);
        }
    }

    /// A panic of the inner service, in `call` or in its future, gives back everything.
    ///
    /// # Panics
    /// If the law is broken.
    pub fn panic_releases(&self) {
        const LAW: &str = "panic_releases";
        for outcome in [Outcome::Panic, Outcome::PanicInCall] {
            let (probe, mut service) = self.setup(1);
            for request in 0..ROUNDS {
                probe.script([outcome]);
                self.ready(&mut service, LAW);
                let result = catch_unwind(AssertUnwindSafe(|| self.run(service.call(request))));
                assert!(result.is_err(), "{LAW}: swallowed a panic");
                probe.clear_script();
                assert_eq!(probe.held(), 0, "{LAW}: the inner permit is still held");
            }
            self.answer(&mut service, 99, LAW);
            no_violations(&probe, LAW);
        }
    }
}

#[track_caller]
fn no_violations<E>(probe: &Probe<E>, law: &str) {
    let violations = probe.violations();
    assert!(violations.is_empty(), "{law}: {violations:?}");
    assert_eq!(probe.held(), 0, "{law}: a permit is still held at the end");
}
