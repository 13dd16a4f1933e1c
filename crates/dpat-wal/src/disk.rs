//! The storage as a log sees it: its directory, and the making of segment files.

use dpat_core::Entropy;
use dpat_storage::{ErrorKind, File, ROOT, Storage, StorageError};

use crate::config::Config;
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader, seed_of, segment_name};

/// A segment is made under this name.
pub(crate) const SEGMENT_IN_MAKING: &str = "segment.tmp";
/// A snapshot is written under this name.
pub(crate) const SNAPSHOT_IN_MAKING: &str = "snapshot.tmp";

pub(crate) struct Disk<S> {
    pub(crate) storage: S,
    pub(crate) config: Config,
}

/// The segment that is written to.
pub(crate) struct Active<F> {
    pub(crate) file: F,
    pub(crate) first: u64,
    pub(crate) seed: u32,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// How long the file is, or more: what was allocated ahead.
    pub(crate) len: u64,
    /// Everything below is durable.
    pub(crate) synced: u64,
}

impl<S: Storage> Disk<S> {
    pub(crate) fn path(&self, name: &str) -> String {
        match &*self.config.directory {
            ROOT => name.to_owned(),
            directory => format!("{directory}/{name}"),
        }
    }

    /// Makes the names in the log's directory durable.
    pub(crate) fn sync_dir(&self) -> Result<(), StorageError> {
        self.storage.sync_dir(&self.config.directory)
    }

    /// Creates the log's directory, or makes sure of the one that is there.
    pub(crate) fn create_directory(&self) -> Result<(), StorageError> {
        let directory = &*self.config.directory;
        if directory == ROOT {
            return Ok(());
        }
        self.storage.create_dir(directory)?;
        let above = directory.rsplit_once('/').map_or(ROOT, |(above, _)| above);
        if self.config.rules.sync_parent() {
            self.storage.sync_dir(above)?;
        }
        Ok(())
    }

    /// Creates a file that may be left over from an earlier try.
    pub(crate) fn create_anew(&self, name: &str) -> Result<S::File, StorageError> {
        let path = self.path(name);
        match self.storage.create(&path) {
            Err(error) if error.kind() == ErrorKind::Exists => {
                self.storage.remove(&path)?;
                self.storage.create(&path)
            }
            created => created,
        }
    }

    /// Removes a file if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StorageError> {
        match self.storage.remove(&self.path(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Makes an empty segment, durable with its name, in the place of one of that name if there is one.
    ///
    /// It has its name only once it is whole: a segment with a bad head is a damaged one.
    pub(crate) fn make_segment(
        &self,
        first: u64,
        previous: u64,
    ) -> Result<Active<S::File>, StorageError> {
        let salt = self.config.entropy.next_u64();
        let header = SegmentHeader {
            salt,
            first,
            previous,
        };
        let mut file = self.create_anew(SEGMENT_IN_MAKING)?;
        file.write_at(0, &header.encode())?;
        file.sync_data()?;
        let name = segment_name(first);
        let making = self.path(SEGMENT_IN_MAKING);
        self.storage.rename(&making, &self.path(&name))?;
        if self.config.rules.sync_directory() {
            self.sync_dir()?;
        }
        Ok(Active {
            file,
            first,
            seed: seed_of(salt),
            end: SEGMENT_HEADER_BYTES,
            len: SEGMENT_HEADER_BYTES,
            synced: SEGMENT_HEADER_BYTES,
        })
    }
}
