//! postcard.

use std::marker::PhantomData;

use ::postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use super::{Codec, Flat};
use crate::error::{DecodeError, EncodeError, reason};
use crate::guard::{BYTES_MAX_DEFAULT, DEPTH_MAX, Guard};
use crate::writer::Bounded;

/// [postcard](https://postcard.jamesmunns.com/wire-format): compact, not self-describing, with a published specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Postcard {
    bytes_max: usize,
}

impl Postcard {
    /// Values of at most [`BYTES_MAX_DEFAULT`] bytes.
    pub const DEFAULT: Self = Self::with_bytes_max(BYTES_MAX_DEFAULT);

    /// Values of at most `bytes_max` bytes.
    #[must_use]
    pub const fn with_bytes_max(bytes_max: usize) -> Self {
        Self { bytes_max }
    }
}

impl Default for Postcard {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Flavor for &mut Bounded<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> ::postcard::Result<()> {
        if self.extend(bytes) {
            Ok(())
        } else {
            Err(::postcard::Error::SerializeBufferFull)
        }
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> ::postcard::Result<()> {
        if self.push(byte) {
            Ok(())
        } else {
            Err(::postcard::Error::SerializeBufferFull)
        }
    }

    fn finalize(self) -> ::postcard::Result<()> {
        Ok(())
    }
}

impl Postcard {
    fn read<'de, S: DeserializeSeed<'de>>(
        self,
        bytes: &'de [u8],
        seed: S,
        guard: Option<&Guard>,
    ) -> Result<S::Value, DecodeError> {
        let mut deserializer = ::postcard::Deserializer::from_bytes(bytes);
        let read = seed.deserialize(&mut deserializer);
        // Before the codec's own error, which a passed limit has caused.
        guard.map_or(Ok(()), Guard::read)?;
        let malformed = |error| DecodeError::Malformed {
            codec: Self::NAME,
            reason: reason(&error),
        };
        let value = read.map_err(malformed)?;
        match deserializer.finalize().map_err(malformed)?.len() {
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
        let mut serializer = ::postcard::Serializer {
            output: &mut writer,
        };
        let written = value.serialize(&mut serializer);
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

impl Codec for Postcard {
    const NAME: &'static str = "postcard";

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
