//! The rules of tower, through adapters from numbers to requests and back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use dpat_core::{Effect, ManualTime};
use dpat_idempotency::{IdempotencyLayer, MemoryStore};
use dpat_testkit::tower::Contract;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower_layer::Layer;
use tower_service::Service;

use crate::world::{Failed, responses};

type Future<T, E> = std::pin::Pin<Box<dyn std::future::Future<Output = Result<T, E>> + Send>>;

/// Numbers outside, requests inside, each with a key of its own.
struct Numbers<L>(L);

impl<S, L: Layer<Inside<S>>> Layer<S> for Numbers<L> {
    type Service = Outside<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        Outside(self.0.layer(Inside(inner)))
    }
}

#[derive(Clone)]
struct Outside<S>(S);

static KEYS: AtomicU64 = AtomicU64::new(0);

impl<S, R> Service<u64> for Outside<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    type Response = u64;
    type Error = S::Error;
    type Future = Future<u64, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, number: u64) -> Self::Future {
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        let request = Request::post("/")
            .header("idempotency-key", key)
            .body(Bytes::copy_from_slice(&number.to_be_bytes()).into())
            .unwrap();
        let response = self.0.call(request);
        Box::pin(async move {
            let body = response
                .await?
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes();
            Ok(u64::from_be_bytes(body[..].try_into().unwrap()))
        })
    }
}

#[derive(Clone)]
struct Inside<S>(S);

impl<S> Service<Request<Full<Bytes>>> for Inside<S>
where
    S: Service<u64, Response = u64>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = S::Error;
    type Future = Future<Response<Full<Bytes>>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let body = crate::world::run(request.into_body().collect())
            .unwrap()
            .to_bytes();
        let answer = self
            .0
            .call(u64::from_be_bytes(body[..].try_into().unwrap()));
        Box::pin(async move {
            let number = answer.await?;
            Ok(Response::new(
                Bytes::copy_from_slice(&number.to_be_bytes()).into(),
            ))
        })
    }
}

#[test]
fn the_layer_keeps_the_rules_of_tower() {
    let layer = || {
        let responses = responses(MemoryStore::new(), &ManualTime::new(), 1);
        Numbers(IdempotencyLayer::new(
            responses,
            |_: &http::request::Parts| "scope".to_owned(),
        ))
    };
    Contract::new(layer, || Failed(Effect::Unknown)).check();
}
