//! What needs no server.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

mod configs;
