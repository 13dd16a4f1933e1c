//! What a node writes down about the faults it met, for the checks after the end.
//!
//! In a file, one line of JSON an entry, written at once: what was written before a kill is still there after it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::service::ports::{Peer, Step};
use crate::sync::Mutex;

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A call that failed, or any call about an order that is watched.
    Call(Call),
    /// A fault that was injected.
    Fault(Injected),
    /// The queue of shipping is fuller than ever in this life of its node.
    Queued(Queued),
}

/// How full a queue was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
    /// What waited, in bytes.
    pub bytes: u64,
    /// The order whose event came last.
    pub order_id: String,
}

/// One call as its caller saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Who called.
    pub from: Peer,
    /// Which start of the caller, from 0.
    pub incarnation: u32,
    /// Who was called.
    pub to: Peer,
    /// For what.
    pub step: Step,
    /// Which order.
    pub order_id: String,
    /// Which sending, from 0.
    pub attempt: u32,
    /// Taken before the breaker was asked, in microseconds since the start of the run.
    pub start_us: u64,
    /// Taken after the breaker was told.
    pub end_us: u64,
    /// What came back.
    pub outcome: String,
    /// Whether it failed by the callee's fault.
    pub failed: bool,
    /// How many calls to this callee had failed in a row, this one included.
    pub streak: u32,
}

/// One injected fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// When, in microseconds since the start of the run.
    pub at_us: u64,
    /// Where.
    pub target: Peer,
    /// `error`, `drop`, `latency` or `hang`.
    pub kind: String,
    /// Which order was hit.
    pub order_id: String,
    /// At which step.
    pub step: Step,
    /// At which sending.
    pub attempt: u32,
    /// How long, where that has a meaning.
    pub duration_us: Option<u64>,
}

/// Takes entries: into a file, into memory, or nowhere.
#[derive(Clone, Debug)]
pub struct Journal(Sink);

#[derive(Clone, Debug)]
enum Sink {
    Nowhere,
    File(Arc<File>),
    Memory(Arc<Mutex<Vec<Entry>>>),
}

impl Journal {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Sink::File(Arc::new(file))))
    }

    /// Keeps nothing.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self(Sink::Nowhere)
    }

    /// Keeps entries in memory, whatever happens to the node.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Sink::Memory(Arc::default()))
    }

    /// Writes an entry.
    pub fn record(&self, entry: Entry) {
        match &self.0 {
            Sink::Nowhere => {}
            Sink::Memory(entries) => entries.lock().push(entry),
            Sink::File(file) => {
                let Ok(mut line) = serde_json::to_vec(&entry) else {
                    return;
                };
                line.push(b'\n');
                // One write appends one line, whatever else is written. A disk that is full stops the stores first.
                let _ = (&**file).write_all(&line);
            }
        }
    }

    /// Takes the entries that were kept in memory.
    #[must_use]
    pub fn take(&self) -> Vec<Entry> {
        match &self.0 {
            Sink::Memory(entries) => std::mem::take(&mut entries.lock()),
            Sink::Nowhere | Sink::File(_) => Vec::new(),
        }
    }
}

/// Reads a journal; a last line that a kill cut short is left out.
///
/// # Errors
/// Whatever the file system reports. A journal that was never opened is empty.
pub fn read(path: &Path, mut entry: impl FnMut(Entry)) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(parsed) = serde_json::from_slice(&line?) {
            entry(parsed);
        }
    }
    Ok(())
}
