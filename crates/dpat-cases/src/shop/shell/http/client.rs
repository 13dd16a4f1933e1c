//! The calling side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Clock, Deadline};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{ATTEMPT, BODY_BYTES_MAX, DEADLINE_MS, EFFECT, NOT_DONE, ORDER};
use crate::shop::domain::Reason;
use crate::shop::service::ports::{CallError, Peer, Reply, Request, Step, Transport};
use crate::shop::shell::time::RunTime;

/// Longest wait for an answer when the caller states no deadline.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest page that is read.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// How many calls to one service are under way at once, each on a connection of its own; further ones wait.
const IN_FLIGHT_MAX: usize = 512;
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls the other services over loopback, with connections kept alive.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: Client<HttpConnector, Full<Bytes>>,
    callees: Arc<BTreeMap<Peer, Callee>>,
    time: RunTime,
}

/// Where a service is, and room for calls to it.
#[derive(Debug)]
struct Callee {
    port: u16,
    room: Semaphore,
}

impl HttpTransport {
    /// Makes a transport to the given loopback ports.
    #[must_use]
    pub fn new(ports: BTreeMap<Peer, u16>, time: RunTime) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            // Sending again is the policy's decision alone.
            .retry_canceled_requests(false)
            .build(connector);
        let callee = |(peer, port)| {
            let room = Semaphore::new(IN_FLIGHT_MAX);
            (peer, Callee { port, room })
        };
        Self {
            client,
            callees: Arc::new(ports.into_iter().map(callee).collect()),
            time,
        }
    }

    /// Reads a page of a service, past every policy.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get(&self, peer: Peer, path: &str, wait: Duration) -> Result<Bytes, CallError> {
        let port = self.callee(peer)?.port;
        let request = http::Request::get(format!("http://127.0.0.1:{port}{path}"))
            .body(Full::default())
            .map_err(|_| CallError::not_done(Class::InvalidInput, "no such path"))?;
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|_| CallError::not_done(Class::Unavailable, "cannot connect"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), PAGE_BYTES_MAX)
                .collect()
                .await
                .map_err(|_| CallError::not_done(Class::Transient, "the answer broke off"))?;
            if status.is_success() {
                Ok(body.to_bytes())
            } else {
                Err(CallError::not_done(Class::Transient, "the service failed"))
            }
        };
        match tokio::time::timeout(wait, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::not_done(Class::Timeout, "no answer in time")),
        }
    }

    /// Opens a page that goes on and on.
    ///
    /// # Errors
    /// [`CallError`] if there is no answer; a page that breaks off later ends.
    pub async fn open(
        &self,
        peer: Peer,
        path: &str,
    ) -> Result<http::Response<hyper::body::Incoming>, CallError> {
        let port = self.callee(peer)?.port;
        let request = http::Request::get(format!("http://127.0.0.1:{port}{path}"))
            .body(Full::default())
            .map_err(|_| CallError::not_done(Class::InvalidInput, "no such path"))?;
        let response = self.client.request(request).await;
        response.map_err(|_| CallError::not_done(Class::Unavailable, "cannot connect"))
    }

    fn callee(&self, peer: Peer) -> Result<&Callee, CallError> {
        self.callees
            .get(&peer)
            .ok_or(CallError::not_done(Class::Permanent, "unknown service"))
    }

    fn build(
        &self,
        peer: Peer,
        request: &Request,
        remaining: Duration,
    ) -> Result<http::Request<Full<Bytes>>, CallError> {
        let port = self.callee(peer)?.port;
        let (method, path) = match (peer, request.step) {
            (Peer::Gateway, Step::Accept) => (Method::POST, "/orders".to_owned()),
            (Peer::Gateway, Step::Status) => (Method::GET, format!("/orders/{}", request.order_id)),
            (_, step) => (Method::POST, format!("/rpc/{}", step.name())),
        };
        let order_id = HeaderValue::from_str(&request.order_id)
            .map_err(|_| CallError::not_done(Class::InvalidInput, "the order id is no header"))?;
        http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{port}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(ORDER, order_id)
            .header(ATTEMPT, request.attempt)
            .header(DEADLINE_MS, millis(remaining))
            .body(Full::new(request.body.clone()))
            .map_err(|_| CallError::not_done(Class::InvalidInput, "the request does not encode"))
    }

    /// Sends the request and reads the whole answer.
    async fn exchange(
        &self,
        request: http::Request<Full<Bytes>>,
        step: Step,
    ) -> Result<Reply, CallError> {
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                CallError::not_done(Class::Unavailable, "cannot connect")
            } else {
                CallError::unknown(Class::Transient, "the connection broke")
            }
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| CallError::unknown(Class::Transient, "the answer broke off"))?
            .to_bytes();
        interpret(&head, body, step)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Deserialize)]
struct Problem {
    reason: Option<Reason>,
    detail: Option<String>,
}

fn interpret(head: &http::response::Parts, body: Bytes, step: Step) -> Result<Reply, CallError> {
    let problem = || serde_json::from_slice::<Problem>(&body).ok();
    match head.status {
        StatusCode::OK if step == Step::Status => Ok(Reply::Document(body)),
        StatusCode::OK => Ok(Reply::Done),
        StatusCode::ACCEPTED => Ok(Reply::Accepted),
        StatusCode::CONFLICT => Ok(Reply::Conflict),
        StatusCode::NOT_FOUND => Ok(Reply::NotFound),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Ok(Reply::Invalid(
            problem()
                .and_then(|problem| problem.detail)
                .unwrap_or_default(),
        )),
        StatusCode::UNPROCESSABLE_ENTITY => match problem().and_then(|problem| problem.reason) {
            Some(reason) => Ok(Reply::Refused(reason)),
            None => Err(CallError::unknown(
                Class::Corrupt,
                "a refusal without reason",
            )),
        },
        status => {
            let class = match status {
                StatusCode::TOO_MANY_REQUESTS => Class::Overloaded,
                StatusCode::SERVICE_UNAVAILABLE => Class::Unavailable,
                StatusCode::GATEWAY_TIMEOUT => Class::Timeout,
                status if status.is_server_error() => Class::Transient,
                _ => Class::Permanent,
            };
            let not_done = head
                .headers
                .get(EFFECT)
                .is_some_and(|value| value == NOT_DONE);
            let error = if not_done {
                CallError::not_done(class, "the service refuses")
            } else {
                CallError::unknown(class, "the service failed")
            };
            Err(error.with_retry_after(retry_after(&head.headers)))
        }
    }
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

impl Transport for HttpTransport {
    async fn call(
        &self,
        peer: Peer,
        request: Request,
        deadline: Deadline,
    ) -> Result<Reply, CallError> {
        let remaining = deadline.remaining(self.time.now()).min(TIMEOUT_MAX);
        if remaining.is_zero() {
            return Err(CallError::not_done(Class::Timeout, "no time left"));
        }
        let room = &self.callee(peer)?.room;
        let Ok(Ok(_place)) = tokio::time::timeout(remaining, room.acquire()).await else {
            return Err(CallError::not_done(Class::Overloaded, "no connection free"));
        };
        let remaining = deadline.remaining(self.time.now()).min(TIMEOUT_MAX);
        let message = self.build(peer, &request, remaining)?;
        let exchange = self.exchange(message, request.step);
        match tokio::time::timeout(remaining, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::unknown(Class::Timeout, "no answer in time")),
        }
    }
}
