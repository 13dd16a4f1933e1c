//! Everything that makes a call survive faults, in one place.

use dpat_core::Deadline;

use super::service::ports::{CallError, Peer, Reply, Request, Transport};

/// A transport whose calls survive faults.
#[derive(Clone, Debug)]
pub struct Policy<T> {
    inner: T,
}

impl<T: Transport> Policy<T> {
    /// Wraps a transport.
    pub fn new(inner: T) -> Self {
        Self { inner }
    }
}

impl<T: Transport> Transport for Policy<T> {
    async fn call(
        &self,
        peer: Peer,
        request: Request,
        deadline: Deadline,
    ) -> Result<Reply, CallError> {
        self.inner.call(peer, request, deadline).await
    }
}
