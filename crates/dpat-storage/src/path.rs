//! Which paths a storage accepts.

use std::fmt;

/// The longest name in a path, in bytes.
///
/// Encrypting file systems leave 143 bytes of the usual 255.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 512;

/// The path of the storage's own directory.
pub const ROOT: &str = "";

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathError {
    /// The path is empty, where the root directory is not meant.
    Empty,
    /// The path begins with `/`.
    Absolute,
    /// Two `/` follow each other, or the path ends with one.
    EmptyName {
        /// Byte position of the missing name.
        position: usize,
    },
    /// A name begins or ends with a dot (`.` and `..` among them).
    Dot {
        /// Byte position of the name.
        position: usize,
    },
    /// A character other than `a`–`z`, `0`–`9`, `.`, `_` and `-`.
    Character {
        /// The character.
        found: char,
        /// Its byte position.
        position: usize,
    },
    /// A name is longer than [`NAME_BYTES_MAX`].
    NameTooLong {
        /// Byte position of the name.
        position: usize,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The path is longer than [`PATH_BYTES_MAX`].
    PathTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("path: is empty"),
            Self::Absolute => f.write_str("path: must be relative"),
            Self::EmptyName { position } => write!(f, "path: empty name at byte {position}"),
            Self::Dot { position } => {
                write!(
                    f,
                    "path: the name at byte {position} begins or ends with a dot"
                )
            }
            Self::Character { found, position } => write!(
                f,
                "path: {found:?} at byte {position} is none of a-z 0-9 . _ -"
            ),
            Self::NameTooLong { position, bytes } => write!(
                f,
                "path: the name at byte {position} has {bytes} bytes, the limit is {NAME_BYTES_MAX}"
            ),
            Self::PathTooLong { bytes } => {
                write!(f, "path: has {bytes} bytes, the limit is {PATH_BYTES_MAX}")
            }
        }
    }
}

impl std::error::Error for PathError {}

/// Checks the path of a file.
///
/// Implementations of [`Storage`](crate::Storage) call this first.
///
/// # Errors
/// [`PathError`]: see the rules of [`Storage`](crate::Storage#paths).
pub fn check_file_path(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::PathTooLong { bytes: path.len() });
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    let mut position = 0;
    for name in path.split('/') {
        check_name(name, position)?;
        position += name.len() + 1;
    }
    Ok(())
}

/// Checks the path of a directory: as a file's, or [`ROOT`].
///
/// # Errors
/// [`PathError`]: see the rules of [`Storage`](crate::Storage#paths).
pub fn check_dir_path(path: &str) -> Result<(), PathError> {
    if path == ROOT {
        Ok(())
    } else {
        check_file_path(path)
    }
}

fn check_name(name: &str, position: usize) -> Result<(), PathError> {
    if name.is_empty() {
        return Err(PathError::EmptyName { position });
    }
    if name.starts_with('.') || name.ends_with('.') {
        return Err(PathError::Dot { position });
    }
    let refused = |c: char| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    if let Some((at, found)) = name.char_indices().find(|&(_, c)| refused(c)) {
        return Err(PathError::Character {
            found,
            position: position + at,
        });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(PathError::NameTooLong {
            position,
            bytes: name.len(),
        });
    }
    Ok(())
}

/// The directories above a checked path, the outermost first, the root left out.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_error() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let deep = "d/".repeat(PATH_BYTES_MAX / 2) + "f";
        let table: &[(&str, Result<(), PathError>)] = &[
            ("0001.wal", Ok(())),
            ("orders/0001_a-b.wal", Ok(())),
            ("", Err(PathError::Empty)),
            ("/etc", Err(PathError::Absolute)),
            ("a//b", Err(PathError::EmptyName { position: 2 })),
            ("a/", Err(PathError::EmptyName { position: 2 })),
            ("a/../b", Err(PathError::Dot { position: 2 })),
            (".", Err(PathError::Dot { position: 0 })),
            (".lock", Err(PathError::Dot { position: 0 })),
            ("a.", Err(PathError::Dot { position: 0 })),
            (
                "a/B",
                Err(PathError::Character {
                    found: 'B',
                    position: 2,
                }),
            ),
            (
                "a\0",
                Err(PathError::Character {
                    found: '\0',
                    position: 1,
                }),
            ),
            (
                "a\\b",
                Err(PathError::Character {
                    found: '\\',
                    position: 1,
                }),
            ),
            (
                &long,
                Err(PathError::NameTooLong {
                    position: 0,
                    bytes: 129,
                }),
            ),
            (&deep, Err(PathError::PathTooLong { bytes: 513 })),
        ];
        for (path, expected) in table {
            assert_eq!(check_file_path(path), *expected, "{path:?}");
        }
        assert_eq!(check_dir_path(ROOT), Ok(()));
        assert_eq!(check_dir_path("/"), Err(PathError::Absolute));
    }

    #[test]
    fn the_longest_names_pass() {
        assert_eq!(check_file_path(&"n".repeat(NAME_BYTES_MAX)), Ok(()));
        let deep = "d/".repeat(PATH_BYTES_MAX / 2 - 1) + "ff";
        assert_eq!(deep.len(), PATH_BYTES_MAX);
        assert_eq!(check_file_path(&deep), Ok(()));
    }

    #[test]
    fn ancestors_go_inwards() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(ancestors("a").count(), 0);
    }
}
