//! The laws of the codecs, seen from outside.

// Clippy's exception for tests does not reach their helpers.
#![allow(clippy::unwrap_used)]

mod evolution;
mod flat;
mod golden;
mod hostile;
mod laws;
mod limits;
mod types;

use dpat_codec::{Bincode, Json, Postcard};

#[global_allocator]
static ALLOCATOR: dpat_testkit::CountingAllocator = dpat_testkit::CountingAllocator;

const POSTCARD: Postcard = Postcard::DEFAULT;
const BINCODE: Bincode = Bincode::DEFAULT;
const JSON: Json = Json::DEFAULT;

/// Runs a check that is generic over the codec with each of the three.
macro_rules! each_codec {
    ($check:expr $(, $arg:expr)*) => {{
        $check(crate::POSTCARD, $($arg),*);
        $check(crate::BINCODE, $($arg),*);
        $check(crate::JSON, $($arg),*);
    }};
}
pub(crate) use each_codec;
