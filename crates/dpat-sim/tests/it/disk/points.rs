//! The enumerator: it tries every point, and finds what a program forgets.

use dpat_sim::disk::{CrashPoints, Image, Odds, SimDisk, Strike};
use dpat_storage::{ErrorKind, File, Operation, ROOT, Storage, StorageError};

/// What a small program may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgets {
    Nothing,
    SyncData,
    SyncDir,
    /// Writes over the old content instead of renaming a new file over it.
    Rename,
    /// Takes a leftover of an earlier try for the new file.
    Leftover,
}

/// Replaces the content of `value` by each number in turn, all or nothing.
fn replace(disk: &SimDisk, last: &mut u8, forgets: Forgets) -> Result<(), StorageError> {
    for number in 1..=3 {
        write(disk, &[number; 600], forgets)?;
        *last = number;
    }
    Ok(())
}

fn write(disk: &SimDisk, content: &[u8], forgets: Forgets) -> Result<(), StorageError> {
    if forgets == Forgets::Rename {
        let mut file = match disk.open("value") {
            Err(error) if error.kind() == ErrorKind::NotFound => disk.create("value")?,
            opened => opened?,
        };
        file.write_at(0, content)?;
        file.sync_data()?;
        return disk.sync_dir(ROOT);
    }
    let mut file = match disk.create("new") {
        Err(error) if error.kind() == ErrorKind::Exists => {
            if forgets != Forgets::Leftover {
                disk.remove("new")?;
                disk.create("new")?
            } else {
                disk.open("new")?
            }
        }
        created => created?,
    };
    file.append(content)?;
    if forgets != Forgets::SyncData {
        file.sync_data()?;
    }
    disk.rename("new", "value")?;
    if forgets != Forgets::SyncDir {
        disk.sync_dir(ROOT)?;
    }
    Ok(())
}

/// The last value that was promised, or the one after it; and it can be replaced again.
fn check(disk: &SimDisk, last: u8, forgets: Forgets) -> Result<(), String> {
    let value = read(disk)?;
    if value != last && value != last + 1 && value != 9 {
        return Err(format!("{value} instead of {last}"));
    }
    write(disk, &[9; 600], forgets).map_err(|error| error.to_string())?;
    match read(disk)? {
        9 => Ok(()),
        other => Err(format!("{other} after the recovery")),
    }
}

fn read(disk: &SimDisk) -> Result<u8, String> {
    let file = match disk.open("value") {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut bytes = vec![0; usize::try_from(file.len().unwrap_or(0)).unwrap()];
    file.read_exact_at(0, &mut bytes)
        .map_err(|e| e.to_string())?;
    match bytes.first() {
        Some(first) if bytes.len() == 600 && bytes.iter().all(|byte| byte == first) => Ok(*first),
        _ => Err(format!("a mixture of {} bytes", bytes.len())),
    }
}

fn enumerate(
    points: &CrashPoints,
    forgets: Forgets,
) -> Result<dpat_sim::disk::CrashReport, dpat_sim::disk::CrashFailure> {
    points.run(
        |disk, last| drop(replace(disk, last, forgets)),
        |disk, last: &u8, _| check(disk, *last, forgets),
    )
}

#[test]
fn a_careful_program_passes_every_point() {
    let report = enumerate(&CrashPoints::new(1).images(10), Forgets::Nothing).unwrap();
    assert_eq!((report.operations, report.points), (15, 30));
    // Synced, written and ten drawn for each crash, one for each kill, and one undisturbed.
    let images = 15 * 12 + 15 + 1;
    assert_eq!(report.images, images + report.recoveries);
    assert!(report.recoveries > 5 * images - 50, "{report:?}");
    for operation in [
        Operation::Create,
        Operation::Append,
        Operation::SyncData,
        Operation::Rename,
        Operation::SyncDir,
    ] {
        for strike in [Strike::Crash, Strike::Kill] {
            assert_eq!(report.struck[&(strike, operation)], 3, "{report:?}");
        }
    }
}

#[test]
fn failures_strike_reads_too() {
    let strikes = [Strike::Fail, Strike::Full];
    let points = CrashPoints::new(1).strikes(&strikes).crash_recovery(false);
    let report = points
        .run(
            |disk, last| drop(replace(disk, last, Forgets::Nothing).and_then(|()| disk.list(ROOT))),
            |disk, last: &u8, _| check(disk, *last, Forgets::Nothing),
        )
        .unwrap();
    assert_eq!((report.operations, report.points), (16, 32));
    assert_eq!(report.struck[&(Strike::Fail, Operation::List)], 1);
}

#[test]
fn what_a_program_forgets_is_found_and_replays() {
    for forgets in [
        Forgets::SyncData,
        Forgets::SyncDir,
        Forgets::Rename,
        Forgets::Leftover,
    ] {
        let points = CrashPoints::new(1).images(20);
        let failure = enumerate(&points, forgets).unwrap_err();
        let again = enumerate(&points.clone().only(failure.point.unwrap()), forgets);
        assert_eq!(again.unwrap_err().message, failure.message, "{failure}");
    }
}

#[test]
fn failures_name_point_operation_and_reason() {
    let failure = enumerate(&CrashPoints::new(1), Forgets::SyncDir).unwrap_err();
    let text = failure.to_string();
    assert!(text.starts_with("seed 1, crash at operation "), "{text}");
    assert!(
        text.contains("image synced (create \"new\"): 0 instead of 1"),
        "{text}"
    );
}

#[test]
fn panics_and_failures_without_a_crash_are_told() {
    let points = CrashPoints::new(1);
    let failure = points
        .run(|_, _: &mut ()| (), |_, (), _| Err("always".into()))
        .unwrap_err();
    assert_eq!(failure.to_string(), "seed 1, undisturbed: always");
    let failure = points
        .run(
            |disk, ()| drop(disk.create("f")),
            |_, (), point| {
                assert!(point.is_none(), "only undisturbed");
                Ok(())
            },
        )
        .unwrap_err();
    assert_eq!(failure.message, "panic: only undisturbed");
}

#[test]
fn odds_decide_what_drawn_images_leave() {
    for (odds, lost) in [(Odds::ALL, false), (Odds::NONE, true)] {
        let points = CrashPoints::new(1).odds(odds).images(5);
        let mut drawn = 0;
        points
            .run(
                |disk, ()| {
                    if let Ok(mut file) = disk.create("f") {
                        let _ = file.append(b"x");
                    }
                },
                |disk, (), point| {
                    if let Some(Image::Drawn(_)) = point.map(|point| point.image) {
                        drawn += 1;
                        assert_eq!(disk.metadata("f").is_err(), lost);
                    }
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!(drawn, 10);
    }
}
