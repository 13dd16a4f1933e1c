#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(feature = "postcard", feature = "bincode", feature = "json")),
    allow(dead_code, reason = "the guard has no codec to stand around")
)]

mod codec;
mod error;
mod guard;
mod writer;

#[cfg(feature = "bincode")]
pub use codec::Bincode;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, Flat};
pub use error::{DecodeError, EncodeError, REASON_BYTES_MAX};
pub use guard::{BYTES_MAX_DEFAULT, DEPTH_MAX, SPARE_ELEMENTS};
