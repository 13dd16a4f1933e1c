//! Atomics of `std`, or of loom under `cfg(dpat_loom)`.

#[cfg(dpat_loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(dpat_loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
};
