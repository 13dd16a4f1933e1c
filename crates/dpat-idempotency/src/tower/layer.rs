use super::IdempotencyService;
use crate::Responses;
use dpat_core::{Classify, Effect, SystemClock};
use http::header::HeaderName;
use http::request::Parts;
use http::{Method, StatusCode};
use std::fmt;
use std::sync::Arc;
use tower_layer::Layer;

/// What becomes of a key whose request was answered with a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UponStatus {
    /// The response is stored, and repetitions are answered with it.
    Store,
    /// The request surely had no effect: a repetition acts.
    Release,
    /// The request may have had an effect: repetitions are refused until somebody finds out.
    Doubt,
}

/// Decides by the status; see [`IdempotencyLayer::upon_status`].
pub type StatusRule = fn(StatusCode) -> UponStatus;

/// Says whether an error of the inner service may have had an effect.
pub trait ErrorEffect<E> {
    /// Returns the effect of `error`.
    fn effect(&self, error: &E) -> Effect;
}

/// Every error may have had an effect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unknown;

impl<E> ErrorEffect<E> for Unknown {
    fn effect(&self, _error: &E) -> Effect {
        Effect::Unknown
    }
}

/// The errors say it themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClass;

impl<E: Classify> ErrorEffect<E> for ByClass {
    fn effect(&self, error: &E) -> Effect {
        error.effect()
    }
}

/// A closure says it.
#[derive(Clone, Copy, Debug)]
pub struct EffectBy<F>(F);

impl<E, F: Fn(&E) -> Effect> ErrorEffect<E> for EffectBy<F> {
    fn effect(&self, error: &E) -> Effect {
        (self.0)(error)
    }
}

/// Answers a repeated HTTP request as the first was answered, by its header `Idempotency-Key`.
///
/// Follows draft-ietf-httpapi-idempotency-key-header:
///
/// | request | answer |
/// |---|---|
/// | a method that is not watched (all but POST and PATCH), or no key where none is required | the inner service's |
/// | a new key | the inner service's, stored |
/// | the key again, same method, target and body | the stored one, with `idempotency-replayed: true` |
/// | the key again while the first is under way | 409 with `Retry-After` |
/// | the key again with another method, target or body | 422 |
/// | the key of a request that ended nobody knows how | 409 |
/// | several keys, or one that is empty or longer than 255 bytes; none where it is required | 400 |
///
/// The bodies of requests with a key are read whole, and so are the responses to them. The headers of a response are
/// stored, except those of the connection, `date` and `set-cookie`.
///
/// # Examples
/// ```
/// use dpat_idempotency::{Config, IdempotencyLayer, MemoryStore, Responses};
///
/// let responses = Responses::in_memory(Config::default(), MemoryStore::new());
/// // The scope keeps clients apart: one must not be answered what another was.
/// let layer = IdempotencyLayer::new(responses, |request: &http::request::Parts| {
///     let account = request.headers.get("x-account").and_then(|value| value.to_str().ok());
///     account.unwrap_or("anonymous").to_owned()
/// });
/// # let _ = layer;
/// ```
#[must_use]
pub struct IdempotencyLayer<K, N = Unknown, C = SystemClock> {
    pub(super) shared: Arc<Shared<K, N, C>>,
}

pub(super) struct Shared<K, N, C> {
    pub(super) responses: Responses<C>,
    pub(super) scope: K,
    pub(super) error_effect: N,
    pub(super) options: Options,
}

#[derive(Clone)]
pub(super) struct Options {
    pub(super) header: HeaderName,
    pub(super) required: bool,
    pub(super) methods: Vec<Method>,
    pub(super) request_bytes_max: usize,
    pub(super) upon_status: StatusRule,
}

/// Refused for its rate, before anything was done; every other answer is the answer.
fn upon_status(status: StatusCode) -> UponStatus {
    match status {
        StatusCode::TOO_MANY_REQUESTS => UponStatus::Release,
        _ => UponStatus::Store,
    }
}

impl<K: Fn(&Parts) -> String, C> IdempotencyLayer<K, Unknown, C> {
    /// The largest body of a request unless told otherwise: 1 MiB.
    pub const REQUEST_BYTES_MAX: usize = 1 << 20;

    /// Keeps responses in `responses`, under the scope that `scope` finds in a request.
    ///
    /// The scope must name what clients cannot choose freely: the authenticated account, and the endpoint if several share
    /// the store.
    pub fn new(responses: Responses<C>, scope: K) -> Self {
        Self {
            shared: Arc::new(Shared {
                responses,
                scope,
                error_effect: Unknown,
                options: Options {
                    header: HeaderName::from_static("idempotency-key"),
                    required: false,
                    methods: vec![Method::POST, Method::PATCH],
                    request_bytes_max: Self::REQUEST_BYTES_MAX,
                    upon_status,
                },
            }),
        }
    }
}

impl<K: Clone, N: Clone, C> IdempotencyLayer<K, N, C> {
    /// Reads the key from another header.
    pub fn header(self, header: HeaderName) -> Self {
        self.with(|options| options.header = header)
    }

    /// Refuses watched requests without a key.
    pub fn required(self) -> Self {
        self.with(|options| options.required = true)
    }

    /// Watches these methods. POST and PATCH; the others are idempotent by themselves.
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|options| options.methods = methods.into_iter().collect())
    }

    /// Refuses requests with a key and a larger body. 1 MiB.
    pub fn request_bytes_max(self, bytes: usize) -> Self {
        self.with(|options| options.request_bytes_max = bytes)
    }

    /// Decides by the status what becomes of the key. All are stored, but 429, which releases it.
    pub fn upon_status(self, rule: StatusRule) -> Self {
        self.with(|options| options.upon_status = rule)
    }

    /// Decides by a closure whether an error of the inner service may have had an effect. Otherwise all may.
    ///
    /// An error that surely had none releases the key; any other leaves it in doubt.
    pub fn effect_by<E, F: Fn(&E) -> Effect>(
        self,
        effect: F,
    ) -> IdempotencyLayer<K, EffectBy<F>, C> {
        self.judged(EffectBy(effect))
    }

    /// Asks the errors themselves.
    pub fn by_class(self) -> IdempotencyLayer<K, ByClass, C> {
        self.judged(ByClass)
    }

    fn judged<N2>(self, error_effect: N2) -> IdempotencyLayer<K, N2, C> {
        IdempotencyLayer {
            shared: Arc::new(Shared {
                responses: self.shared.responses.clone(),
                scope: self.shared.scope.clone(),
                error_effect,
                options: self.shared.options.clone(),
            }),
        }
    }

    fn with(self, set: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.shared.options.clone();
        set(&mut options);
        Self {
            shared: Arc::new(Shared {
                responses: self.shared.responses.clone(),
                scope: self.shared.scope.clone(),
                error_effect: self.shared.error_effect.clone(),
                options,
            }),
        }
    }
}

impl<S, K, N, C> Layer<S> for IdempotencyLayer<K, N, C> {
    type Service = IdempotencyService<S, K, N, C>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService::new(inner, Arc::clone(&self.shared))
    }
}

impl<K, N, C> Clone for IdempotencyLayer<K, N, C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K, N, C> fmt::Debug for IdempotencyLayer<K, N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("responses", &self.shared.responses)
            .finish_non_exhaustive()
    }
}
