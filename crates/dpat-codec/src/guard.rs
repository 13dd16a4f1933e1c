//! Limits that the compact codecs do not have themselves: depth, elements, and what is reserved on a mere claim.

mod de;
mod ser;

use std::cell::Cell;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use self::de::Guarded;
use self::ser::Watched;

use crate::error::{DecodeError, EncodeError};

/// The deepest nesting: 128 levels (JSON: 126).
///
/// A level is a list, map, tuple, struct, enum, option that is present, or newtype struct within another; boxes are none.
/// The codecs either have no limit, or one that some of these pass by.
pub const DEPTH_MAX: u32 = 128;

/// How many more elements than input bytes a value may have: 1024.
///
/// Elements of lists and sets and entries of maps count, over the whole value. One that takes a byte or more never
/// reaches the limit; without it, a few bytes can claim 2^60 elements of no bytes.
pub const SPARE_ELEMENTS: usize = 1024;

/// The largest number of bytes of one value unless told otherwise: 1 MiB.
pub const BYTES_MAX_DEFAULT: usize = 1 << 20;

/// A limit that was passed.
#[derive(Clone, Copy, Debug)]
enum Breach {
    Depth,
    Elements,
}

/// What is left of the limits while one value is read or written.
///
/// The depth is passed down by value, so that no way out has to restore it.
#[derive(Debug)]
pub(crate) struct Guard {
    depth_max: u32,
    elements_max: usize,
    elements: Cell<usize>,
    /// How many elements may still be reserved before they are read.
    hints_left: Cell<usize>,
    breach: Cell<Option<Breach>>,
}

impl Guard {
    /// For reading `bytes` bytes.
    pub(crate) fn reading(bytes: usize, depth_max: u32) -> Self {
        Self {
            depth_max,
            elements_max: bytes.saturating_add(SPARE_ELEMENTS),
            elements: Cell::new(0),
            hints_left: Cell::new(bytes),
            breach: Cell::new(None),
        }
    }

    /// For writing at most `bytes_max` bytes; [`written`](Self::written) knows the true number.
    pub(crate) fn writing(bytes_max: usize, depth_max: u32) -> Self {
        Self::reading(bytes_max, depth_max)
    }

    /// Returns what reads a value under this guard.
    pub(crate) fn seed<'de, T: DeserializeOwned>(&self) -> impl DeserializeSeed<'de, Value = T> {
        Guarded::outermost(PhantomData::<T>, self)
    }

    /// Returns what writes a value under this guard.
    pub(crate) fn watch<'a, T: Serialize + ?Sized>(&'a self, value: &'a T) -> impl Serialize + 'a {
        Watched::outermost(value, self)
    }

    /// Goes down a level.
    #[inline]
    fn enter(&self, left: u32) -> Option<u32> {
        let deeper = left.checked_sub(1);
        if deeper.is_none() {
            self.breach.set(Some(Breach::Depth));
        }
        deeper
    }

    /// Counts an element.
    #[inline]
    fn count(&self) -> bool {
        let elements = self.elements.get() + 1;
        self.elements.set(elements);
        let within = elements <= self.elements_max;
        if !within {
            self.breach.set(Some(Breach::Elements));
        }
        within
    }

    /// Cuts a claimed length to what the input can hold.
    ///
    /// All claims of a value share one budget of an element a byte: nested lists that each claim much reserve no more
    /// together than one that does. True claims are never cut, unless of elements without bytes, which need no room.
    #[inline]
    fn reserve(&self, claimed: usize) -> usize {
        let left = self.hints_left.get();
        let granted = claimed.min(left);
        self.hints_left.set(left - granted);
        granted
    }

    /// Fails if a limit was passed, whatever the type made of the error.
    pub(crate) fn read(&self) -> Result<(), DecodeError> {
        match self.limit() {
            None => Ok(()),
            Some((field, limit)) => Err(DecodeError::Limit { field, limit }),
        }
    }

    /// Fails if a limit was passed, or if reading `bytes` bytes would pass it.
    pub(crate) fn written(&self, bytes: usize) -> Result<(), EncodeError> {
        let elements_max = bytes.saturating_add(SPARE_ELEMENTS);
        if self.breach.get().is_none() && self.elements.get() > elements_max {
            return Err(EncodeError::Limit {
                field: "elements",
                limit: elements_max as u64,
            });
        }
        match self.limit() {
            None => Ok(()),
            Some((field, limit)) => Err(EncodeError::Limit { field, limit }),
        }
    }

    fn limit(&self) -> Option<(&'static str, u64)> {
        match self.breach.get()? {
            Breach::Depth => Some(("depth", u64::from(self.depth_max))),
            Breach::Elements => Some(("elements", self.elements_max as u64)),
        }
    }
}

/// What serde is told; the typed error is made from the guard afterwards.
const BREACH: &str = "limit of depth or elements passed";
