//! Runs what waits for the disk where it may wait.

use crate::config::Threads;
use crate::error::EngineError;

/// Runs `work`; a future that is dropped meanwhile leaves it running to its end.
pub(crate) async fn run<T: Send + 'static>(
    threads: Threads,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match threads {
        Threads::Caller => work(),
        #[cfg(feature = "tokio")]
        Threads::TokioBlocking => match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(EngineError::abandoned(error)),
        },
    }
}
