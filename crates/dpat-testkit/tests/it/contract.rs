use dpat_testkit::tower::{Contract, Probe};
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tower_layer::{Layer, layer_fn};
use tower_service::Service;

#[derive(Debug)]
struct Refused;

type Inner = Probe<Refused>;

/// A layer from a way to wrap.
fn contract<S>(wrap: fn(Inner) -> S) -> Contract<impl Fn() -> LayerOf<S>, Refused, fn() -> bool> {
    Contract::new(move || LayerOf(wrap), || Refused)
}

struct LayerOf<S>(fn(Inner) -> S);

impl<S> Layer<Inner> for LayerOf<S> {
    type Service = S;
    fn layer(&self, inner: Inner) -> S {
        (self.0)(inner)
    }
}

fn panic_message(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the mutant is found");
    panic
        .downcast_ref::<String>()
        .expect("a formatted message")
        .clone()
}

#[test]
fn the_bare_service_passes() {
    Contract::new(|| layer_fn(|inner: Inner| inner), || Refused).check();
}

/// Calls a fresh clone, whose readiness nobody asked for: the mistake the tower-service documentation warns of.
#[derive(Clone)]
struct CallsClone(Inner);

impl Service<u64> for CallsClone {
    type Response = u64;
    type Error = Refused;
    type Future = <Inner as Service<u64>>::Future;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: u64) -> Self::Future {
        self.0.clone().call(request)
    }
}

#[test]
fn finds_a_call_on_an_unready_clone() {
    let message = panic_message(|| contract(CallsClone).readies_inner_before_call());
    assert!(
        message.contains("poll_ready had not returned Ready"),
        "{message}"
    );
}

/// Never asks the inner service.
#[derive(Clone)]
struct AlwaysReady(Inner);

impl Service<u64> for AlwaysReady {
    type Response = u64;
    type Error = Refused;
    type Future = <Inner as Service<u64>>::Future;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: u64) -> Self::Future {
        self.0.call(request)
    }
}

#[test]
fn finds_lost_backpressure() {
    let message = panic_message(|| contract(AlwaysReady).backpressure_propagates());
    assert!(
        message.contains("ready although the inner service is busy"),
        "{message}"
    );
}

#[test]
fn finds_a_call_in_spite_of_refused_readiness() {
    let message = panic_message(|| contract(AlwaysReady).refused_readiness_does_not_poison());
    assert!(
        message.contains("called an inner service that refused"),
        "{message}"
    );
}

/// Counts calls in flight, at most four, but counts down only when a future completes.
#[derive(Clone)]
struct LeaksOnDrop(Inner, Arc<AtomicUsize>);

impl Service<u64> for LeaksOnDrop {
    type Response = u64;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<u64, Refused>> + Send>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        if self.1.load(Ordering::SeqCst) >= 4 {
            return Poll::Ready(Err(Refused));
        }
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: u64) -> Self::Future {
        let in_flight = Arc::clone(&self.1);
        in_flight.fetch_add(1, Ordering::SeqCst);
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await;
            in_flight.fetch_sub(1, Ordering::SeqCst);
            response
        })
    }
}

#[test]
fn finds_a_leak_by_dropped_futures_and_by_panics() {
    let leaky = || contract(|inner| LeaksOnDrop(inner, Arc::default()));
    leaky().error_does_not_poison();
    let message = panic_message(|| leaky().dropped_future_releases());
    assert!(
        message.contains("dropped_future_releases: poll_ready failed"),
        "{message}"
    );
    let message = panic_message(|| leaky().panic_releases());
    assert!(
        message.contains("panic_releases: poll_ready failed"),
        "{message}"
    );
}

/// Refuses for ever after the first failure.
#[derive(Clone)]
struct Poisoned(Inner, Arc<AtomicBool>);

impl Service<u64> for Poisoned {
    type Response = u64;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<u64, Refused>> + Send>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        if self.1.load(Ordering::SeqCst) {
            return Poll::Ready(Err(Refused));
        }
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: u64) -> Self::Future {
        let poisoned = Arc::clone(&self.1);
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await;
            poisoned.fetch_or(response.is_err(), Ordering::SeqCst);
            response
        })
    }
}

#[test]
fn finds_a_poisoned_service() {
    let message = panic_message(|| {
        contract(|inner| Poisoned(inner, Arc::default())).error_does_not_poison();
    });
    assert!(
        message.contains("error_does_not_poison: poll_ready failed"),
        "{message}"
    );
}

/// Shares one ready inner service between its clones, as a naive `Arc<Mutex<_>>` wrapper does.
#[derive(Clone)]
struct SharesReadiness(Arc<AtomicBool>, Inner);

impl Service<u64> for SharesReadiness {
    type Response = u64;
    type Error = Refused;
    type Future = <Inner as Service<u64>>::Future;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        if self.0.swap(true, Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        self.1.poll_ready(cx)
    }
    fn call(&mut self, request: u64) -> Self::Future {
        self.0.store(false, Ordering::SeqCst);
        self.1.call(request)
    }
}

#[test]
fn finds_readiness_shared_between_clones() {
    let message = panic_message(|| {
        contract(|inner| SharesReadiness(Arc::default(), inner)).clones_are_independent();
    });
    assert!(
        message.contains("poll_ready had not returned Ready"),
        "{message}"
    );
}

/// Answers without the inner service.
#[derive(Clone)]
struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request + 1))
    }
}

#[test]
fn finds_a_wrong_response() {
    let message = panic_message(|| contract(|_| Echo).ready_instance_can_be_replaced());
    assert!(message.contains("wrong response"), "{message}");
}
