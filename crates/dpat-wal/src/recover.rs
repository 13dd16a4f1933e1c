//! Opening a log that was left behind in whatever state.

use std::collections::BTreeSet;

use dpat_storage::{File, Kind, Storage, StorageError};

use crate::config::Durability;
use crate::disk::{Active, Disk, SEGMENT_IN_MAKING, SNAPSHOT_IN_MAKING};
use crate::error::{CorruptionKind, OpenError};
use crate::format::{
    FRAME_HEADER_BYTES, HEAD_BYTES, LOW, NamedPosition, SEGMENT_HEADER_BYTES, SNAPSHOT,
    SegmentHeader, corrupt, seed_of, segment_first, segment_name,
};
use crate::position::Position;
use crate::rules::Rules;
use crate::segments::{Index, Segment, Segments};
use crate::source::{Source, is_short};
use crate::writer::Writer;

/// How much is written again at once.
const REWRITE_BYTES: usize = 1 << 20;

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The first record that can be read: the low-water mark.
    pub first: Position,
    /// The position of the next record.
    pub end: Position,
    /// The newest snapshot, by what state it holds: that before this position.
    pub snapshot: Option<Position>,
    /// What was cut off behind the last whole record.
    pub torn: Option<TornTail>,
    /// Whether a mark behind the last record says that nothing is missing. It does after
    /// [`close`](crate::Wal::close).
    pub marked: bool,
}

/// A tail that was written in part when the process or the machine died.
///
/// Nothing proves that any of it was ever durable. Normally it was not: its records were not acknowledged. But a disk that
/// rots exactly where the log ended, before the mark behind it was on the disk, looks the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub path: String,
    /// Where the tail began.
    pub offset: u64,
    /// How many bytes it had, the last zeros left out.
    pub bytes: u64,
    /// The position of its first record.
    pub position: Position,
}

pub(crate) struct Recovered<F> {
    pub(crate) writer: Writer<F>,
    pub(crate) segments: Segments,
    pub(crate) snapshots: BTreeSet<NamedPosition>,
    pub(crate) low: NamedPosition,
    pub(crate) recovery: Recovery,
}

/// What the names in the directory tell.
#[derive(Default)]
struct Names {
    segments: BTreeSet<u64>,
    snapshots: BTreeSet<NamedPosition>,
    lows: BTreeSet<NamedPosition>,
    leftovers: Vec<&'static str>,
}

pub(crate) fn recover<S: Storage>(disk: &Disk<S>) -> Result<Recovered<S::File>, OpenError> {
    disk.create_directory()?;
    let mut names = list(disk)?;
    for name in std::mem::take(&mut names.leftovers) {
        disk.remove(name)?;
    }
    let (mut snapshots, low) = renew(disk, &mut names)?;
    let first = low.position;
    let mut headers = headers(disk, &names.segments, first)?;
    // Segments that a compaction had not come to. None of them is needed: the low-water mark is durable.
    let kept = headers
        .iter()
        .rposition(|header| header.first <= first)
        .unwrap_or(0);
    for header in headers.drain(..kept) {
        disk.remove(&segment_name(header.first))?;
    }
    check_chain(disk, &headers, first, &snapshots)?;
    while snapshots.len() > disk.config.snapshots_kept {
        if let Some(old) = snapshots.pop_first() {
            disk.remove(&old.name(SNAPSHOT))?;
        }
    }
    let newest = snapshots.last().map(|snapshot| snapshot.position);
    let mut segments: Vec<Segment> = headers
        .iter()
        .map(|header| Segment::new(header.first))
        .collect();
    let tail = match headers.last() {
        None => {
            segments.push(Segment::new(first));
            Tail::empty(disk.make_segment(first, first)?, first)
        }
        Some(header) => open_tail(disk, header)?,
    };
    if tail.end < first || newest.is_some_and(|newest| newest > tail.end) {
        let path = disk.path(&segment_name(tail.active.first));
        return Err(corrupt(&path, tail.active.end, tail.end, CorruptionKind::Frame).into());
    }
    if let Some(last) = segments.last_mut() {
        last.index = tail.index;
    }
    let (end, durable_end) = (Position(tail.end), tail.active.end);
    Ok(Recovered {
        writer: Writer::new(tail.active, tail.next_index, end),
        segments: Segments {
            all: segments,
            low: first,
            end: durable_end,
        },
        recovery: Recovery {
            first: Position(first),
            end,
            snapshot: newest.map(Position),
            torn: tail.torn,
            marked: tail.marked,
        },
        snapshots,
        low,
    })
}

fn list<S: Storage>(disk: &Disk<S>) -> Result<Names, StorageError> {
    let mut names = Names::default();
    for entry in disk.storage.list(&disk.config.directory)? {
        let name = entry.name.as_str();
        if entry.kind != Kind::File {
            continue;
        }
        if let Some(first) = segment_first(name) {
            names.segments.insert(first);
        } else if let Some(snapshot) = NamedPosition::of(name, SNAPSHOT) {
            names.snapshots.insert(snapshot);
        } else if let Some(low) = NamedPosition::of(name, LOW) {
            names.lows.insert(low);
        } else {
            let leftovers = [SEGMENT_IN_MAKING, SNAPSHOT_IN_MAKING];
            names
                .leftovers
                .extend(leftovers.into_iter().find(|left| *left == name));
        }
    }
    Ok(names)
}

/// Gives what names tell new names, and makes those durable.
fn renew<S: Storage>(
    disk: &Disk<S>,
    names: &mut Names,
) -> Result<(BTreeSet<NamedPosition>, NamedPosition), StorageError> {
    let rename = |named: NamedPosition, extension| {
        let renewed = named.renewed();
        let (from, to) = (named.name(extension), renewed.name(extension));
        disk.storage.rename(&disk.path(&from), &disk.path(&to))?;
        Ok::<_, StorageError>(renewed)
    };
    // The same fact may stand there twice, if a rename was cut in the middle.
    let snapshots = newest_of_each(&names.snapshots);
    let low = names.lows.last().copied();
    let mut renewed = BTreeSet::new();
    for snapshot in &snapshots {
        renewed.insert(rename(*snapshot, SNAPSHOT)?);
    }
    let renewed_low = match low {
        Some(low) => rename(low, LOW)?,
        // From the beginning on: later there may be no room for it.
        None => {
            let low = NamedPosition::new(Position::ZERO);
            drop(disk.create_anew(&low.name(LOW))?);
            low
        }
    };
    disk.sync_dir()?;
    for old in names.snapshots.difference(&snapshots) {
        disk.remove(&old.name(SNAPSHOT))?;
    }
    for old in names.lows.iter().filter(|old| Some(**old) != low) {
        disk.remove(&old.name(LOW))?;
    }
    Ok((renewed, renewed_low))
}

fn newest_of_each(all: &BTreeSet<NamedPosition>) -> BTreeSet<NamedPosition> {
    let is_newest = |one: &&NamedPosition| {
        !all.iter()
            .any(|other| other.position == one.position && other > *one)
    };
    all.iter().filter(is_newest).copied().collect()
}

/// Reads the heads of all segments.
fn headers<S: Storage>(
    disk: &Disk<S>,
    firsts: &BTreeSet<u64>,
    low: u64,
) -> Result<Vec<SegmentHeader>, OpenError> {
    let mut headers = Vec::with_capacity(firsts.len());
    for first in firsts {
        let path = disk.path(&segment_name(*first));
        let damaged = |kind| corrupt(&path, 0, (*first).max(low), kind);
        let file = disk.storage.open(&path)?;
        let mut bytes = [0; HEAD_BYTES];
        match file.read_exact_at(0, &mut bytes) {
            Err(error) if is_short(&error) => return Err(damaged(CorruptionKind::Head).into()),
            read => read?,
        }
        let header = SegmentHeader::decode(&bytes).map_err(|bad| damaged(bad.kind()))?;
        if header.first != *first {
            return Err(damaged(CorruptionKind::Misplaced).into());
        }
        headers.push(header);
    }
    Ok(headers)
}

/// Checks that no segment is missing.
fn check_chain<S: Storage>(
    disk: &Disk<S>,
    headers: &[SegmentHeader],
    low: u64,
    snapshots: &BTreeSet<NamedPosition>,
) -> Result<(), OpenError> {
    let gap = |first: u64, position: u64| {
        let path = disk.path(&segment_name(first));
        Err(corrupt(&path, 0, position, CorruptionKind::Gap).into())
    };
    let Some(oldest) = headers.first() else {
        // Where something was compacted or a snapshot taken, there was a log.
        if low > 0 || !snapshots.is_empty() {
            return gap(low, low);
        }
        return Ok(());
    };
    if oldest.first > low {
        return gap(oldest.first, low);
    }
    for pair in headers.windows(2) {
        if pair[1].previous != pair[0].first {
            return gap(pair[1].first, pair[0].first.max(low));
        }
    }
    Ok(())
}

/// The last segment, made ready to be written to.
struct Tail<F> {
    active: Active<F>,
    end: u64,
    index: Vec<(u64, u64)>,
    next_index: Index,
    torn: Option<TornTail>,
    marked: bool,
}

impl<F> Tail<F> {
    fn empty(active: Active<F>, end: u64) -> Self {
        Self {
            active,
            end,
            index: Vec::new(),
            next_index: Index::default(),
            torn: None,
            marked: false,
        }
    }
}

/// How far the frames of the last segment are whole.
struct Whole {
    /// Behind the last whole frame.
    offset: u64,
    position: u64,
    /// Below this a header says that all was durable.
    proven: u64,
    /// Whether a mark is at `offset`, and whether it is a seal.
    marked: bool,
    sealed: bool,
    index: Vec<(u64, u64)>,
    next_index: Index,
}

/// Finds where the log ends, cuts off what is torn, and makes the rest durable.
fn open_tail<S: Storage>(
    disk: &Disk<S>,
    header: &SegmentHeader,
) -> Result<Tail<S::File>, OpenError> {
    let path = disk.path(&segment_name(header.first));
    let file = disk.storage.open(&path)?;
    let len = file.len()?;
    let seed = seed_of(header.salt);
    let rules = disk.config.rules;
    let mut source = Source::new(file, len, rules);
    let whole = scan(&mut source, header.first, seed)?;
    let (offset, position) = (whole.offset, whole.position);
    if whole.sealed {
        return Err(corrupt(&path, offset, position, CorruptionKind::Cut).into());
    }
    let (was_durable, not_zero) = source.search(offset, seed)?;
    if was_durable && rules.report_damage() {
        return Err(corrupt(&path, offset, position, CorruptionKind::Frame).into());
    }
    let mark_end = offset + FRAME_HEADER_BYTES as u64;
    let marked = whole.marked && not_zero <= mark_end;
    let torn = (not_zero > offset && !marked).then(|| TornTail {
        path: path.clone(),
        offset,
        bytes: not_zero - offset,
        position: Position(position),
    });
    if position == header.first {
        // Made anew, since nobody knows whether the sync of its name has failed.
        drop(source);
        let active = disk.make_segment(header.first, header.previous)?;
        return Ok(Tail {
            torn,
            ..Tail::empty(active, position)
        });
    }
    let mut active = Active {
        file: source.file,
        first: header.first,
        seed,
        end: offset,
        len,
        synced: whole.proven,
    };
    if torn.is_some() && rules.cut_torn_tail() {
        // At once, and durable: no part of it may ever be found behind what is written next.
        active.file.truncate(offset)?;
        active.len = offset;
    }
    match disk.config.durability {
        Durability::PowerLoss => rewrite(&mut active, rules)?,
        Durability::ProcessKill if torn.is_some() => active.file.sync_data()?,
        Durability::ProcessKill => {}
    }
    Ok(Tail {
        active,
        end: position,
        index: whole.index,
        next_index: whole.next_index,
        torn,
        marked,
    })
}

/// Reads whole frames from the beginning on.
fn scan<F: File>(source: &mut Source<F>, first: u64, seed: u32) -> Result<Whole, StorageError> {
    let mut whole = Whole {
        offset: SEGMENT_HEADER_BYTES,
        position: first,
        proven: SEGMENT_HEADER_BYTES,
        marked: false,
        sealed: false,
        index: Vec::new(),
        next_index: Index::default(),
    };
    while let Some(header) = source.header(whole.offset, whole.position, seed)? {
        if header.count == 0 {
            whole.marked = header.synced == whole.offset;
            whole.sealed = whole.marked && header.is_seal();
            whole.proven = whole.proven.max(header.synced.min(whole.offset));
            break;
        }
        if source.payload(whole.offset, &header)?.is_none() {
            break;
        }
        if whole.next_index.wants(whole.offset) {
            whole.next_index.add(whole.offset);
            whole.index.push((whole.position, whole.offset));
        }
        whole.proven = whole.proven.max(header.synced);
        whole.offset += header.frame_bytes();
        whole.position += u64::from(header.count);
    }
    Ok(whole)
}

/// Makes durable what no header proves to be.
///
/// It is written once more: if a sync of it has failed before, the operating system believes that it is on the disk, and
/// another sync alone would do nothing.
fn rewrite<F: File>(active: &mut Active<F>, rules: Rules) -> Result<(), StorageError> {
    let mut buffer = vec![0; REWRITE_BYTES];
    let (mut at, end) = (active.synced, active.end);
    while at < end && rules.rewrite_found() {
        let len = usize::try_from(end - at).map_or(REWRITE_BYTES, |rest| rest.min(REWRITE_BYTES));
        active.file.read_exact_at(at, &mut buffer[..len])?;
        active.file.write_at(at, &buffer[..len])?;
        at += len as u64;
    }
    active.file.sync_data()?;
    active.synced = end;
    Ok(())
}
