//! HTTP between the services: an axum server and a pooled hyper client.

mod client;
mod server;

pub use client::HttpTransport;
pub use server::{ServeError, Server};

/// Which order a call is about.
const ORDER: &str = "x-dpat-order";
/// Which sending of the call this is, from 0.
const ATTEMPT: &str = "x-dpat-attempt";
/// How many milliseconds the caller still waits.
const DEADLINE_MS: &str = "x-dpat-deadline-ms";
/// Whether a failed call surely had no effect.
const EFFECT: &str = "x-dpat-effect";
/// The value of [`EFFECT`] that says so.
const NOT_DONE: &str = "not-done";
/// Largest body, both ways.
const BODY_BYTES_MAX: usize = 64 << 10;
