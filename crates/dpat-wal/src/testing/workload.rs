//! What a program does with a log.

use dpat_core::{Entropy, SplitMix64};
use dpat_storage::{ErrorKind, Storage, StorageError};

use super::ledger::Ledger;
use super::mutant::Mutant;
use crate::batch::Batch;
use crate::config::{Config, Durability};
use crate::error::{Corruption, OpenError, ReadError};
use crate::log::Wal;
use crate::position::Position;
use crate::recover::Recovery;

/// Numbers from here on are those of records that checks append.
const PROBES: u64 = 1 << 40;
/// How often a log that fails to open is tried again: each ordered failure strikes once.
const TRIES: usize = 3;

/// One thing that a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Appends one record and waits for it.
    Append {
        /// Its bytes, 8 at least.
        bytes: usize,
    },
    /// Appends a batch and waits for it.
    Batch {
        /// Its records.
        records: u64,
        /// The bytes of each.
        bytes: usize,
    },
    /// Submits records, and then waits for all: they are committed as one group.
    Group {
        /// How many.
        records: u64,
        /// The bytes of each.
        bytes: usize,
    },
    /// Submits a record and does not wait for it.
    Submit {
        /// Its bytes.
        bytes: usize,
    },
    /// Takes a snapshot of all that is durable.
    Snapshot,
    /// Gives up what the oldest snapshot covers; all but the last records if there is none.
    Compact,
    /// Waits for a sync.
    Sync,
    /// Ends the program, and starts it again.
    Restart(Restart),
}

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It closes the log.
    Close,
    /// It drops the log, or is killed.
    Kill,
    /// Its machine loses power.
    PowerCut,
}

/// How the log is laid out: small, so that few records fill a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// See [`ConfigBuilder::segment_bytes`](crate::ConfigBuilder::segment_bytes).
    pub segment_bytes: u64,
    /// See [`ConfigBuilder::preallocate_bytes`](crate::ConfigBuilder::preallocate_bytes).
    pub preallocate_bytes: u64,
    /// Whether the log is in a directory of its own.
    pub in_directory: bool,
    /// See [`Durability`].
    pub durability: Durability,
}

/// Actions in their order, and the shape of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The seed of salts.
    pub seed: u64,
    /// The log.
    pub shape: Shape,
    /// What is done.
    pub actions: Vec<Action>,
    /// The rule that is left out.
    pub mutant: Option<Mutant>,
}

/// What a check has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The records that were read.
    pub records: u64,
    /// The bytes that recovery cut off.
    pub torn_bytes: u64,
}

/// What a damaged log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Damage {
    /// That it is damaged, and where.
    Reported,
    /// That its tail was torn, and where.
    Torn,
    /// Nothing: all that was promised is there.
    Harmless,
}

impl Workload {
    /// A fixed workload with every kind of action, and a handful of segments.
    #[must_use]
    pub fn of_every_kind() -> Self {
        let actions = vec![
            Action::Append { bytes: 20 },
            Action::Batch {
                records: 3,
                bytes: 30,
            },
            // A group is followed by a record of the size of its first: what is left of the group must not follow it.
            Action::Group {
                records: 3,
                bytes: 50,
            },
            Action::Append { bytes: 50 },
            Action::Snapshot,
            Action::Append { bytes: 180 },
            Action::Restart(Restart::Kill),
            Action::Submit { bytes: 9 },
            Action::Group {
                records: 3,
                bytes: 90,
            },
            Action::Append { bytes: 90 },
            Action::Snapshot,
            Action::Compact,
            Action::Restart(Restart::PowerCut),
            Action::Append { bytes: 200 },
            Action::Sync,
            Action::Snapshot,
            Action::Compact,
            Action::Restart(Restart::Close),
            Action::Append { bytes: 8 },
        ];
        Self {
            seed: 1,
            shape: Shape {
                segment_bytes: 640,
                preallocate_bytes: 256,
                in_directory: true,
                durability: Durability::PowerLoss,
            },
            actions,
            mutant: None,
        }
    }

    /// Draws a workload of so many actions.
    #[must_use]
    pub fn drawn(seed: u64, actions: usize) -> Self {
        let entropy = SplitMix64::stream(seed, "wal workload");
        // Few sizes, so that what is left of one write often ends where another one does.
        let sizes = [80, 80, 200].map(|most| 8 + usize::try_from(entropy.below(most)).unwrap_or(0));
        let bytes = || sizes[usize::try_from(entropy.below(3)).unwrap_or(0)];
        let shape = Shape {
            segment_bytes: 512 + 64 * entropy.below(16),
            preallocate_bytes: [0, 128, 256, 512][usize::try_from(entropy.below(4)).unwrap_or(0)],
            in_directory: entropy.below(2) == 0,
            durability: Durability::PowerLoss,
        };
        let restart = || match entropy.below(4) {
            0 => Restart::Close,
            1 => Restart::Kill,
            _ => Restart::PowerCut,
        };
        let mut drawn = Vec::new();
        while drawn.len() < actions {
            match entropy.below(16) {
                0..5 => drawn.push(Action::Append { bytes: bytes() }),
                5..7 => drawn.push(Action::Batch {
                    records: 1 + entropy.below(5),
                    bytes: sizes[0] / 4 + 8,
                }),
                7..9 => drawn.push(Action::Group {
                    records: 2 + entropy.below(6),
                    bytes: bytes(),
                }),
                9 => drawn.push(Action::Submit { bytes: bytes() }),
                10 => drawn.push(Action::Snapshot),
                11 => drawn.push(Action::Compact),
                12 => drawn.push(Action::Sync),
                13 => drawn.push(Action::Restart(restart())),
                // What is left of a group must not be found behind a record of the size of its first.
                _ => {
                    let bytes = bytes();
                    let records = 3 + entropy.below(4);
                    drawn.push(Action::Group { records, bytes });
                    drawn.push(Action::Append { bytes });
                    drawn.push(Action::Restart(restart()));
                }
            }
        }
        let actions = drawn;
        Self {
            seed,
            shape,
            actions,
            mutant: None,
        }
    }

    /// The same with a rule left out.
    #[must_use]
    pub fn with_mutant(mut self, mutant: Option<Mutant>) -> Self {
        self.mutant = mutant;
        self
    }

    fn config(&self) -> Config {
        let builder = Config::builder()
            .directory(if self.shape.in_directory { "log" } else { "" })
            .segment_bytes(self.shape.segment_bytes)
            .frame_bytes_max(256)
            .pending_bytes_max(2048)
            .preallocate_bytes(self.shape.preallocate_bytes)
            .durability(self.shape.durability)
            .entropy(SplitMix64::stream(self.seed, "wal salts"))
            .mutant(self.mutant);
        builder
            .build()
            .expect("every shape is one that a log can have")
    }

    /// Does it all on a storage, as far as that goes, and writes down what was promised.
    ///
    /// `restart` ends a life of the storage and returns the next, or none if that was the last. It is also called for a
    /// storage that is down already; the work goes on with the action that found it so.
    pub fn run<S: Storage + Clone>(
        &self,
        storage: &S,
        ledger: &mut Ledger,
        mut restart: impl FnMut(&S, Restart) -> Option<S>,
    ) {
        let mut run = Run {
            workload: self,
            storage: storage.clone(),
            wal: None,
        };
        for action in &self.actions {
            let planned = match action {
                Action::Restart(how) => Some(*how),
                _ => None,
            };
            for _ in 0..TRIES {
                let how = match planned {
                    Some(how) => how,
                    // Not done: the storage was found down, and the next life does it.
                    None => match run.act(*action, ledger) {
                        Ok(()) => break,
                        Err(Ended::Over) => return,
                        Err(Ended::Down) => Restart::PowerCut,
                    },
                };
                run.end(how);
                match restart(&run.storage, how) {
                    Some(next) => run.storage = next,
                    None => return,
                }
                if planned.is_some() {
                    break;
                }
            }
        }
    }

    /// Opens what is left, compares it with what was promised, and appends to it. It may be called again on what it left.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check<S: Storage + Clone>(&self, storage: &S, ledger: &Ledger) -> Result<Found, String> {
        if let Some(violation) = ledger.violation() {
            return Err(violation.to_owned());
        }
        let (wal, first, numbers, torn_bytes) = self.open(storage, ledger)?;
        let end = first.after(numbers.len() as u64);
        let probe = PROBES + end.0;
        let at = wal.append(&record(probe, 24)).wait();
        let at = at.map_err(|error| format!("after recovery: {error}"))?;
        if at != end {
            return Err(format!("after recovery the end is {at}, not {end}"));
        }
        let back = wal.read(at).map_err(|error| error.to_string())?;
        if back.as_deref() != Some(&record(probe, 24)) {
            return Err(format!("after recovery record {probe} reads as {back:?}"));
        }
        drop(wal);
        let (wal, _, again, _) = self.open(storage, ledger)?;
        let mut expected = numbers;
        expected.push(probe);
        if again != expected {
            return Err(format!(
                "a second recovery found {again:?}, not {expected:?}"
            ));
        }
        wal.close().map_err(|error| error.to_string())?;
        Ok(Found {
            records: expected.len() as u64,
            torn_bytes,
        })
    }

    /// Opens a log whose medium was damaged: it says so, or has all that was promised.
    ///
    /// Of a log that was not closed, the last records may be cut off as a torn tail, if it says that.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_damaged<S: Storage + Clone>(
        &self,
        storage: &S,
        ledger: &Ledger,
        was_closed: bool,
    ) -> Result<Damage, String> {
        if let Some(violation) = ledger.violation() {
            return Err(violation.to_owned());
        }
        let (wal, recovery) = match Wal::open(storage.clone(), self.config()) {
            Ok(opened) => opened,
            Err(OpenError::Corrupt(_)) => return Ok(Damage::Reported),
            Err(OpenError::Storage(error)) => return Err(error.to_string()),
        };
        match seen(&wal, &recovery, ledger) {
            Ok(_) => Ok(Damage::Harmless),
            Err(Trouble::Damaged(_)) => Ok(Damage::Reported),
            Err(_) if recovery.torn.is_some() && !was_closed => Ok(Damage::Torn),
            Err(trouble) => Err(trouble.to_string()),
        }
    }

    /// Opens the log and compares all that is in it.
    fn open<S: Storage + Clone>(
        &self,
        storage: &S,
        ledger: &Ledger,
    ) -> Result<(Wal<S>, Position, Vec<u64>, u64), String> {
        let opened = Wal::open(storage.clone(), self.config());
        let (wal, recovery) = opened.map_err(|error| format!("not opened: {error}"))?;
        let numbers = seen(&wal, &recovery, ledger).map_err(|trouble| trouble.to_string())?;
        let torn_bytes = recovery.torn.map_or(0, |torn| torn.bytes);
        Ok((wal, recovery.first, numbers, torn_bytes))
    }
}

/// Why an action was not done.
enum Ended {
    /// The storage is down.
    Down,
    /// The log cannot be opened, or is not what it should be.
    Over,
}

struct Run<'a, S: Storage> {
    workload: &'a Workload,
    storage: S,
    wal: Option<Wal<S>>,
}

impl<S: Storage + Clone> Run<'_, S> {
    fn end(&mut self, how: Restart) {
        if let Some(wal) = self.wal.take() {
            if how == Restart::Close {
                // What this fails to make durable was acknowledged or not before.
                drop(wal.close());
            }
        }
    }

    /// Opens the log if it is not open or has failed. What recovery finds settles all doubts.
    fn wal(&mut self, ledger: &mut Ledger) -> Result<Wal<S>, Ended> {
        let failed = |wal: &Wal<S>| wal.shared().state().machine.failure().is_some();
        if self.wal.as_ref().is_some_and(failed) {
            self.wal = None;
        }
        for _ in 0..TRIES {
            if let Some(wal) = &self.wal {
                return Ok(wal.clone());
            }
            let config = self.workload.config();
            match Wal::open(self.storage.clone(), config) {
                Ok((wal, recovery)) => match seen(&wal, &recovery, ledger) {
                    Ok(numbers) => {
                        ledger.settle(recovery.first, &numbers);
                        self.wal = Some(wal);
                    }
                    // A read that was made to fail tells nothing.
                    Err(Trouble::Failed(_)) => {}
                    Err(trouble) => {
                        ledger.violate(trouble.to_string());
                        return Err(Ended::Over);
                    }
                },
                Err(OpenError::Corrupt(corruption)) => {
                    ledger.violate(format!("not opened: {corruption}"));
                    return Err(Ended::Over);
                }
                Err(OpenError::Storage(error)) if error.kind() == ErrorKind::Closed => {
                    return Err(Ended::Down);
                }
                Err(OpenError::Storage(_)) => {}
            }
        }
        Err(Ended::Over)
    }

    fn act(&mut self, action: Action, ledger: &mut Ledger) -> Result<(), Ended> {
        let wal = self.wal(ledger)?;
        match action {
            Action::Append { bytes } => group(&wal, ledger, 1, bytes),
            Action::Group { records, bytes } => group(&wal, ledger, records, bytes),
            Action::Batch { records, bytes } => {
                let first = ledger.submit(records);
                let batch: Batch = (first..first + records)
                    .map(|number| record(number, bytes))
                    .collect();
                let answer = wal.append_batch(&batch).wait();
                ledger.answer(first, &answer);
            }
            Action::Submit { bytes } => {
                let number = ledger.submit(1);
                let record = record(number, bytes);
                if let Err(error) = wal.append(&record).submit().map(drop) {
                    ledger.answer(number, &Err(error));
                }
            }
            Action::Snapshot => {
                let position = wal.durable();
                let state = state_before(position);
                let taken = wal.snapshot(position).and_then(|mut writer| {
                    writer.write(&state)?;
                    writer.finish()
                });
                if taken.is_ok() {
                    ledger.confirm_snapshot(position);
                }
            }
            Action::Compact => {
                let all_but_some = Position(wal.durable().0.saturating_sub(5));
                let low = wal.oldest_snapshot().unwrap_or(all_but_some);
                ledger.try_low(low);
                if wal.compact(low).is_ok() {
                    ledger.confirm_low(low);
                }
            }
            Action::Sync => drop(wal.sync_blocking()),
            Action::Restart(_) => {}
        }
        Ok(())
    }
}

/// Compares all that is in a log that was just opened, and returns the numbers of its records.
fn seen<S: Storage>(
    wal: &Wal<S>,
    recovery: &Recovery,
    ledger: &Ledger,
) -> Result<Vec<u64>, Trouble> {
    let numbers = numbers_of(wal, recovery.first, recovery.end)?;
    let snapshot = snapshot_of(wal, recovery.end)?;
    if snapshot != recovery.snapshot {
        return Err(Trouble::Wrong(format!(
            "recovery told of another snapshot: {recovery:?}"
        )));
    }
    let compared = ledger.compare(recovery.first, &numbers, snapshot);
    compared.map(|()| numbers).map_err(Trouble::Wrong)
}

/// Submits records and waits for all of them.
fn group<S: Storage>(wal: &Wal<S>, ledger: &mut Ledger, records: u64, bytes: usize) {
    let mut waiting = Vec::new();
    for _ in 0..records {
        let number = ledger.submit(1);
        match wal.append(&record(number, bytes)).submit() {
            Ok(appending) => waiting.push((number, appending)),
            Err(error) => ledger.answer(number, &Err(error)),
        }
    }
    for (number, appending) in waiting {
        let answer = appending.wait();
        ledger.answer(number, &answer);
    }
}

/// The bytes of a record: its number, and what follows from it.
fn record(number: u64, bytes: usize) -> Vec<u8> {
    let mut record = number.to_le_bytes().to_vec();
    let entropy = SplitMix64::new(number);
    while record.len() < bytes {
        record.extend_from_slice(&entropy.next_u64().to_le_bytes());
    }
    record.truncate(bytes.max(8));
    record
}

/// The state before a position, as snapshots hold it.
fn state_before(position: Position) -> Vec<u8> {
    record(!position.0, 100)
}

/// Why a log was not read, or not as it should be.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("not read: {0}")]
    Failed(StorageError),
    #[error("{0}")]
    Damaged(Corruption),
    #[error("{0}")]
    Wrong(String),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Storage(error) => Self::Failed(error),
            ReadError::Corrupt(corruption) => Self::Damaged(corruption),
            other => Self::Wrong(other.to_string()),
        }
    }
}

fn numbers_of<S: Storage>(
    wal: &Wal<S>,
    first: Position,
    end: Position,
) -> Result<Vec<u64>, Trouble> {
    let mut reader = wal.reader(first)?;
    let mut numbers = Vec::new();
    while let Some(found) = reader.next_ready()? {
        let mut number = [0; 8];
        if let Some(head) = found.bytes.get(..8) {
            number.copy_from_slice(head);
        }
        let number = u64::from_le_bytes(number);
        let position = found.position;
        if found.bytes != record(number, found.bytes.len()) {
            return Err(Trouble::Wrong(format!(
                "the record at {position} is none of ours"
            )));
        }
        let expected = first.after(numbers.len() as u64);
        if position != expected {
            return Err(Trouble::Wrong(format!("{expected} is read as {position}")));
        }
        numbers.push(number);
    }
    if reader.position() != end {
        let position = reader.position();
        return Err(Trouble::Wrong(format!(
            "{position} was read, the end is {end}"
        )));
    }
    Ok(numbers)
}

/// Reads the newest snapshot whole, and returns its position.
fn snapshot_of<S: Storage>(wal: &Wal<S>, end: Position) -> Result<Option<Position>, Trouble> {
    let Some(mut snapshot) = wal.latest_snapshot()? else {
        return Ok(None);
    };
    let position = snapshot.position();
    let state = snapshot.read_to_end()?;
    if state != state_before(position) || position > end {
        return Err(Trouble::Wrong(format!(
            "the snapshot at {position} is none of ours"
        )));
    }
    Ok(Some(position))
}
