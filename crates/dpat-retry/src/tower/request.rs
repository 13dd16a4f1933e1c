//! What middleware must know about a request.

use dpat_core::Deadline;

/// How a request is repeated, and by when it must be answered.
pub trait RequestRule<Req> {
    /// Makes a copy for a further attempt, or none if the request can be sent only once.
    fn repeat(&self, request: &Req) -> Option<Req>;

    /// Returns the deadline that the request carries.
    fn deadline(&self, request: &Req) -> Deadline {
        let _ = request;
        Deadline::NEVER
    }
}

/// Repeats a request by its `Clone`; it carries no deadline.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClone;

impl<Req: Clone> RequestRule<Req> for ByClone {
    fn repeat(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

/// Repeats a request by a closure.
#[derive(Clone, Copy, Debug)]
pub struct WithClone<F>(pub(crate) F);

impl<Req, F: Fn(&Req) -> Option<Req>> RequestRule<Req> for WithClone<F> {
    fn repeat(&self, request: &Req) -> Option<Req> {
        (self.0)(request)
    }
}

/// Another rule, with a closure that finds the deadline.
#[derive(Clone, Copy, Debug)]
pub struct WithDeadline<Q, F> {
    pub(crate) rule: Q,
    pub(crate) deadline: F,
}

impl<Req, Q, F> RequestRule<Req> for WithDeadline<Q, F>
where
    Q: RequestRule<Req>,
    F: Fn(&Req) -> Deadline,
{
    fn repeat(&self, request: &Req) -> Option<Req> {
        self.rule.repeat(request)
    }

    fn deadline(&self, request: &Req) -> Deadline {
        self.rule
            .deadline(request)
            .earlier((self.deadline)(request))
    }
}
