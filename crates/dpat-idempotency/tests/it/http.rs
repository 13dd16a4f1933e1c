//! The header `Idempotency-Key`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Effect, ManualTime};
use dpat_idempotency::{AnyStore, IdempotencyLayer, MemoryStore, Responses, UponStatus};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower_layer::Layer;
use tower_service::Service;

use crate::world::{Cut, Failed, LEASE, Shaky, responses, run, yield_once};

/// Counts its calls, and answers with what the path says.
#[derive(Clone, Default)]
struct Charges(Arc<AtomicU32>);

type Answer = Result<Response<Full<Bytes>>, Failed>;

impl Service<Request<Full<Bytes>>> for Charges {
    type Response = Response<Full<Bytes>>;
    type Error = Failed;
    type Future = std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let calls = Arc::clone(&self.0);
        Box::pin(async move {
            yield_once().await;
            let number = calls.fetch_add(1, Ordering::Relaxed) + 1;
            yield_once().await;
            let status = match request.uri().path() {
                "/limited" => StatusCode::TOO_MANY_REQUESTS,
                "/broken" => StatusCode::INTERNAL_SERVER_ERROR,
                "/unavailable" => StatusCode::SERVICE_UNAVAILABLE,
                "/refuses" => return Err(Failed(Effect::NotDone)),
                "/dies" => return Err(Failed(Effect::Unknown)),
                "/long" => return Ok(Response::new(vec![0; 2 << 20].into())),
                _ => StatusCode::CREATED,
            };
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let text = format!("{number}: {}", String::from_utf8_lossy(&body));
            Ok(Response::builder()
                .status(status)
                .header("x-charge", number)
                .header("set-cookie", "session=1")
                .header("vary", "a")
                .header("vary", "b")
                .body(Bytes::from(text).into())
                .unwrap())
        })
    }
}

fn layer(
    store: impl Into<AnyStore>,
    time: &ManualTime,
) -> IdempotencyLayer<fn(&http::request::Parts) -> String, dpat_idempotency::Unknown, ManualTime> {
    fn scope(parts: &http::request::Parts) -> String {
        let account = parts.headers.get("x-account");
        account.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }
    IdempotencyLayer::new(responses(store, time, 1), scope)
}

fn post(path: &str, key: Option<&str>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(path)
        .body(Bytes::from(body.to_owned()).into())
        .unwrap();
    if let Some(key) = key {
        let value = HeaderValue::from_str(key).unwrap();
        request.headers_mut().insert("idempotency-key", value);
    }
    request
}

/// Sends a request, and returns status and body.
fn send<S, R>(service: &mut S, request: Request<Full<Bytes>>) -> (u16, String)
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Failed>,
    R: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let response = run(service.call(request)).unwrap();
    let status = response.status().as_u16();
    let body = run(response.into_body().collect()).unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn problem(status: u16, kind: &str) -> impl Fn((u16, String)) -> bool {
    let kind = format!("\"type\":\"urn:dpat:idempotency:{kind}\"");
    move |(got, body)| got == status && body.contains(&kind) && body.contains(&status.to_string())
}

#[test]
fn a_repeated_request_is_answered_as_the_first() {
    let charges = Charges::default();
    let mut service = layer(MemoryStore::new(), &ManualTime::new()).layer(charges.clone());
    let first = run(service.call(post("/charges", Some("k"), "100"))).unwrap();
    assert_eq!(first.headers()["x-charge"], "1");
    assert_eq!(first.headers()["set-cookie"], "session=1");
    assert!(!first.headers().contains_key("idempotency-replayed"));
    for _ in 0..2 {
        let again = run(service.call(post("/charges", Some("\"k\""), "100"))).unwrap();
        assert_eq!(again.status(), StatusCode::CREATED);
        assert_eq!(again.headers()["x-charge"], "1");
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        assert_eq!(again.headers()["content-length"], "6");
        let vary: Vec<_> = again.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["a", "b"]);
        assert!(
            !again.headers().contains_key("set-cookie"),
            "a session is not replayed"
        );
        let body = run(again.into_body().collect()).unwrap().to_bytes();
        assert_eq!(body, "1: 100");
    }
    assert_eq!(charges.0.load(Ordering::Relaxed), 1);
}

#[test]
fn another_body_target_or_method_under_the_key_is_unprocessable() {
    let mut service = layer(MemoryStore::new(), &ManualTime::new()).layer(Charges::default());
    send(&mut service, post("/charges", Some("k"), "100"));
    let reused = problem(422, "key-reused");
    assert!(reused(send(
        &mut service,
        post("/charges", Some("k"), "200")
    )));
    assert!(reused(send(
        &mut service,
        post("/refunds", Some("k"), "100")
    )));
    let mut patch = post("/charges", Some("k"), "100");
    *patch.method_mut() = Method::PATCH;
    assert!(reused(send(&mut service, patch)));
}

#[test]
fn scopes_keep_clients_apart() {
    let mut service = layer(MemoryStore::new(), &ManualTime::new()).layer(Charges::default());
    let from = |account: &'static str| {
        let mut request = post("/charges", Some("k"), "100");
        request
            .headers_mut()
            .insert("x-account", HeaderValue::from_static(account));
        request
    };
    assert_eq!(send(&mut service, from("a")).1, "1: 100");
    assert_eq!(send(&mut service, from("b")).1, "2: 100");
    assert_eq!(send(&mut service, from("a")).1, "1: 100");
}

#[test]
fn while_the_first_is_under_way_the_second_conflicts() {
    let mut service = layer(MemoryStore::new(), &ManualTime::new()).layer(Charges::default());
    let mut first = dpat_testkit::Task::new(service.call(post("/charges", Some("k"), "100")));
    first.assert_pending();
    let second = run(service.call(post("/charges", Some("k"), "100"))).unwrap();
    assert_eq!(second.status(), StatusCode::CONFLICT);
    assert_eq!(second.headers()["retry-after"], "60");
    assert_eq!(second.headers()["content-type"], "application/problem+json");
    assert!(first.poll().is_pending());
    assert_eq!(first.assert_ready().unwrap().status(), StatusCode::CREATED);
    assert_eq!(
        send(&mut service, post("/charges", Some("k"), "100")).1,
        "1: 100"
    );
}

#[test]
fn a_client_that_hangs_up_leaves_doubt() {
    let time = ManualTime::new();
    let charges = Charges::default();
    let mut service = layer(MemoryStore::new(), &time).layer(charges.clone());
    let mut first = dpat_testkit::Task::new(service.call(post("/charges", Some("k"), "100")));
    while charges.0.load(Ordering::Relaxed) == 0 {
        first.assert_pending();
    }
    drop(first);
    let busy = problem(409, "under-way");
    assert!(busy(send(&mut service, post("/charges", Some("k"), "100"))));
    time.advance(LEASE);
    let doubt = problem(409, "in-doubt");
    assert!(doubt(send(
        &mut service,
        post("/charges", Some("k"), "100")
    )));
    assert_eq!(charges.0.load(Ordering::Relaxed), 1);
}

#[test]
fn requests_without_a_key_pass_or_are_refused() {
    let charges = Charges::default();
    let time = ManualTime::new();
    let mut service = layer(MemoryStore::new(), &time).layer(charges.clone());
    assert_eq!(
        send(&mut service, post("/charges", None, "100")).1,
        "1: 100"
    );
    assert_eq!(
        send(&mut service, post("/charges", None, "100")).1,
        "2: 100"
    );
    let mut service = layer(MemoryStore::new(), &time).required().layer(charges);
    let missing = problem(400, "key-missing");
    assert!(missing(send(&mut service, post("/charges", None, "100"))));
    // Idempotent by themselves.
    let mut put = post("/charges", None, "100");
    *put.method_mut() = Method::PUT;
    assert_eq!(send(&mut service, put).1, "3: 100");
    let mut service = layer(MemoryStore::new(), &time)
        .methods([Method::DELETE])
        .header(http::HeaderName::from_static("x-key"))
        .layer(Charges::default());
    assert_eq!(
        send(&mut service, post("/charges", Some("k"), "100")).1,
        "1: 100"
    );
    assert_eq!(
        send(&mut service, post("/charges", Some("k"), "100")).1,
        "2: 100"
    );
    for _ in 0..2 {
        let mut delete = post("/charges", None, "");
        *delete.method_mut() = Method::DELETE;
        delete
            .headers_mut()
            .insert("x-key", HeaderValue::from_static("k"));
        assert_eq!(send(&mut service, delete).1, "3: ");
    }
}

#[test]
fn bad_keys_and_large_bodies_are_refused() {
    let charges = Charges::default();
    let time = ManualTime::new();
    let mut service = layer(MemoryStore::new(), &time)
        .request_bytes_max(3)
        .layer(charges.clone());
    let invalid = problem(400, "key-invalid");
    let long = "x".repeat(256);
    for key in ["", "\"open", &long] {
        assert!(invalid(send(
            &mut service,
            post("/charges", Some(key), "100")
        )));
    }
    let large = problem(413, "body-too-large");
    assert!(large(send(
        &mut service,
        post("/charges", Some("k"), "1000")
    )));
    assert_eq!(charges.0.load(Ordering::Relaxed), 0);
    // Without a key it is not read.
    assert_eq!(
        send(&mut service, post("/charges", None, "1000")).1,
        "1: 1000"
    );
}

#[test]
fn failures_are_stored_and_rate_limits_are_not() {
    let mut service = layer(MemoryStore::new(), &ManualTime::new()).layer(Charges::default());
    for _ in 0..2 {
        assert_eq!(
            send(&mut service, post("/broken", Some("a"), "x")),
            (500, "1: x".to_owned())
        );
    }
    assert_eq!(
        send(&mut service, post("/limited", Some("b"), "x")),
        (429, "2: x".to_owned())
    );
    assert_eq!(
        send(&mut service, post("/limited", Some("b"), "x")),
        (429, "3: x".to_owned())
    );
    let mut service = layer(MemoryStore::new(), &ManualTime::new())
        .upon_status(|status| match status {
            StatusCode::INTERNAL_SERVER_ERROR => UponStatus::Doubt,
            StatusCode::SERVICE_UNAVAILABLE => UponStatus::Release,
            _ => UponStatus::Store,
        })
        .layer(Charges::default());
    assert_eq!(send(&mut service, post("/broken", Some("a"), "x")).0, 500);
    let doubt = problem(409, "in-doubt");
    assert!(doubt(send(&mut service, post("/broken", Some("a"), "x"))));
    assert_eq!(
        send(&mut service, post("/unavailable", Some("b"), "x")).1,
        "2: x"
    );
    assert_eq!(
        send(&mut service, post("/unavailable", Some("b"), "x")).1,
        "3: x"
    );
}

#[test]
fn errors_leave_doubt_unless_they_surely_did_nothing() {
    let time = ManualTime::new();
    let doubt = problem(409, "in-doubt");
    let mut service = layer(MemoryStore::new(), &time).layer(Charges::default());
    assert!(run(service.call(post("/refuses", Some("a"), "x"))).is_err());
    assert!(doubt(send(&mut service, post("/refuses", Some("a"), "x"))));
    let mut service = layer(MemoryStore::new(), &time)
        .by_class()
        .layer(Charges::default());
    for _ in 0..2 {
        assert!(run(service.call(post("/refuses", Some("a"), "x"))).is_err());
    }
    assert!(run(service.call(post("/dies", Some("b"), "x"))).is_err());
    assert!(doubt(send(&mut service, post("/dies", Some("b"), "x"))));
}

#[test]
fn a_response_that_is_too_large_is_the_same_refusal_now_and_later() {
    let charges = Charges::default();
    let mut service = layer(MemoryStore::new(), &ManualTime::new()).layer(charges.clone());
    let not_kept = problem(500, "response-too-large");
    assert!(not_kept(send(&mut service, post("/long", Some("k"), "x"))));
    assert!(not_kept(send(&mut service, post("/long", Some("k"), "x"))));
    assert_eq!(charges.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_store_that_fails_is_told_before_and_hidden_after_the_effect() {
    for at in 0..2 {
        let charges = Charges::default();
        let store = Shaky::cut(at, Cut::Before, true);
        let mut service = layer(AnyStore::new(store), &ManualTime::new()).layer(charges.clone());
        let answer = send(&mut service, post("/charges", Some("k"), "100"));
        if at == 0 {
            assert!(problem(503, "store-unavailable")(answer));
            assert_eq!(charges.0.load(Ordering::Relaxed), 0);
        } else {
            assert_eq!(
                answer,
                (201, "1: 100".to_owned()),
                "it happened, and is answered"
            );
        }
    }
}

#[test]
fn a_stored_row_that_is_no_response_is_no_answer() {
    let time = ManualTime::new();
    let store = MemoryStore::new();
    let responses: Responses<ManualTime> = responses(store.clone(), &time, 9);
    let fingerprint = dpat_idempotency::Fingerprint::of(&[b"POST", b"/charges", b"100"]);
    let key = dpat_idempotency::Key::new("", "k").unwrap();
    let rubbish = |_| async { Ok::<_, Failed>(Bytes::from_static(b"\x07")) };
    run(responses.run(&key, fingerprint, rubbish)).unwrap();
    let mut service = layer(store, &time).layer(Charges::default());
    let unreadable = problem(500, "record-unreadable");
    assert!(unreadable(send(
        &mut service,
        post("/charges", Some("k"), "100")
    )));
}

#[test]
fn waits_are_told_in_whole_seconds() {
    let time = ManualTime::new();
    let mut service = layer(MemoryStore::new(), &time).layer(Charges::default());
    let _first = {
        let mut first = dpat_testkit::Task::new(service.call(post("/charges", Some("k"), "100")));
        first.assert_pending();
        first
    };
    time.advance(LEASE - Duration::from_millis(1));
    let second = run(service.call(post("/charges", Some("k"), "100"))).unwrap();
    assert_eq!(second.headers()["retry-after"], "1");
}
