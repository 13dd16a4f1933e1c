//! The answering side.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use dpat_core::{Class, Clock, Deadline, Effect, Instant, Sleep};
use futures_util::future::{Either, select};
use futures_util::stream;
use http::{HeaderMap, StatusCode, Uri, header};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use super::{ATTEMPT, BODY_BYTES_MAX, DEADLINE_MS, EFFECT, HttpTransport, NOT_DONE, ORDER};
use crate::shop::chaos::{Fate, RequestFaults};
use crate::shop::domain::State as OrderState;
use crate::shop::host::{Status, suffer};
use crate::shop::journal::Journal;
use crate::shop::notices::{Notices, as_event};
use crate::shop::policy::Policy;
use crate::shop::service::ports::{CallError, Peer, Reply, Request, Service, Step, StoreError};
use crate::shop::shell::metrics as shell_metrics;
use crate::shop::shell::time::RunTime;

/// How long a client without a deadline of its own is served.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";
/// How long a listener hears nothing at most.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The media type of errors (RFC 9457).
const PROBLEM: &str = "application/problem+json";

/// A server that had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The port cannot be had, or accepting failed.
    #[error("{peer}: port {port}: {source}")]
    Listen {
        /// Which service.
        peer: Peer,
        /// Its port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The service cannot go on without its store.
    #[error("{peer}: {source}")]
    Store {
        /// Which service.
        peer: Peer,
        /// Why.
        source: StoreError,
    },
}

/// One service behind a port.
#[derive(Debug)]
pub struct Server<S> {
    /// Which service.
    pub peer: Peer,
    /// Its loopback port.
    pub port: u16,
    /// What it does.
    pub service: S,
    /// The clock of the run.
    pub time: RunTime,
    /// Renders `/metrics`.
    pub prometheus: Option<PrometheusHandle>,
    /// Its way to the others, whose breakers are shown.
    pub policy: Policy<HttpTransport, RunTime>,
    /// The faults of its requests.
    pub faults: Arc<RequestFaults>,
    /// Where injected faults are written down.
    pub journal: Journal,
}

impl<S: Service> Server<S> {
    /// Takes up old work, then serves until the future is dropped or something breaks.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn run(self) -> Result<(), ServeError> {
        let (peer, port) = (self.peer, self.port);
        let store_error = |source| ServeError::Store { peer, source };
        let listen_error = |source| ServeError::Listen { peer, port, source };
        // Before the first request, so that no order is taken up twice.
        self.service.resume().await.map_err(store_error)?;
        let background = self.service.clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(listen_error)?
            .tap_io(|stream| {
                // Only latency suffers if it cannot be set.
                let _ = stream.set_nodelay(true);
            });
        let router = router(Arc::new(self));
        tokio::select! {
            ended = axum::serve(listener, router) => ended.map_err(listen_error),
            ended = background.run() => ended.map_err(store_error),
        }
    }
}

fn router<S: Service>(server: Arc<Server<S>>) -> Router {
    let mut router = Router::new()
        .route("/rpc/{step}", post(rpc::<S>))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(|| async { "ready\n" }))
        .route("/metrics", get(metrics::<S>))
        .route("/status", get(status::<S>));
    if server.peer == Peer::Gateway {
        router = router
            .route("/orders", post(place::<S>))
            .route("/orders/{id}", get(show::<S>))
            .route("/events", get(pass_on::<S>))
            .route("/events/{state}", get(pass_on::<S>));
    }
    if server.service.notices().is_some() {
        router = router
            .route("/events", get(all_events::<S>))
            .route("/events/{state}", get(events::<S>));
    }
    router
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such path", None) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(map_response(as_problem))
        .with_state(server)
}

/// Gives errors that the framework makes (a body too large, a wrong method) the form of all others.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let made_here = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == PROBLEM);
    if made_here || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (head, _) = response.into_parts();
    let mut answer = problem(status, "the request cannot be served", None);
    if let Some(allowed) = head.headers.get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    answer
}

async fn rpc<S: Service>(
    State(server): State<Arc<Server<S>>>,
    Path(step): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(step) = Step::by_name(&step) else {
        return problem(StatusCode::NOT_FOUND, "no such step", None);
    };
    let order_id = text(&headers, ORDER).unwrap_or_default().to_owned();
    answer(&server, step, order_id, &headers, body).await
}

async fn place<S: Service>(
    State(server): State<Arc<Server<S>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&server, Step::Accept, String::new(), &headers, body).await
}

async fn show<S: Service>(
    State(server): State<Arc<Server<S>>>,
    Path(order_id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(&server, Step::Status, order_id, &headers, Bytes::new()).await
}

/// What becomes of every order, as server-sent events.
async fn all_events<S: Service>(State(server): State<Arc<Server<S>>>) -> Response {
    told(server, None)
}

/// Which orders come to a state, as server-sent events.
async fn events<S: Service>(
    State(server): State<Arc<Server<S>>>,
    Path(state): Path<String>,
) -> Response {
    match OrderState::named(&state) {
        Some(state) => told(server, Some(state)),
        None => problem(StatusCode::NOT_FOUND, "no such state", None),
    }
}

fn told<S: Service>(server: Arc<Server<S>>, state: Option<OrderState>) -> Response {
    let listening = server
        .service
        .notices()
        .map(|notices| notices.listen(state));
    let subscription = match listening {
        Some(Ok(subscription)) => subscription,
        Some(Err(_)) => {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "too many listen", None);
        }
        None => return problem(StatusCode::NOT_FOUND, "no such path", None),
    };
    let told = stream::unfold((server, subscription), |(server, mut subscription)| async {
        let next = {
            let heard = std::pin::pin!(subscription.recv());
            // A line now and then finds listeners that have gone away.
            let silence = std::pin::pin!(server.time.sleep(SILENCE_MAX));
            match select(heard, silence).await {
                Either::Left((Ok(delivery), _)) => as_event(&delivery),
                Either::Left((Err(_), _)) => return None,
                Either::Right(_) => Bytes::from_static(b": still here\n\n"),
            }
        };
        Some((Ok::<_, std::io::Error>(next), (server, subscription)))
    });
    let headers = [
        (header::CONTENT_TYPE, EVENT_STREAM),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(told)).into_response()
}

/// Lets a client of the front door hear what the order service tells, until either goes away.
async fn pass_on<S: Service>(State(server): State<Arc<Server<S>>>, uri: Uri) -> Response {
    match server
        .policy
        .transport()
        .open(Peer::Order, uri.path())
        .await
    {
        Ok(response) => response.map(Body::new),
        Err(error) => failure(&error),
    }
}

async fn status<S: Service>(State(server): State<Arc<Server<S>>>) -> Response {
    let status = Status {
        gauges: server.service.gauges().await,
        breakers: server.policy.breakers(),
        notices: server
            .service
            .notices()
            .map(Notices::recent)
            .unwrap_or_default(),
    };
    document(StatusCode::OK, json!(status).to_string())
}

async fn metrics<S: Service>(State(server): State<Arc<Server<S>>>) -> Response {
    shell_metrics::show(server.peer, &server.service.gauges().await);
    let text = server
        .prometheus
        .as_ref()
        .map(PrometheusHandle::render)
        .unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn answer<S: Service>(
    server: &Server<S>,
    step: Step,
    order_id: String,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let remaining = text(headers, DEADLINE_MS)
        .and_then(|text| text.parse().ok())
        .map_or(DEFAULT_DEADLINE, Duration::from_millis);
    let request = Request {
        step,
        order_id,
        attempt: text(headers, ATTEMPT)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        body: body.clone(),
    };
    let deadline = Deadline::after(server.time.now(), remaining);
    let begun = server.time.now();
    let response = serve(server, request, deadline, &body).await;
    let took = server.time.now().since(begun);
    shell_metrics::answered(server.peer, step, response.status().as_u16(), took);
    response
}

/// Serves one request as the script wants it.
async fn serve<S: Service>(
    server: &Server<S>,
    request: Request,
    deadline: Deadline,
    body: &Bytes,
) -> Response {
    let now = server.time.now();
    let fate = suffer(&server.faults, &server.journal, &request, now);
    match fate {
        Fate::Pass | Fate::Drop => {}
        Fate::Error => {
            return failure(&CallError::not_done(Class::Transient, "injected error"));
        }
        Fate::Late(by) => server.time.sleep(by).await,
        Fate::Hang { until_us } => {
            let until = Instant::from_nanos(until_us.saturating_mul(1_000));
            server.time.sleep_until(until).await;
            return broken_off();
        }
    }
    // In a task of its own: a request that has begun is finished, although its caller may go away meanwhile.
    let service = server.service.clone();
    let handling = tokio::spawn(async move { service.handle(request, deadline).await });
    let Ok(answer) = handling.await else {
        // The task panicked, and its thread has said so.
        return broken_off();
    };
    if fate == Fate::Drop {
        return broken_off();
    }
    match answer {
        Ok(reply) => render(reply, body),
        Err(error) => failure(&error),
    }
}

/// Makes an answer that the server cannot send, so that it closes the connection.
fn broken_off() -> Response {
    let nothing = stream::once(std::future::ready(Err::<Bytes, _>(std::io::Error::other(
        "broken off",
    ))));
    Response::new(Body::from_stream(nothing))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow)]
    order_id: std::borrow::Cow<'a, str>,
}

fn render(reply: Reply, body: &[u8]) -> Response {
    match reply {
        Reply::Done => document(StatusCode::OK, "{}".to_owned()),
        Reply::Accepted => {
            // The service has decoded the same body.
            let order_id = serde_json::from_slice::<OnlyId<'_>>(body)
                .map(|only| only.order_id)
                .unwrap_or_default();
            let body = json!({"order_id": order_id, "status_url": format!("/orders/{order_id}")});
            document(StatusCode::ACCEPTED, body.to_string())
        }
        Reply::Refused(reason) => problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "refused",
            Some(reason.name()),
        ),
        Reply::Conflict => problem(
            StatusCode::CONFLICT,
            "another order with this id is known",
            None,
        ),
        Reply::NotFound => problem(StatusCode::NOT_FOUND, "no such order", None),
        Reply::Invalid(detail) => problem(StatusCode::BAD_REQUEST, &detail, None),
        Reply::Document(body) => (
            [(header::CONTENT_TYPE, "application/json")],
            Body::from(body),
        )
            .into_response(),
    }
}

fn failure(error: &CallError) -> Response {
    let status = match error.class {
        Class::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Class::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Class::InvalidInput => StatusCode::BAD_REQUEST,
        Class::Transient | Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = problem(status, error.detail, None);
    let headers = response.headers_mut();
    if error.effect == Effect::NotDone {
        headers.insert(EFFECT, header::HeaderValue::from_static(NOT_DONE));
    }
    if let Some(after) = error.retry_after {
        // Whole seconds are all that the header can say.
        let seconds = after.as_secs().max(1);
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    }
    response
}

fn document(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Renders an error as RFC 9457 says.
fn problem(status: StatusCode, detail: &str, reason: Option<&str>) -> Response {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    let headers = [(header::CONTENT_TYPE, PROBLEM)];
    (status, headers, body.to_string()).into_response()
}
