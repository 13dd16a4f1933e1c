//! The whole disk behind its lock: content, names, faults, and the count of operations.

use std::collections::BTreeMap;
use std::io;

use dpat_core::Entropy;
use dpat_model::{Fault, MILLION};
use dpat_storage::{ErrorKind, Operation, StorageError};

use super::content::{Content, SECTOR_BYTES};
use super::fault::{Flip, Image, Odds, Strike, chance, draws, index};
use super::names::Names;

/// What a name costs besides the bytes of its file.
const NAME_BYTES: u64 = 64;

/// An operation that the disk was asked for, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub operation: Operation,
    /// On what; of a rename, the old name.
    pub path: String,
}

/// What the process is told and what is left behind, of a call that a strike met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Nothing,
    /// So many of a million bytes.
    Some(u32),
    All,
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It does what it does.
    Go,
    /// It does a part, and fails.
    Struck(Part, StorageError),
}

#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) seed: u64,
    pub(super) bytes_max: u64,
    /// Grows with each restart; what carries an older number is closed.
    pub(super) life: u64,
    /// What took it down, until the restart.
    pub(super) down: Option<Strike>,
    pub(super) names: Names,
    pub(super) files: BTreeMap<u64, Inode>,
    pub(super) files_made: u64,
    pub(super) bytes_used: u64,
    pub(super) lock: Option<u64>,
    pub(super) locks_made: u64,
    pub(super) names_unknown: bool,
    pub(super) odds: Odds,
    pub(super) errors_per_million: u32,
    pub(super) is_full: bool,
    /// Operations so far.
    pub(super) operations: u64,
    pub(super) steps: Option<Vec<Step>>,
    pub(super) strikes: BTreeMap<u64, Strike>,
    pub(super) fail_next: Option<Operation>,
    /// Counts what was drawn, so that each event has draws of its own.
    drawn: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) content: Content,
    /// Handles of this life.
    pub(super) handles: u32,
}

impl Disk {
    pub(super) fn new(seed: u64, bytes_max: u64) -> Self {
        Self {
            seed,
            bytes_max,
            life: 0,
            down: None,
            names: Names::default(),
            files: BTreeMap::new(),
            files_made: 0,
            bytes_used: 0,
            lock: None,
            locks_made: 0,
            names_unknown: false,
            odds: Odds::MIXED,
            errors_per_million: 0,
            is_full: false,
            operations: 0,
            steps: None,
            strikes: BTreeMap::new(),
            fail_next: None,
            drawn: 0,
        }
    }

    fn next_draws(&mut self, label: &str) -> dpat_core::SplitMix64 {
        self.drawn += 1;
        draws(self.seed, label, self.drawn)
    }

    /// Fails if the caller is of an earlier life, or the disk is down.
    pub(super) fn check_alive(
        &self,
        life: u64,
        operation: Operation,
        path: &str,
    ) -> Result<(), StorageError> {
        let closed = || StorageError::new(operation, path, ErrorKind::Closed).not_done();
        if life != self.life || self.down.is_some() {
            return Err(closed());
        }
        if operation.changes_names() && self.names_unknown {
            return Err(StorageError::new(
                operation,
                path,
                ErrorKind::AfterFailedSync,
            ));
        }
        Ok(())
    }

    /// Counts an operation with good arguments and decides what becomes of it.
    pub(super) fn reach(&mut self, operation: Operation, path: &str) -> Verdict {
        let at = self.operations;
        self.operations += 1;
        if let Some(steps) = &mut self.steps {
            let path = path.to_owned();
            steps.push(Step { operation, path });
        }
        let ordered = self.fail_next == Some(operation);
        if ordered {
            self.fail_next = None;
        }
        let strike = self.strikes.remove(&at);
        let fails = operation.changes() && self.errors_per_million > 0 && {
            let odds = self.errors_per_million;
            chance(&self.next_draws("error"), odds)
        };
        match strike {
            Some(strike @ (Strike::Crash | Strike::Kill)) => {
                self.down = Some(strike);
                let part = match strike {
                    // Unsynced, and so judged with all the rest.
                    Strike::Crash => Part::All,
                    _ => self.draw_part(),
                };
                let error = StorageError::new(operation, path, ErrorKind::Closed);
                Verdict::Struck(part, error)
            }
            Some(Strike::Fail) => self.failure(operation, path),
            Some(Strike::Full) => {
                self.is_full = true;
                Verdict::Go
            }
            None if ordered || fails => self.failure(operation, path),
            None => Verdict::Go,
        }
    }

    fn draw_part(&mut self) -> Part {
        let entropy = self.next_draws("part");
        match entropy.below(4) {
            0 => Part::Nothing,
            1 => Part::All,
            #[allow(clippy::cast_possible_truncation)] // below a million
            _ => Part::Some(entropy.below(u64::from(MILLION)) as u32),
        }
    }

    fn failure(&mut self, operation: Operation, path: &str) -> Verdict {
        let source = io::Error::other("simulated");
        let error = match operation {
            Operation::SyncData | Operation::SyncDir => {
                StorageError::sync_failed(operation, path, source)
            }
            _ => StorageError::from_io(operation, path, source),
        };
        Verdict::Struck(self.draw_part(), error)
    }

    /// Takes room, or refuses with nothing done.
    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), ErrorKind> {
        if bytes == 0 {
            return Ok(());
        }
        let used = self.bytes_used.saturating_add(bytes);
        if self.is_full || used > self.bytes_max {
            return Err(ErrorKind::NoSpace);
        }
        self.bytes_used = used;
        Ok(())
    }

    pub(super) fn charge_name(&mut self) -> Result<(), ErrorKind> {
        self.charge(NAME_BYTES)
    }

    /// Takes the room for a file that will end at `end`, or refuses with nothing done.
    pub(super) fn charge_end(&mut self, file: u64, end: u64) -> Result<(), ErrorKind> {
        let len = self.inode(file).content.now().len() as u64;
        self.charge(end.saturating_sub(len))
    }

    pub(super) fn inode(&mut self, file: u64) -> &mut Inode {
        self.files.entry(file).or_default()
    }

    /// Forgets files that nobody can reach again, and counts the room anew.
    pub(super) fn collect(&mut self) {
        let named = self.names.files();
        self.files
            .retain(|file, inode| inode.handles > 0 || named.contains(file));
        self.count();
    }

    fn count(&mut self) {
        let bytes: u64 = self
            .files
            .values()
            .map(|inode| inode.content.now().len() as u64)
            .sum();
        self.bytes_used = bytes + self.names.len() as u64 * NAME_BYTES;
    }

    /// A sync of one file that failed.
    pub(super) fn sync_data_in_doubt(&mut self, file: u64) {
        let (odds, entropy) = (self.doubt(), self.next_draws("failed sync"));
        self.inode(file).content.sync_in_doubt(odds, &entropy);
    }

    /// A sync of a directory that failed.
    pub(super) fn sync_dir_in_doubt(&mut self) {
        let (odds, entropy) = (self.doubt(), self.next_draws("failed directory sync"));
        self.names.sync_in_doubt(odds, &entropy);
        self.names_unknown = true;
    }

    /// A failed sync leaves something in doubt even on a disk that loses nothing at crashes.
    fn doubt(&self) -> Odds {
        if self.odds.lost == 0 {
            Odds::MIXED
        } else {
            self.odds
        }
    }

    /// Starts the next life; `image` is what a power cut leaves, none what a killed process does.
    pub(super) fn restart(&mut self, image: Option<Image>) {
        if let Some(image) = image {
            let (odds, seed) = match image {
                Image::Synced => (Odds::NONE, 0),
                Image::Written => (Odds::ALL, 0),
                Image::Drawn(seed) => (self.odds, seed),
            };
            self.lose(odds, seed);
        }
        self.life += 1;
        self.down = None;
        self.lock = None;
        self.names_unknown = false;
        self.fail_next = None;
        self.strikes.clear();
        for inode in self.files.values_mut() {
            inode.handles = 0;
        }
        self.collect();
    }

    fn lose(&mut self, odds: Odds, seed: u64) {
        let seed = self.seed ^ seed.rotate_left(32);
        let made = &mut self.files_made;
        let next = || {
            *made += 1;
            *made
        };
        let copies = self
            .names
            .crash(odds, &draws(seed, "names", self.life), next);
        for (file, inode) in &mut self.files {
            let label = "content";
            let entropy = draws(seed.wrapping_add(*file), label, self.life);
            inode.content.crash(odds, &entropy);
        }
        for (file, copy) in copies {
            let inode = self.inode(file).clone();
            self.files.insert(copy, inode);
        }
    }

    /// Flips one bit in each of so many sectors, drawn from all that are on the medium.
    pub(super) fn corrupt(&mut self, sectors: u64) -> Vec<Flip> {
        let entropy = self.next_draws("corrupt");
        let mut all: Vec<(u64, usize)> = Vec::new();
        for (file, inode) in &self.files {
            let len = inode.content.medium_len();
            all.extend((0..len.div_ceil(SECTOR_BYTES)).map(|sector| (*file, sector)));
        }
        let mut flips = Vec::new();
        for _ in 0..sectors.min(all.len() as u64) {
            let (file, sector) = all.swap_remove(index(&entropy, all.len()));
            let start = sector * SECTOR_BYTES;
            let len = self.inode(file).content.medium_len();
            let offset = start + index(&entropy, SECTOR_BYTES.min(len - start));
            let mask = 1 << entropy.below(8);
            self.inode(file).content.flip(offset, mask);
            if let Some(path) = self.names.path_of(file) {
                let offset = offset as u64;
                flips.push(Flip { path, offset, mask });
            }
        }
        flips
    }

    /// Sets what a fault of the script sets.
    pub(super) fn apply(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::DiskTorn { per_million, .. } => self.odds.torn = *per_million,
            Fault::DiskLost { per_million, .. } => self.odds.lost = *per_million,
            Fault::DiskReorder { per_million, .. } => self.odds.reordered = *per_million,
            Fault::DiskError { per_million, .. } => self.errors_per_million = *per_million,
            Fault::DiskFull { .. } => self.is_full = true,
            Fault::DiskCorrupt { sectors, .. } => {
                self.corrupt(*sectors);
            }
            _ => return false,
        }
        true
    }

    /// Takes back what a fault of the script has set. What is corrupt stays so.
    pub(super) fn undo(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::DiskTorn { .. } => self.odds.torn = 0,
            Fault::DiskLost { .. } => self.odds.lost = 0,
            Fault::DiskReorder { .. } => self.odds.reordered = 0,
            Fault::DiskError { .. } => self.errors_per_million = 0,
            Fault::DiskFull { .. } => self.is_full = false,
            Fault::DiskCorrupt { .. } => {}
            _ => return false,
        }
        true
    }

    pub(super) fn create_file(&mut self) -> u64 {
        self.files_made += 1;
        self.files.insert(self.files_made, Inode::default());
        self.files_made
    }
}
