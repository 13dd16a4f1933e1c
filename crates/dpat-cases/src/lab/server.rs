//! The page behind a loopback port, with protocols to run.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::available_parallelism;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dpat_model::Script;
use dpat_sim::Registry;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::api::{self, Refused, Wanted};

/// A script in JSON inside JSON: every byte may be escaped.
const BODY_BYTES_MAX: usize = 2 * Script::MAX_BYTES + (64 << 10);

/// The page needs nothing but itself and its server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Lab {
    registry: Registry,
    page: Bytes,
    /// One run a core; others wait for their turn.
    turns: Arc<Semaphore>,
}

/// Serves the lab on a loopback port until the process ends; port 0 stands for any that is free.
///
/// `ready` hears the address as soon as it answers.
///
/// # Errors
/// The port cannot be had, or accepting failed.
pub fn serve(registry: Registry, port: u16, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        ready(listener.local_addr()?);
        axum::serve(listener, router(registry)).await
    })
}

fn router(registry: Registry) -> Router {
    let lab = Lab {
        registry,
        page: Bytes::from(super::served(None)),
        turns: Arc::new(Semaphore::new(
            available_parallelism().map_or(1, usize::from),
        )),
    };
    Router::new()
        .route("/", get(page))
        .route("/api/protocols", get(protocols))
        .route("/api/run", post(run))
        .route("/api/check", post(check))
        .route("/api/shrink", post(shrink))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such path", Vec::new()) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(only_here))
        .with_state(Arc::new(lab))
}

/// Refuses requests that a page from elsewhere makes by a name that leads here.
async fn only_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if !["127.0.0.1", "localhost"].contains(&name) {
        return problem(
            StatusCode::MISDIRECTED_REQUEST,
            "the lab is on this machine only",
            Vec::new(),
        );
    }
    next.run(request).await
}

async fn page(State(lab): State<Arc<Lab>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, lab.page.clone()).into_response()
}

async fn protocols(State(lab): State<Arc<Lab>>) -> Response {
    document(&api::protocols(&lab.registry))
}

async fn run(State(lab): State<Arc<Lab>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(lab, &headers, &body, api::run).await
}

async fn check(State(lab): State<Arc<Lab>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(lab, &headers, &body, api::check).await
}

async fn shrink(State(lab): State<Arc<Lab>>, headers: HeaderMap, body: Bytes) -> Response {
    answer(lab, &headers, &body, api::less).await
}

/// Computes an answer off the thread that serves.
async fn answer<T: Serialize + Send + 'static>(
    lab: Arc<Lab>,
    headers: &HeaderMap,
    body: &Bytes,
    compute: fn(&Registry, &Wanted) -> Result<T, Refused>,
) -> Response {
    // Pages from elsewhere cannot send this type without being asked for permission first.
    let json = HeaderValue::from_static("application/json");
    if headers.get(header::CONTENT_TYPE) != Some(&json) {
        let detail = "the body must be application/json";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail, Vec::new());
    }
    let wanted: Wanted = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string(), Vec::new()),
    };
    let Ok(turn) = Arc::clone(&lab.turns).acquire_owned().await else {
        let detail = "the lab is closing";
        return problem(StatusCode::SERVICE_UNAVAILABLE, detail, Vec::new());
    };
    let computed = tokio::task::spawn_blocking(move || {
        // A run goes on although nobody waits for it any more.
        let _turn = turn;
        compute(&lab.registry, &wanted).map(|answer| document(&answer))
    });
    match computed.await {
        Ok(Ok(response)) => response,
        Ok(Err(Refused::Request(reason))) => problem(StatusCode::BAD_REQUEST, &reason, Vec::new()),
        Ok(Err(Refused::Script(error))) => {
            let place = json!({
                "line": error.line,
                "column": error.column,
                "field": error.field,
                "reason": error.reason,
            });
            problem(StatusCode::BAD_REQUEST, &error.to_string(), vec![place])
        }
        // Its thread has said why.
        Err(_) => {
            let detail = "the run panicked";
            problem(StatusCode::INTERNAL_SERVER_ERROR, detail, Vec::new())
        }
    }
}

fn document(form: &impl Serialize) -> Response {
    match serde_json::to_string(form) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            &error.to_string(),
            Vec::new(),
        ),
    }
}

/// Renders an error as RFC 9457 says; `errors` are the places in a script.
fn problem(status: StatusCode, detail: &str, errors: Vec<Value>) -> Response {
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": detail,
        "errors": errors,
    });
    let headers = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, headers, body.to_string()).into_response()
}
