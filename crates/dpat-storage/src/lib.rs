#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod any;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
#[cfg(all(unix, feature = "fs"))]
mod fs;
mod mem;
mod path;
mod storage;
mod sync;

pub use any::AnyStorage;
pub use error::{ErrorKind, Operation, StorageError};
#[cfg(all(unix, feature = "fs"))]
pub use fs::{FsFile, FsLock, FsStorage};
pub use mem::{MemFile, MemLock, MemStorage};
pub use path::{NAME_BYTES_MAX, PATH_BYTES_MAX, PathError, ROOT, check_dir_path, check_file_path};
pub use storage::{Entry, FILE_BYTES_MAX, File, Kind, LIST_ENTRIES_MAX, Metadata, Storage};
