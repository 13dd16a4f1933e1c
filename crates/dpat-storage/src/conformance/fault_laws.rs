//! Laws about power cuts and failing calls. Each holds for every choice of what survives.

use dpat_core::{Classify, Effect};

use crate::conformance::{Faults, Violation, content, content_of, ensure, random, refused};
use crate::error::{ErrorKind, Operation, StorageError};
use crate::path::ROOT;
use crate::storage::{File, Storage};

/// How many choices of survivors each law tries.
const CUTS: u64 = 32;

/// Checks that content and length survive once synced, through whichever handle.
///
/// # Errors
/// [`Violation`].
pub fn synced_content_survives<H: Faults>(harness: &H) -> Result<(), Violation> {
    for seed in 0..CUTS {
        let storage = harness.fresh();
        let mut file = storage.create("f")?;
        storage.sync_dir(ROOT)?;
        file.write_at(0, &[1; 10_000])?;
        file.write_at(5_000, &[2; 100])?;
        file.truncate(9_000)?;
        storage.open("f")?.sync_data()?;
        let storage = harness.power_cut(storage, seed);
        let mut expected = vec![1; 9_000];
        expected[5_000..5_100].fill(2);
        ensure!(
            content_of(&storage, "f")? == expected,
            "cut {seed}: synced content is lost"
        );
    }
    Ok(())
}

/// Checks that created and renamed names survive once their directory is synced.
///
/// # Errors
/// [`Violation`].
pub fn synced_names_survive<H: Faults>(harness: &H) -> Result<(), Violation> {
    for seed in 0..CUTS {
        let storage = harness.fresh();
        drop(storage.create("a")?);
        drop(storage.create("b")?);
        storage.sync_dir(ROOT)?;
        let mut file = storage.open("a")?;
        file.append(b"new")?;
        file.sync_data()?;
        storage.rename("a", "b")?;
        drop(storage.create("c")?);
        storage.sync_dir(ROOT)?;
        let storage = harness.power_cut(storage, seed);
        let names: Vec<_> = storage.list(ROOT)?.into_iter().map(|e| e.name).collect();
        ensure!(names == ["b", "c"], "cut {seed}: the names are {names:?}");
        ensure!(
            content_of(&storage, "b")? == b"new",
            "cut {seed}: the renamed file is not the one that was synced"
        );
    }
    Ok(())
}

/// Checks that removals stay done once their directory is synced.
///
/// # Errors
/// [`Violation`].
pub fn synced_removals_survive<H: Faults>(harness: &H) -> Result<(), Violation> {
    for seed in 0..CUTS {
        let storage = harness.fresh();
        drop(storage.create("f")?);
        storage.create_dir("d")?;
        storage.sync_dir(ROOT)?;
        storage.remove("f")?;
        storage.remove_dir("d")?;
        storage.sync_dir(ROOT)?;
        let storage = harness.power_cut(storage, seed);
        let left = storage.list(ROOT)?;
        ensure!(left.is_empty(), "cut {seed}: {left:?} came back");
    }
    Ok(())
}

/// Checks that a file in a new directory survives once file, directory and the one above are synced.
///
/// # Errors
/// [`Violation`].
pub fn new_directories_survive_by_the_one_above<H: Faults>(harness: &H) -> Result<(), Violation> {
    for seed in 0..CUTS {
        let storage = harness.fresh();
        storage.create_dir("d")?;
        let mut file = storage.create("d/f")?;
        file.append(b"deep")?;
        file.sync_data()?;
        storage.sync_dir("d")?;
        storage.sync_dir(ROOT)?;
        let storage = harness.power_cut(storage, seed);
        ensure!(
            content_of(&storage, "d/f")? == b"deep",
            "cut {seed}: the file is lost"
        );
    }
    Ok(())
}

/// Checks that a cut during a rename leaves the file, and the replaced name, standing for something.
///
/// # Errors
/// [`Violation`].
pub fn a_rename_never_loses_the_file<H: Faults>(harness: &H) -> Result<(), Violation> {
    for seed in 0..CUTS {
        let storage = harness.fresh();
        for (path, bytes) in [("new", b"new"), ("old", b"old")] {
            let mut file = storage.create(path)?;
            file.append(bytes)?;
            file.sync_data()?;
        }
        storage.sync_dir(ROOT)?;
        storage.rename("new", "old")?;
        let storage = harness.power_cut(storage, seed);
        let replaced = content_of(&storage, "old")?;
        if replaced == b"old" {
            ensure!(
                content_of(&storage, "new")? == b"new",
                "cut {seed}: the renamed file is lost"
            );
        } else {
            ensure!(
                replaced == b"new",
                "cut {seed}: the name stands for {replaced:?}"
            );
        }
    }
    Ok(())
}

/// Checks that a cut during writes leaves synced bytes outside their ranges alone.
///
/// # Errors
/// [`Violation`].
pub fn an_unsynced_write_spares_its_neighbours<H: Faults>(harness: &H) -> Result<(), Violation> {
    for seed in 0..CUTS {
        let storage = harness.fresh();
        let mut file = storage.create("f")?;
        file.append(&[1; 3_000])?;
        file.sync_data()?;
        storage.sync_dir(ROOT)?;
        file.write_at(1_000, &[2; 700])?;
        file.append(&[3; 2_000])?;
        let storage = harness.power_cut(storage, seed);
        let bytes = content_of(&storage, "f")?;
        ensure!(
            (3_000..=5_000).contains(&bytes.len()),
            "cut {seed}: the length is {}",
            bytes.len()
        );
        for (at, byte) in bytes.iter().enumerate() {
            let allowed: &[u8] = match at {
                1_000..1_700 => &[1, 2],
                0..3_000 => &[1],
                _ => &[0, 3],
            };
            ensure!(
                allowed.contains(byte),
                "cut {seed}: byte {at} is {byte}, not one of {allowed:?}"
            );
        }
    }
    Ok(())
}

/// Checks that handles from before a cut are finished, and that the lock is free.
///
/// # Errors
/// [`Violation`].
pub fn a_power_cut_ends_handles_and_lock<H: Faults>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.sync_data()?;
    storage.sync_dir(ROOT)?;
    let lock = storage.lock()?;
    let storage = harness.power_cut(storage, 0);
    let new_lock = storage.lock()?;
    let closed = |result: Result<(), StorageError>| match result {
        Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
        other => Err(Violation::new(format!(
            "a handle from before the cut: {other:?}"
        ))),
    };
    closed(file.append(b"ghost").map(|_| ()))?;
    closed(file.write_at(0, b"ghost"))?;
    closed(file.truncate(9))?;
    closed(file.sync_data())?;
    closed(file.read_at(0, &mut [0]).map(|_| ()))?;
    closed(file.len().map(|_| ()))?;
    ensure!(
        content_of(&storage, "f")?.is_empty(),
        "a handle from before the cut wrote"
    );
    drop(lock);
    refused(
        storage.lock(),
        ErrorKind::Locked,
        "the lock after an older guard was dropped",
    )?;
    drop(new_lock);
    Ok(())
}

/// Checks that a failed `sync_data` is unknown, and that the handle refuses everything from then on.
///
/// # Errors
/// [`Violation`].
pub fn a_failed_sync_finishes_the_handle<H: Faults>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.append(b"x")?;
    harness.fail_next(&storage, Operation::SyncData);
    failed(file.sync_data(), ErrorKind::SyncFailed, Effect::Unknown)?;
    let kind = ErrorKind::AfterFailedSync;
    refused(file.sync_data(), kind, "sync_data")?;
    refused(file.append(b"x"), kind, "append")?;
    refused(file.write_at(0, b"x"), kind, "write_at")?;
    refused(file.truncate(0), kind, "truncate")?;
    refused(file.read_at(0, &mut [0]), kind, "read_at")?;
    refused(file.len(), kind, "len")?;
    let mut other = storage.create("g")?;
    other.append(b"x")?;
    other.sync_data()?;
    Ok(())
}

/// Checks that a failed `sync_dir` is unknown, and that changes of names are refused from then on.
///
/// # Errors
/// [`Violation`].
pub fn a_failed_directory_sync_stops_changes_of_names<H: Faults>(
    harness: &H,
) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    storage.create_dir("d")?;
    harness.fail_next(&storage, Operation::SyncDir);
    failed(
        storage.sync_dir(ROOT),
        ErrorKind::SyncFailed,
        Effect::Unknown,
    )?;
    let kind = ErrorKind::AfterFailedSync;
    refused(storage.sync_dir(ROOT), kind, "sync_dir")?;
    refused(storage.sync_dir("d"), kind, "sync_dir of another")?;
    refused(storage.create("g"), kind, "create")?;
    refused(storage.rename("f", "g"), kind, "rename")?;
    refused(storage.remove("f"), kind, "remove")?;
    refused(storage.create_dir("e"), kind, "create_dir")?;
    refused(storage.remove_dir("d"), kind, "remove_dir")?;
    file.append(b"x")?;
    file.sync_data()?;
    drop(file);
    let storage = harness.reopen(storage);
    storage.sync_dir(ROOT)?;
    Ok(())
}

/// Checks that a call that fails midway says so, and that reading calls change nothing.
///
/// # Errors
/// [`Violation`].
pub fn a_failed_change_is_unknown<H: Faults>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.append(b"x")?;
    storage.create_dir("d")?;
    let fail = |operation| harness.fail_next(&storage, operation);
    let unknown = |result| failed(result, ErrorKind::Io, Effect::Unknown);
    fail(Operation::WriteAt);
    unknown(file.write_at(0, b"y"))?;
    fail(Operation::Append);
    unknown(file.append(b"y").map(|_| ()))?;
    fail(Operation::Truncate);
    unknown(file.truncate(1))?;
    fail(Operation::Create);
    unknown(storage.create("g").map(|_| ()))?;
    fail(Operation::CreateDir);
    unknown(storage.create_dir("e"))?;
    fail(Operation::RemoveDir);
    unknown(storage.remove_dir("d"))?;
    fail(Operation::Rename);
    unknown(storage.rename("f", "h"))?;
    drop(storage.create("i")?);
    fail(Operation::Remove);
    unknown(storage.remove("i"))?;

    let not_done = |result| failed(result, ErrorKind::Io, Effect::NotDone);
    fail(Operation::ReadAt);
    not_done(file.read_at(0, &mut [0]).map(|_| ()))?;
    fail(Operation::Len);
    not_done(file.len().map(|_| ()))?;
    drop(storage.create("j")?);
    fail(Operation::Open);
    not_done(storage.open("j").map(|_| ()))?;
    fail(Operation::Metadata);
    not_done(storage.metadata("j").map(|_| ()))?;
    fail(Operation::List);
    not_done(storage.list(ROOT).map(|_| ()))?;
    fail(Operation::Lock);
    not_done(storage.lock().map(|_| ()))?;
    // One failure each: what follows works.
    content(&file)?;
    drop(storage.lock()?);
    Ok(())
}

/// Checks random operations and power cuts against the pure model.
///
/// # Errors
/// [`Violation`] with the seed and the fewest operations that show it.
pub fn random_power_cuts_match_the_model<H: Faults>(harness: &H) -> Result<(), Violation> {
    random::search(true, |ops| random::run_with_faults(harness, ops))
}

fn failed(
    result: Result<(), StorageError>,
    kind: ErrorKind,
    effect: Effect,
) -> Result<(), Violation> {
    match result {
        Err(error) if error.kind() == kind && error.effect() == effect => Ok(()),
        Ok(()) => Err(Violation::new("a call that was made to fail succeeded")),
        Err(error) => Err(Violation::new(format!(
            "{error}: {:?} with {:?}, not {kind:?} with {effect:?}",
            error.kind(),
            error.effect()
        ))),
    }
}
