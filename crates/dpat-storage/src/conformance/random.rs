//! Random operations against the pure model, and the shrinker.

use dpat_core::{Classify, Effect, Entropy, SplitMix64};

use crate::conformance::model::{Answer, Model, Observed, Tree};
use crate::conformance::{Faults, Harness, Violation, content_of, ensure};
use crate::error::StorageError;
use crate::path::ROOT;
use crate::storage::{File, Kind, Storage};

/// How many seeds a law tries.
const SEEDS: u64 = 64;
/// How many operations a seed draws.
const OPS: usize = 100;

/// How many handles are open at most.
pub(super) const SLOTS: usize = 4;

/// Few paths, so that operations meet: files and directories share some of the names.
const PATHS: [&str; 8] = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a"];

/// One random operation.
///
/// `slot` is one of four places for open files; an operation on an empty slot is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are the arguments of the methods
pub enum Op {
    /// [`Storage::create`] into a slot
    Create { slot: usize, path: &'static str },
    /// [`Storage::open`] into a slot
    Open { slot: usize, path: &'static str },
    /// Drops a handle.
    Close { slot: usize },
    /// [`File::read_at`] until `len` bytes or the end
    Read {
        slot: usize,
        offset: u64,
        len: usize,
    },
    /// [`File::write_at`] of `len` times `byte`
    Write {
        slot: usize,
        offset: u64,
        len: usize,
        byte: u8,
    },
    /// [`File::append`] of `len` times `byte`
    Append { slot: usize, len: usize, byte: u8 },
    /// [`File::truncate`]
    Truncate { slot: usize, len: u64 },
    /// [`File::sync_data`]
    SyncData { slot: usize },
    /// [`Storage::metadata`]
    Metadata { path: &'static str },
    /// [`Storage::rename`]
    Rename {
        from: &'static str,
        to: &'static str,
    },
    /// [`Storage::remove`]
    Remove { path: &'static str },
    /// [`Storage::create_dir`]
    CreateDir { path: &'static str },
    /// [`Storage::remove_dir`]
    RemoveDir { path: &'static str },
    /// [`Storage::list`]
    List { path: &'static str },
    /// [`Storage::sync_dir`]
    SyncDir { path: &'static str },
    /// [`Storage::lock`]
    Lock,
    /// Drops the lock.
    Unlock,
    /// [`Faults::power_cut`]; without faults, [`Harness::reopen`].
    Restart { seed: u64 },
}

impl Op {
    /// Makes an operation of any 64 bits, for generators that shrink by themselves.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let mut bits = Bits(bits);
        let choice = bits.below(64);
        let slot = bits.index(SLOTS);
        let path = PATHS[bits.index(PATHS.len())];
        match choice {
            0..7 => Self::Create { slot, path },
            7..13 => Self::Open { slot, path },
            13..15 => Self::Close { slot },
            15..19 => Self::Read {
                slot,
                offset: bits.below(2048),
                len: bits.index(512),
            },
            19..27 => Self::Write {
                slot,
                offset: bits.below(2048),
                len: bits.index(512),
                byte: bits.byte(),
            },
            27..34 => Self::Append {
                slot,
                len: bits.index(512),
                byte: bits.byte(),
            },
            34..38 => Self::Truncate {
                slot,
                len: bits.below(2048),
            },
            38..43 => Self::SyncData { slot },
            43 => Self::Metadata { path },
            44..48 => Self::Rename {
                from: path,
                to: PATHS[bits.index(PATHS.len())],
            },
            48..50 => Self::Remove { path },
            50..53 => Self::CreateDir { path },
            53 => Self::RemoveDir { path },
            54 => Self::List {
                path: [ROOT, path][bits.index(2)],
            },
            55..60 => Self::SyncDir {
                path: [ROOT, "d", "d/e", path][bits.index(4)],
            },
            60 => Self::Lock,
            61 => Self::Unlock,
            _ => Self::Restart { seed: bits.0 },
        }
    }

    /// The slot that must be filled for the operation to mean something.
    const fn needs_slot(&self) -> Option<usize> {
        match *self {
            Self::Close { slot }
            | Self::Read { slot, .. }
            | Self::Write { slot, .. }
            | Self::Append { slot, .. }
            | Self::Truncate { slot, .. }
            | Self::SyncData { slot } => Some(slot),
            _ => None,
        }
    }
}

/// Takes small numbers off 64 random bits.
struct Bits(u64);

impl Bits {
    fn below(&mut self, bound: u64) -> u64 {
        let taken = self.0 % bound;
        self.0 /= bound;
        taken
    }

    #[allow(clippy::cast_possible_truncation)] // below a `usize`
    fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// Never zero, so that a hole is told from a write.
    #[allow(clippy::cast_possible_truncation)] // below 256
    fn byte(&mut self) -> u8 {
        1 + self.below(255) as u8
    }
}

/// Runs operations on a fresh storage and compares every answer with the model's; restarts are clean.
///
/// # Errors
/// [`Violation`] of the first difference.
pub fn run<H: Harness>(harness: &H, ops: &[Op]) -> Result<(), Violation> {
    run_on(harness.fresh(), ops, |run, _| {
        let storage = run.storage.take().ok_or_else(gone)?;
        run.slots = [const { None }; SLOTS];
        run.lock = None;
        run.model.restart();
        let storage = harness.reopen(storage);
        run.model.matches(&observe(&storage)?)?;
        run.storage = Some(storage);
        Ok(())
    })
}

/// Runs operations as [`run`] does, where a restart is a power cut.
///
/// After each cut the tree must be one that the model allows, and the run goes on from it.
///
/// # Errors
/// [`Violation`] of the first difference.
pub fn run_with_faults<H: Faults>(harness: &H, ops: &[Op]) -> Result<(), Violation> {
    run_on(harness.fresh(), ops, |run, seed| {
        let storage = run.storage.take().ok_or_else(gone)?;
        // The handles are dropped after the cut: they must not reach the new storage.
        let storage = harness.power_cut(storage, seed);
        run.slots = [const { None }; SLOTS];
        run.lock = None;
        run.model.restart();
        run.model = run.model.after_power_cut(&observe(&storage)?)?;
        run.storage = Some(storage);
        Ok(())
    })
}

/// Draws operations from seeds; shrinks what fails.
pub(super) fn search(
    faults: bool,
    run: impl Fn(&[Op]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let label = if faults { "power cuts" } else { "operations" };
    for seed in 0..SEEDS {
        let entropy = SplitMix64::stream(seed, label);
        let mut ops: Vec<Op> = (0..OPS)
            .map(|_| Op::from_bits(entropy.next_u64()))
            .collect();
        if let Err(mut violation) = run(&ops) {
            while let Some((fewer, found)) = one_fewer(&ops, &run) {
                (ops, violation) = (fewer, found);
            }
            return Err(Violation::new(format!(
                "seed {seed}: {violation}, after these {} operations: {ops:#?}",
                ops.len()
            )));
        }
    }
    Ok(())
}

/// Leaves one operation out such that the rest still fails.
fn one_fewer(
    ops: &[Op],
    run: impl Fn(&[Op]) -> Result<(), Violation>,
) -> Option<(Vec<Op>, Violation)> {
    (0..ops.len()).rev().find_map(|left_out| {
        let mut fewer = ops.to_vec();
        fewer.remove(left_out);
        let violation = run(&fewer).err()?;
        Some((fewer, violation))
    })
}

struct Run<S: Storage> {
    /// Taken only while a restart turns it into the next one.
    storage: Option<S>,
    slots: [Option<S::File>; SLOTS],
    lock: Option<S::Lock>,
    model: Model,
}

fn gone() -> Violation {
    Violation::new("the storage was lost by an earlier restart")
}

fn run_on<S: Storage>(
    storage: S,
    ops: &[Op],
    restart: impl Fn(&mut Run<S>, u64) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut run = Run {
        storage: Some(storage),
        slots: [const { None }; SLOTS],
        lock: None,
        model: Model::default(),
    };
    for (at, op) in ops.iter().enumerate() {
        if let Op::Restart { seed } = *op {
            restart(&mut run, seed)?;
            continue;
        }
        if op
            .needs_slot()
            .is_some_and(|slot| run.slots[slot].is_none())
        {
            continue;
        }
        let expected = run.model.apply(op);
        let answer = run.perform(op);
        match (&answer, &expected) {
            (Ok(answer), Ok(expected)) if answer == expected => {}
            (Err(error), Err(kind)) if error.kind() == *kind => ensure!(
                error.effect() == Effect::NotDone,
                "operation {at}, {op:?}: refused with an unknown effect"
            ),
            _ => {
                return Err(Violation::new(format!(
                    "operation {at}, {op:?}: {answer:?}, the model says {expected:?}"
                )));
            }
        }
    }
    let storage = run.storage.as_ref().ok_or_else(gone)?;
    run.model.matches(&observe(storage)?)
}

impl<S: Storage> Run<S> {
    fn perform(&mut self, op: &Op) -> Result<Answer, StorageError> {
        let storage = self
            .storage
            .as_ref()
            .expect("a restart puts the next storage in, or ends the run");
        let slots = &mut self.slots;
        match *op {
            Op::Create { slot, path } => {
                slots[slot] = Some(storage.create(path)?);
            }
            Op::Open { slot, path } => {
                slots[slot] = Some(storage.open(path)?);
            }
            Op::Close { slot } => slots[slot] = None,
            Op::Read { slot, offset, len } => {
                return read(filled(slots, slot), offset, len).map(Answer::Bytes);
            }
            Op::Write {
                slot,
                offset,
                len,
                byte,
            } => {
                filled(slots, slot).write_at(offset, &vec![byte; len])?;
            }
            Op::Append { slot, len, byte } => {
                return filled(slots, slot)
                    .append(&vec![byte; len])
                    .map(Answer::Number);
            }
            Op::Truncate { slot, len } => {
                filled(slots, slot).truncate(len)?;
            }
            Op::SyncData { slot } => {
                filled(slots, slot).sync_data()?;
            }
            Op::Metadata { path } => return storage.metadata(path).map(Answer::Metadata),
            Op::Rename { from, to } => storage.rename(from, to)?,
            Op::Remove { path } => storage.remove(path)?,
            Op::CreateDir { path } => storage.create_dir(path)?,
            Op::RemoveDir { path } => storage.remove_dir(path)?,
            Op::List { path } => return storage.list(path).map(Answer::Entries),
            Op::SyncDir { path } => storage.sync_dir(path)?,
            Op::Lock => self.lock = Some(storage.lock()?),
            Op::Unlock => self.lock = None,
            Op::Restart { .. } => {}
        }
        Ok(Answer::Done)
    }
}

fn filled<F>(slots: &mut [Option<F>; SLOTS], slot: usize) -> &mut F {
    slots[slot]
        .as_mut()
        .expect("operations on empty slots are left out")
}

fn read<F: File>(file: &F, offset: u64, len: usize) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads the whole tree.
fn observe<S: Storage>(storage: &S) -> Result<Tree, StorageError> {
    let mut tree = Tree::new();
    let mut open = vec![String::new()];
    while let Some(directory) = open.pop() {
        for entry in storage.list(&directory)? {
            let path = if directory == ROOT {
                entry.name
            } else {
                format!("{directory}/{}", entry.name)
            };
            let seen = match entry.kind {
                Kind::File => Observed::File(content_of(storage, &path)?),
                Kind::Directory => {
                    open.push(path.clone());
                    Observed::Directory
                }
            };
            tree.insert(path, seen);
        }
    }
    Ok(tree)
}
