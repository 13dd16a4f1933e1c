//! Which operation.

use std::fmt;

use dpat_core::{Class, Classify, Effect};

/// The longest scope, in bytes: 255.
pub const SCOPE_BYTES_MAX: usize = 255;

/// The longest id, in bytes: 255.
pub const ID_BYTES_MAX: usize = 255;

/// Names one operation or message: an id within a scope.
///
/// The scope keeps ids of different owners apart: the consumer of a message, the account and endpoint of a request. A
/// key that clients choose must have a scope that they cannot choose, or one client reads what another was answered.
///
/// # Examples
/// ```
/// use dpat_idempotency::Key;
///
/// let key = Key::new("shipping", "order-7")?;
/// assert_eq!((key.scope(), key.id()), ("shipping", "order-7"));
/// assert_eq!(Key::from_bytes(key.as_bytes())?, key);
/// # Ok::<(), dpat_idempotency::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The length of the scope in one byte, the scope, the id.
    bytes: Box<[u8]>,
}

/// A [`Key`] that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The id is empty.
    #[error("id: empty")]
    Empty,
    /// A part is too long.
    #[error("{field}: longer than {limit} bytes")]
    TooLong {
        /// `scope` or `id`.
        field: &'static str,
        /// The largest number of bytes.
        limit: usize,
    },
    /// The bytes are no key.
    #[error("key: the stored bytes are no key")]
    Malformed,
}

impl Classify for KeyError {
    fn class(&self) -> Class {
        match self {
            Self::Empty | Self::TooLong { .. } => Class::InvalidInput,
            Self::Malformed => Class::Corrupt,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

impl Key {
    /// Takes a scope, which may be empty, and an id.
    ///
    /// # Errors
    /// [`KeyError::Empty`], [`KeyError::TooLong`].
    pub fn new(scope: &str, id: &str) -> Result<Self, KeyError> {
        let too_long = |field, limit| Err(KeyError::TooLong { field, limit });
        let Ok(length) = u8::try_from(scope.len()) else {
            return too_long("scope", SCOPE_BYTES_MAX);
        };
        if id.len() > ID_BYTES_MAX {
            return too_long("id", ID_BYTES_MAX);
        }
        if id.is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = [&[length], scope.as_bytes(), id.as_bytes()].concat();
        Ok(Self {
            bytes: bytes.into_boxed_slice(),
        })
    }

    /// Reads the form that [`as_bytes`](Self::as_bytes) gives.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let parts = || {
            let (length, rest) = bytes.split_first()?;
            let (scope, id) = rest.split_at_checked(usize::from(*length))?;
            Some((
                std::str::from_utf8(scope).ok()?,
                std::str::from_utf8(id).ok()?,
            ))
        };
        let (scope, id) = parts().ok_or(KeyError::Malformed)?;
        Self::new(scope, id).map_err(|_| KeyError::Malformed)
    }

    /// Returns the form for stores: different keys have different bytes, and keys of one scope stand together.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.parts().0
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        let scope = usize::from(self.bytes[0]);
        let (scope, id) = self.bytes[1..].split_at(scope);
        let text = |part| std::str::from_utf8(part).unwrap_or_default();
        (text(scope), text(id))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// As `scope/id`, for people; ambiguous where a scope has a slash.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope() {
            "" => f.write_str(self.id()),
            scope => write!(f, "{scope}/{}", self.id()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_are_different_keys() {
        let keys = [
            Key::new("", "a/b").unwrap(),
            Key::new("a", "b").unwrap(),
            Key::new("a/", "b").unwrap(),
            Key::new("ab", "b").unwrap(),
            Key::new("a", "bb").unwrap(),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(Key::from_bytes(key.as_bytes()).as_ref(), Ok(key));
            assert!(keys[..index].iter().all(|other| other != key));
        }
        assert_eq!(keys[0].to_string(), "a/b");
        assert_eq!(keys[1].to_string(), "a/b");
    }

    #[test]
    fn limits_are_named() {
        let long = "x".repeat(256);
        let error = Key::new(&long, "a").unwrap_err();
        assert_eq!(error.to_string(), "scope: longer than 255 bytes");
        let error = Key::new("a", &long).unwrap_err();
        assert_eq!(error.to_string(), "id: longer than 255 bytes");
        assert_eq!(Key::new("a", ""), Err(KeyError::Empty));
        assert!(Key::new(&long[1..], &long[1..]).is_ok());
        assert_eq!(error.class(), Class::InvalidInput);
    }

    #[test]
    fn stored_bytes_are_checked() {
        for bytes in [
            &[][..],
            &[2, b'a'],
            &[1, b'a'],
            &[1, 0xff, b'a'],
            &[0, 0xff],
        ] {
            assert_eq!(Key::from_bytes(bytes), Err(KeyError::Malformed));
        }
    }
}
