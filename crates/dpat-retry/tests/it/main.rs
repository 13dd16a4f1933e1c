//! The integration tests of dpat-retry.

mod retry;
