use super::BreakerService;
use crate::{Breaker, ByClass, ErrIsFailure, FailureIf, Verdict, VerdictBy};
use dpat_core::{Clock, SystemClock};
use std::fmt;
use tower_layer::Layer;

/// Puts a breaker before a service.
///
/// All services that one layer makes, and their clones, share the breaker.
///
/// # Examples
/// ```
/// use dpat_breaker::{Breaker, BreakerLayer};
///
/// struct Reply {
///     status: u16,
/// }
/// let breaker = Breaker::default();
/// let layer = BreakerLayer::new(breaker.clone())
///     .failure_if(|r: &Result<Reply, std::io::Error>| r.as_ref().map_or(true, |r| r.status >= 500));
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct BreakerLayer<C = SystemClock, K = ErrIsFailure> {
    breaker: Breaker<C>,
    classifier: K,
}

impl<C: Clock> BreakerLayer<C> {
    /// Makes a layer for which `Err` is a failure.
    #[must_use]
    pub fn new(breaker: Breaker<C>) -> Self {
        Self {
            breaker,
            classifier: ErrIsFailure,
        }
    }
}

impl<C: Clock, K> BreakerLayer<C, K> {
    /// Counts as failures the results that `is_failure` says are. The parameter is a `&Result<Response, Error>`.
    #[must_use]
    pub fn failure_if<R, F: Fn(&R) -> bool>(self, is_failure: F) -> BreakerLayer<C, FailureIf<F>> {
        self.classified(FailureIf(is_failure))
    }

    /// Judges results by a closure that returns an [`Outcome`](crate::Outcome) or a [`Verdict`].
    #[must_use]
    pub fn verdict_by<R, V: Into<Verdict>, F: Fn(&R) -> V>(
        self,
        judge: F,
    ) -> BreakerLayer<C, VerdictBy<F>> {
        self.classified(VerdictBy(judge))
    }

    /// Judges errors by their [`Class`](dpat_core::Class).
    #[must_use]
    pub fn by_class(self) -> BreakerLayer<C, ByClass> {
        self.classified(ByClass)
    }

    /// Judges results by `classifier`.
    #[must_use]
    pub fn classified<K2>(self, classifier: K2) -> BreakerLayer<C, K2> {
        BreakerLayer {
            breaker: self.breaker,
            classifier,
        }
    }
}

impl<S, C: Clock, K: Clone> Layer<S> for BreakerLayer<C, K> {
    type Service = BreakerService<S, C, K>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService::new(inner, self.breaker.clone(), self.classifier.clone())
    }
}

impl<C: Clock, K> fmt::Debug for BreakerLayer<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer")
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
