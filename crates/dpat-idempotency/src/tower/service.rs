use super::body::ReplayBody;
use super::future::ResponseFuture;
use super::header::{Found, find};
use super::layer::{ErrorEffect, Shared, UponStatus};
use super::stored::{self, Problem, with_length};
use crate::{BeginError, Begun, Claim, Fingerprint, Key};
use bytes::Bytes;
use dpat_core::{Classify, Clock, Effect, SystemClock};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A service whose repeated requests are answered as the first. Made by [`IdempotencyLayer`](crate::IdempotencyLayer).
pub struct IdempotencyService<S, K, N = super::Unknown, C = SystemClock> {
    inner: S,
    shared: Arc<Shared<K, N, C>>,
}

impl<S, K, N, C> IdempotencyService<S, K, N, C> {
    pub(super) fn new(inner: S, shared: Arc<Shared<K, N, C>>) -> Self {
        Self { inner, shared }
    }

    /// Returns the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service and drops this handle of the responses.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R, K, N, C> Service<Request<B>> for IdempotencyService<S, K, N, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
    K: Fn(&Parts) -> String + Send + Sync + 'static,
    N: ErrorEffect<S::Error> + Send + Sync + 'static,
    C: Clock + 'static,
{
    type Response = Response<ReplayBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready answers; its clone waits for the next.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let found = match options.methods.contains(request.method()) {
            true => find(request.headers(), &options.header),
            false => Found::Absent,
        };
        let id = match found {
            Found::Absent if options.required && options.methods.contains(request.method()) => {
                return refused(stored::MISSING);
            }
            Found::Absent => {
                let answer = inner.call(request);
                return ResponseFuture::new(
                    async move { Ok(answer.await?.map(ReplayBody::inner)) },
                );
            }
            Found::Invalid => return refused(stored::INVALID),
            Found::Id(id) => id.into_owned(),
        };
        let (parts, body) = request.into_parts();
        let Ok(key) = Key::new(&(shared.scope)(&parts), &id) else {
            return refused(stored::INVALID);
        };
        ResponseFuture::new(once(shared, inner, key, parts, body))
    }
}

fn refused<R: 'static, E: 'static>(problem: Problem) -> ResponseFuture<R, E> {
    ResponseFuture::new(async move { Ok(whole(problem.response(None))) })
}

fn whole<R>(response: Response<Bytes>) -> Response<ReplayBody<R>> {
    with_length(response).map(ReplayBody::whole)
}

/// Answers a request with a key.
async fn once<S, B, R, K, N, C>(
    shared: Arc<Shared<K, N, C>>,
    mut inner: S,
    key: Key,
    parts: Parts,
    body: B,
) -> Result<Response<ReplayBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body + From<Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    R: Body<Data = Bytes>,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
    N: ErrorEffect<S::Error>,
    C: Clock,
{
    let limit = shared.options.request_bytes_max;
    let body = match collect(body, limit).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => return Ok(whole(stored::TOO_LARGE.response(None))),
        Err(Unread::Broken) => return Ok(whole(stored::BODY.response(None))),
    };
    let target = parts.uri.to_string();
    let method = parts.method.as_str();
    let fingerprint = Fingerprint::of(&[method.as_bytes(), target.as_bytes(), &body]);
    let claim = match shared.responses.begin(&key, fingerprint).await {
        Ok(Begun::First(claim)) => claim,
        Ok(Begun::Replay(bytes)) => return Ok(whole(replay(&bytes))),
        Err(error) => return Ok(whole(refusal(&error))),
    };
    match inner.call(Request::from_parts(parts, B::from(body))).await {
        Ok(response) => Ok(keep(&shared, &claim, response).await),
        Err(error) => {
            // A failure here is found by the lease.
            let _ = match shared.error_effect.effect(&error) {
                Effect::NotDone => claim.release().await,
                Effect::Unknown => claim.doubt().await,
            };
            Err(error)
        }
    }
}

/// Stores a response, unless its status says otherwise, and hands it on.
async fn keep<R, K, N, C>(
    shared: &Shared<K, N, C>,
    claim: &Claim<C>,
    response: Response<R>,
) -> Response<ReplayBody<R>>
where
    R: Body<Data = Bytes>,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
    C: Clock,
{
    match (shared.options.upon_status)(response.status()) {
        UponStatus::Store => {}
        UponStatus::Release => {
            let _ = claim.release().await;
            return response.map(ReplayBody::inner);
        }
        UponStatus::Doubt => {
            let _ = claim.doubt().await;
            return response.map(ReplayBody::inner);
        }
    }
    let limit = shared.responses.config().response_bytes_max();
    let (parts, body) = response.into_parts();
    let (answer, bytes) = match collect(body, limit).await {
        Ok(body) => {
            let bytes = stored::encode(parts.status, &parts.headers, &body);
            (Response::from_parts(parts, body), bytes)
        }
        Err(Unread::TooLarge) => (stored::NOT_KEPT.response(None), None),
        Err(Unread::Broken) => {
            let _ = claim.doubt().await;
            return whole(stored::BROKEN.response(None));
        }
    };
    // What is too large is answered alike now and later, and the request does not act twice.
    let (answer, bytes) = match bytes {
        Some(bytes) if bytes.len() <= limit => (answer, bytes),
        _ => {
            let answer = stored::NOT_KEPT.response(None);
            let bytes = stored::encode(answer.status(), answer.headers(), answer.body());
            (answer, bytes.unwrap_or_default())
        }
    };
    // The request has had its effect: it is answered even if that cannot be stored.
    let _ = claim.complete(bytes).await;
    whole(answer)
}

enum Unread {
    TooLarge,
    Broken,
}

async fn collect<B>(body: B, limit: usize) -> Result<Bytes, Unread>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Broken),
    }
}

fn replay(bytes: &[u8]) -> Response<Bytes> {
    match stored::decode(bytes) {
        Some(mut response) => {
            let headers = response.headers_mut();
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            response
        }
        None => stored::UNREADABLE.response(None),
    }
}

fn refusal(error: &BeginError) -> Response<Bytes> {
    /// For a store that does not say when it will be back.
    const LATER: Duration = Duration::from_secs(1);
    match error {
        BeginError::Busy { retry_after } => stored::BUSY.response(Some(*retry_after)),
        BeginError::Reused => stored::REUSED.response(None),
        BeginError::InDoubt { .. } => stored::IN_DOUBT.response(None),
        BeginError::Corrupt(_) => stored::UNREADABLE.response(None),
        BeginError::Contended { .. } | BeginError::Store(_) => {
            stored::STORE.response(Some(error.retry_after().unwrap_or(LATER)))
        }
    }
}

impl<S: Clone, K, N, C> Clone for IdempotencyService<S, K, N, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: fmt::Debug, K, N, C> fmt::Debug for IdempotencyService<S, K, N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyService")
            .field("inner", &self.inner)
            .field("responses", &self.shared.responses)
            .finish()
    }
}
