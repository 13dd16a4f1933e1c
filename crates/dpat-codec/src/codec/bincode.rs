//! bincode 2.

use std::marker::PhantomData;

use ::bincode::config;
use ::bincode::enc::write::Writer;
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use super::{Codec, Flat};
use crate::error::{DecodeError, EncodeError, reason};
use crate::guard::{DEPTH_MAX, Guard};
use crate::writer::Bounded;

/// What bincode counts for a byte of input at most: the 16 bytes of a `u128` that is written in one.
const CLAIMS_PER_BYTE: usize = 16;

/// bincode 2.0.1 in its standard configuration (little-endian, variable-length integers), always with a limit.
///
/// `CLAIMS_MAX` is bincode's own limit, on the bytes of the decoded numbers and text; those are at most 16 times the
/// input. [`bytes_max`](Codec::bytes_max) is therefore a sixteenth of it: 1 MiB by default.
///
/// The crate is unmaintained (RUSTSEC-2025-0141); choose it for data that is in this form already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bincode<const CLAIMS_MAX: usize = { 16 << 20 }> {
    bytes_max: usize,
}

impl<const CLAIMS_MAX: usize> Bincode<CLAIMS_MAX> {
    /// Values of at most a sixteenth of `CLAIMS_MAX` bytes.
    pub const DEFAULT: Self = Self {
        bytes_max: CLAIMS_MAX / CLAIMS_PER_BYTE,
    };

    /// Values of at most `bytes_max` bytes, or of a sixteenth of `CLAIMS_MAX` if that is less.
    #[must_use]
    pub const fn with_bytes_max(bytes_max: usize) -> Self {
        if bytes_max < Self::DEFAULT.bytes_max {
            Self { bytes_max }
        } else {
            Self::DEFAULT
        }
    }

    fn config()
    -> config::Configuration<config::LittleEndian, config::Varint, config::Limit<CLAIMS_MAX>> {
        config::standard().with_limit::<CLAIMS_MAX>()
    }
}

impl<const CLAIMS_MAX: usize> Default for Bincode<CLAIMS_MAX> {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Writer for Bounded<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), ::bincode::error::EncodeError> {
        if self.extend(bytes) {
            Ok(())
        } else {
            Err(::bincode::error::EncodeError::UnexpectedEnd)
        }
    }
}

impl<const CLAIMS_MAX: usize> Bincode<CLAIMS_MAX> {
    fn read<'de, S: DeserializeSeed<'de>>(
        self,
        bytes: &'de [u8],
        seed: S,
        guard: Option<&Guard>,
    ) -> Result<S::Value, DecodeError> {
        let read = ::bincode::serde::seed_decode_from_slice(seed, bytes, Self::config());
        guard.map_or(Ok(()), Guard::read)?;
        let (value, used) = read.map_err(|error| DecodeError::Malformed {
            codec: Self::NAME,
            reason: reason(&error),
        })?;
        match bytes.len() - used {
            0 => Ok(value),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }

    fn write<T: Serialize>(
        self,
        value: &T,
        out: &mut Vec<u8>,
        guard: Option<&Guard>,
    ) -> Result<(), EncodeError> {
        let mut writer = Bounded::new(out, self.bytes_max);
        let written = ::bincode::serde::encode_into_writer(value, &mut writer, Self::config());
        writer.check()?;
        guard.map_or(Ok(()), |guard| guard.written(writer.written()))?;
        written.map_err(|error| EncodeError::Unsupported {
            codec: Self::NAME,
            reason: reason(&error),
        })?;
        writer.finish();
        Ok(())
    }
}

impl<const CLAIMS_MAX: usize> Codec for Bincode<CLAIMS_MAX> {
    const NAME: &'static str = "bincode";

    fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let guard = Guard::writing(self.bytes_max, DEPTH_MAX);
        self.write(&guard.watch(value), out, Some(&guard))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        DecodeError::check_length(bytes, self.bytes_max)?;
        let guard = Guard::reading(bytes.len(), DEPTH_MAX);
        self.read(bytes, guard.seed::<T>(), Some(&guard))
    }

    fn encode_flat<T: Serialize + Flat + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.write(&value, out, None)
    }

    fn decode_flat<T: DeserializeOwned + Flat>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        DecodeError::check_length(bytes, self.bytes_max)?;
        self.read(bytes, PhantomData::<T>, None)
    }
}
