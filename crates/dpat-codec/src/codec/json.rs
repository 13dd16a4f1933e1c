//! JSON.

use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use super::{Codec, Flat};
use crate::error::{DecodeError, EncodeError, reason};
use crate::guard::{BYTES_MAX_DEFAULT, DEPTH_MAX, Guard};
use crate::writer::Bounded;

/// serde_json refuses the 128th list or object by itself; one less, and the refusal is ours, with its type.
const JSON_DEPTH_MAX: u32 = DEPTH_MAX - 2;

/// JSON, compact, for people and other languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json {
    bytes_max: usize,
}

impl Json {
    /// Values of at most [`BYTES_MAX_DEFAULT`] bytes.
    pub const DEFAULT: Self = Self::with_bytes_max(BYTES_MAX_DEFAULT);

    /// Values of at most `bytes_max` bytes.
    #[must_use]
    pub const fn with_bytes_max(bytes_max: usize) -> Self {
        Self { bytes_max }
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl io::Write for Bounded<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.extend(bytes) {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Json {
    fn read<'de, S: DeserializeSeed<'de>>(
        self,
        bytes: &'de [u8],
        seed: S,
        guard: Option<&Guard>,
    ) -> Result<S::Value, DecodeError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let read = seed.deserialize(&mut deserializer);
        guard.map_or(Ok(()), Guard::read)?;
        let value = read.map_err(|error| DecodeError::Malformed {
            codec: Self::NAME,
            reason: reason(&error),
        })?;
        // Blanks may follow.
        match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(DecodeError::Trailing {
                bytes: bytes.len().saturating_sub(offset(bytes, &error)),
            }),
        }
    }

    fn write<T: Serialize>(
        self,
        value: &T,
        out: &mut Vec<u8>,
        guard: Option<&Guard>,
    ) -> Result<(), EncodeError> {
        let mut writer = Bounded::new(out, self.bytes_max);
        let written = serde_json::to_writer(&mut writer, value);
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

/// Returns the index of the byte that an error points to.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let line = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    line + error.column().saturating_sub(1)
}

impl Codec for Json {
    const NAME: &'static str = "json";

    fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let guard = Guard::writing(self.bytes_max, JSON_DEPTH_MAX);
        self.write(&guard.watch(value), out, Some(&guard))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        DecodeError::check_length(bytes, self.bytes_max)?;
        let guard = Guard::reading(bytes.len(), JSON_DEPTH_MAX);
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
