//! Builder and validation.

use std::fmt;
use std::sync::Arc;

use dpat_core::{Entropy, SystemEntropy};
use dpat_storage::{ROOT, check_dir_path};

use crate::error::ConfigError;
use crate::format::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, frame_bytes};
use crate::rules::Rules;

/// The largest `frame_bytes_max`.
const FRAME_BYTES_LIMIT: u64 = 1 << 30;
/// The largest `segment_bytes`.
const SEGMENT_BYTES_LIMIT: u64 = 4 << 30;

/// What an acknowledged record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// A power cut: records are acknowledged once they are synced.
    #[default]
    PowerLoss,
    /// The end of the process, however it ends: records are acknowledged once they are written.
    ///
    /// A power cut loses what the operating system had not yet written back, which no caller is told. Segments are
    /// synced when they are full and when the log is closed.
    ProcessKill,
}

/// How a log is laid out, and how much it may take. Made by a [`ConfigBuilder`].
#[derive(Clone)]
pub struct Config {
    pub(crate) directory: Box<str>,
    pub(crate) segment_bytes: u64,
    pub(crate) frame_bytes_max: u64,
    pub(crate) pending_bytes_max: u64,
    pub(crate) waiters_max: usize,
    pub(crate) preallocate_bytes: u64,
    pub(crate) snapshots_kept: usize,
    pub(crate) durability: Durability,
    pub(crate) locks: bool,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) rules: Rules,
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder {
            config: Self::default(),
        }
    }

    /// Returns what an acknowledged record survives.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Returns how large a record or batch may be, in bytes.
    #[must_use]
    pub const fn frame_bytes_max(&self) -> u64 {
        self.frame_bytes_max
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: ROOT.into(),
            segment_bytes: 64 << 20,
            frame_bytes_max: 16 << 20,
            pending_bytes_max: 32 << 20,
            waiters_max: 65_536,
            preallocate_bytes: 256 << 10,
            snapshots_kept: 2,
            durability: Durability::PowerLoss,
            locks: true,
            entropy: Arc::new(SystemEntropy),
            rules: Rules::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("directory", &self.directory)
            .field("segment_bytes", &self.segment_bytes)
            .field("frame_bytes_max", &self.frame_bytes_max)
            .field("pending_bytes_max", &self.pending_bytes_max)
            .field("waiters_max", &self.waiters_max)
            .field("preallocate_bytes", &self.preallocate_bytes)
            .field("snapshots_kept", &self.snapshots_kept)
            .field("durability", &self.durability)
            .field("locks", &self.locks)
            .finish_non_exhaustive()
    }
}

/// Configures a log.
///
/// # Examples
/// ```
/// use dpat_wal::{Config, ConfigError};
///
/// let config = Config::builder().directory("orders").segment_bytes(16 << 20).frame_bytes_max(1 << 20).build()?;
/// # let _ = config;
/// let refused = Config::builder().segment_bytes(1).build();
/// assert!(matches!(refused, Err(ConfigError::OutOfRange { field: "segment_bytes", .. })));
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ConfigBuilder {
    config: Config,
}

impl ConfigBuilder {
    /// Sets the directory within the storage; the storage's own by default. It is created if it is not there; those
    /// above must be.
    pub fn directory(mut self, path: &str) -> Self {
        self.config.directory = path.into();
        self
    }

    /// Sets how large a segment file grows; 64 MiB by default, at most 4 GiB.
    ///
    /// At least the largest frame and 128 bytes. Compaction removes whole segments.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.config.segment_bytes = bytes;
        self
    }

    /// Sets how large a record, and a batch with four bytes for each of its records, may be; 16 MiB by default, 1 GiB
    /// at most.
    ///
    /// A log can be opened with a smaller limit than it was written with.
    pub fn frame_bytes_max(mut self, bytes: u64) -> Self {
        self.config.frame_bytes_max = bytes;
        self
    }

    /// Sets how many bytes may wait for the commit under way; 32 MiB by default, at least one frame.
    ///
    /// Whoever appends waits for room beyond that. As much again is under way.
    pub fn pending_bytes_max(mut self, bytes: u64) -> Self {
        self.config.pending_bytes_max = bytes;
        self
    }

    /// Sets how many callers may wait at once; 65 536 by default. More are refused.
    pub fn waiters_max(mut self, callers: usize) -> Self {
        self.config.waiters_max = callers;
        self
    }

    /// Sets in which steps a segment grows ahead of what is written to it; 256 KiB by default, 0 for not at all.
    ///
    /// Writing over bytes that are there spares the file system a change of the file's length at each commit.
    pub fn preallocate_bytes(mut self, bytes: u64) -> Self {
        self.config.preallocate_bytes = bytes;
        self
    }

    /// Sets how many snapshots are kept, the newest; 2 by default, 1 to 100.
    pub fn snapshots_kept(mut self, snapshots: usize) -> Self {
        self.config.snapshots_kept = snapshots;
        self
    }

    /// Sets what an acknowledged record survives; a power cut by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.durability = durability;
        self
    }

    /// Leaves the storage's lock alone: whoever opens several logs in one storage holds it already.
    pub fn without_lock(mut self) -> Self {
        self.config.locks = false;
        self
    }

    /// Sets where the salts of segments come from; [`SystemEntropy`] by default.
    pub fn entropy(mut self, entropy: impl Entropy + 'static) -> Self {
        self.config.entropy = Arc::new(entropy);
        self
    }

    /// Leaves a rule out, to see that tests find it.
    #[cfg(feature = "test-util")]
    pub fn mutant(mut self, mutant: Option<crate::testing::Mutant>) -> Self {
        self.config.rules = Rules { left_out: mutant };
        self
    }

    /// Validates the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of its range.
    pub fn build(self) -> Result<Config, ConfigError> {
        let config = self.config;
        check_dir_path(&config.directory).map_err(ConfigError::Directory)?;
        let one_frame =
            |payload: u64| frame_bytes(usize::try_from(payload).unwrap_or(usize::MAX / 2));
        let frame = config.frame_bytes_max;
        within("frame_bytes_max", frame, 1, FRAME_BYTES_LIMIT)?;
        // The header, the frame, and the mark behind it.
        let least = SEGMENT_HEADER_BYTES + one_frame(frame) + FRAME_HEADER_BYTES as u64;
        within(
            "segment_bytes",
            config.segment_bytes,
            least,
            SEGMENT_BYTES_LIMIT,
        )?;
        within(
            "pending_bytes_max",
            config.pending_bytes_max,
            one_frame(frame),
            SEGMENT_BYTES_LIMIT,
        )?;
        within("waiters_max", config.waiters_max as u64, 1, 1 << 24)?;
        within(
            "preallocate_bytes",
            config.preallocate_bytes,
            0,
            config.segment_bytes,
        )?;
        within("snapshots_kept", config.snapshots_kept as u64, 1, 100)?;
        Ok(config)
    }
}

fn within(field: &'static str, given: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange {
        field,
        given,
        min,
        max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_range() {
        let check = |builder: ConfigBuilder, expected: &str| {
            let error = builder.build().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        let small = || Config::builder().frame_bytes_max(8).segment_bytes(200);
        let built = small().pending_bytes_max(40).preallocate_bytes(0).build();
        assert_eq!(built.unwrap().segment_bytes, 200);
        assert!(Config::builder().build().is_ok());
        check(
            Config::builder().frame_bytes_max(0),
            "frame_bytes_max: 0 is not between 1 and 1073741824",
        );
        check(
            Config::builder().segment_bytes(16 << 20),
            "segment_bytes: 16777216 is not between 16777344 and 4294967296",
        );
        check(
            small().pending_bytes_max(39),
            "pending_bytes_max: 39 is not between 40 and 4294967296",
        );
        check(
            Config::builder().waiters_max(0),
            "waiters_max: 0 is not between 1 and 16777216",
        );
        check(
            small().preallocate_bytes(201),
            "preallocate_bytes: 201 is not between 0 and 200",
        );
        check(
            Config::builder().snapshots_kept(0),
            "snapshots_kept: 0 is not between 1 and 100",
        );
        check(
            Config::builder().directory("../up"),
            "directory: path: the name at byte 0 begins or ends with a dot",
        );
    }
}
