//! What crashes leave: each outcome that is possible is reached, none that is not.

use std::collections::BTreeSet;

use dpat_sim::disk::{Image, Odds, SECTOR_BYTES, SimDisk};
use dpat_storage::{ErrorKind, File, Kind, ROOT, Storage};

use super::{content, disk_with, names};

const SEEDS: u64 = 200;

/// The outcomes of `look` over many images of what `work` leaves.
fn outcomes<T: Ord>(
    odds: Odds,
    work: impl Fn(&SimDisk),
    look: impl Fn(&SimDisk) -> T,
) -> BTreeSet<T> {
    (0..SEEDS)
        .map(|seed| {
            let disk = disk_with(seed, odds, b"old");
            work(&disk);
            look(&disk.crash())
        })
        .collect()
}

#[test]
fn unsynced_writes_are_lost_kept_and_torn() {
    let data = vec![7; 4 * SECTOR_BYTES];
    let left = outcomes(
        Odds::MIXED,
        |disk| drop(disk.open("f").unwrap().write_at(3, &data)),
        |disk| {
            let bytes = content(disk, "f");
            assert!(bytes.starts_with(b"old"));
            let (rest, torn) = (&bytes[3..], bytes.len() - 3 < data.len());
            let written = rest.iter().filter(|byte| **byte == 7).count();
            assert!(rest.iter().all(|byte| [0, 7].contains(byte)));
            match (written, torn) {
                (0, _) if rest.is_empty() => "lost",
                (0, _) => "only the length",
                (_, true) => "cut",
                (n, _) if n == data.len() => "kept",
                _ if rest[0] == 0 => "without its beginning",
                _ if rest.last() == Some(&0) => "without its end",
                _ => "with a hole",
            }
        },
    );
    let all = [
        "lost",
        "only the length",
        "cut",
        "kept",
        "without its beginning",
        "without its end",
        "with a hole",
    ];
    assert_eq!(left, BTreeSet::from(all));
}

#[test]
fn later_writes_survive_earlier_ones_only_if_reordered() {
    let work = |disk: &SimDisk| {
        let mut file = disk.open("f").unwrap();
        file.write_at(0, b"1").unwrap();
        file.write_at(1, b"2").unwrap();
        file.write_at(0, b"3").unwrap();
    };
    let look = |disk: &SimDisk| String::from_utf8(content(disk, "f")).unwrap();
    let lost_only = |reordered| Odds {
        lost: 500_000,
        torn: 0,
        reordered,
    };
    let in_order = ["old", "1ld", "12d", "32d"];
    let left = outcomes(lost_only(0), work, look);
    assert_eq!(left, in_order.map(str::to_owned).into());
    let any = ["old", "1ld", "12d", "32d", "o2d", "3ld"];
    let left = outcomes(lost_only(1_000_000), work, look);
    assert_eq!(left, any.map(str::to_owned).into());
}

#[test]
fn lengths_are_lost_and_kept() {
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            let mut file = disk.open("f").unwrap();
            file.truncate(1).unwrap();
            file.truncate(5).unwrap();
        },
        |disk| content(disk, "f"),
    );
    let expected: [&[u8]; 4] = [b"old", b"o", b"o\0\0\0\0", b"old\0\0"];
    assert_eq!(left, expected.map(<[u8]>::to_vec).into());
}

#[test]
fn files_are_judged_apart() {
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            for name in ["a", "b"] {
                drop(disk.create(name).unwrap());
            }
            disk.sync_dir(ROOT).unwrap();
            for name in ["a", "b"] {
                disk.open(name).unwrap().append(b"x").unwrap();
            }
        },
        |disk| ["a", "b"].map(|name| content(disk, name) == b"x"),
    );
    assert_eq!(left.len(), 4);
}

#[test]
fn synced_bytes_and_names_are_never_lost() {
    for seed in 0..SEEDS {
        let disk = disk_with(seed, Odds::MIXED, b"synced");
        let mut expected = b"synced".to_vec();
        for round in 0..4_u8 {
            let mut file = disk.open("f").unwrap();
            file.append(&[round; 700]).unwrap();
            expected.extend([round; 700]);
            file.write_at(u64::from(round) * 100, b"over").unwrap();
            let at = usize::from(round) * 100;
            expected[at..at + 4].copy_from_slice(b"over");
            file.sync_data().unwrap();
            drop(disk.create(&format!("n{round}")).unwrap());
            disk.sync_dir(ROOT).unwrap();
        }
        let disk = disk.crash();
        assert_eq!(content(&disk, "f"), expected, "seed {seed}");
        assert_eq!(names(&disk), ["f", "n0", "n1", "n2", "n3"]);
    }
}

#[test]
fn a_name_without_directory_sync_is_lost_or_kept_whatever_its_content() {
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            let mut file = disk.create("g").unwrap();
            file.append(b"x").unwrap();
            file.sync_data().unwrap();
            disk.create("h").unwrap().append(b"y").unwrap();
        },
        |disk| {
            let there = |name| disk.metadata(name).ok().map(|metadata| metadata.len);
            (there("g"), there("h"))
        },
    );
    // Synced content is there if the name is; unsynced content may be missing under a name that is there.
    let [lost, empty, whole] = [None, Some(0), Some(1)];
    let expected = [
        (lost, lost),
        (lost, empty),
        (lost, whole),
        (whole, lost),
        (whole, empty),
        (whole, whole),
    ];
    assert_eq!(left, expected.into());
}

#[test]
fn a_rename_leaves_the_old_the_new_or_both_names() {
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            let mut file = disk.create("new").unwrap();
            file.append(b"new").unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(ROOT).unwrap();
            disk.rename("new", "f").unwrap();
        },
        |disk| {
            // Two files, not two names of one.
            if names(disk).len() == 2 {
                disk.open("new").unwrap().append(b"!").unwrap();
            }
            (content(disk, "f"), names(disk).len())
        },
    );
    let expected = [("old", 2), ("new", 2), ("new", 1)];
    assert_eq!(
        left,
        expected.map(|(text, names)| (text.into(), names)).into()
    );
}

#[test]
fn a_new_directory_needs_the_sync_of_the_one_above() {
    let work = |disk: &SimDisk| {
        disk.create_dir("d").unwrap();
        disk.create("d/f").unwrap().sync_data().unwrap();
        disk.sync_dir("d").unwrap();
    };
    let there = |disk: &SimDisk| (disk.metadata("d").is_ok(), disk.metadata("d/f").is_ok());
    let left = outcomes(Odds::MIXED, work, there);
    assert_eq!(left, [(false, false), (true, true)].into());
    // A rename within it changes nothing about that.
    let rename = |disk: &SimDisk| {
        work(disk);
        disk.rename("d/f", "d/g").unwrap();
        disk.sync_dir("d").unwrap();
    };
    let there = |disk: &SimDisk| (disk.metadata("d").is_ok(), disk.metadata("d/g").is_ok());
    let left = outcomes(Odds::MIXED, rename, there);
    assert_eq!(left, [(false, false), (true, true)].into());
    let there = |disk: &SimDisk| (disk.metadata("d").is_ok(), disk.metadata("d/f").is_ok());
    // The reverse: the directory is synced, the name in it is not.
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            disk.create_dir("d").unwrap();
            disk.sync_dir(ROOT).unwrap();
            drop(disk.create("d/f").unwrap());
        },
        there,
    );
    assert_eq!(left, [(true, false), (true, true)].into());
}

#[test]
fn a_file_moved_into_an_unsynced_directory_is_somewhere() {
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            disk.create_dir("d").unwrap();
            disk.rename("f", "d/g").unwrap();
        },
        |disk| {
            let [old, new] = ["f", "d/g"].map(|path| disk.metadata(path).is_ok());
            assert!(old || new, "the file is lost");
            (old, new)
        },
    );
    assert_eq!(left, [(true, false), (false, true), (true, true)].into());
}

#[test]
fn a_removed_name_comes_back_unless_synced() {
    let remove = |disk: &SimDisk| disk.remove("f").unwrap();
    let left = outcomes(Odds::MIXED, remove, |disk| names(disk).len());
    assert_eq!(left, [0, 1].into());
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            remove(disk);
            disk.sync_dir(ROOT).unwrap();
        },
        |disk| names(disk).len(),
    );
    assert_eq!(left, [0].into());
}

#[test]
fn a_removed_directory_stays_as_long_as_something_in_it_may() {
    let left = outcomes(
        Odds::MIXED,
        |disk| {
            disk.create_dir("d").unwrap();
            drop(disk.create("d/f").unwrap());
            disk.sync_dir("d").unwrap();
            disk.sync_dir(ROOT).unwrap();
            disk.rename("d/f", "g").unwrap();
            disk.remove_dir("d").unwrap();
        },
        |disk| {
            let kind = |path| disk.metadata(path).ok().map(|metadata| metadata.kind);
            assert!(kind("d/f").is_some() || kind("g") == Some(Kind::File));
            kind("d").is_some()
        },
    );
    assert_eq!(left, [false, true].into());
}

#[test]
fn a_killed_process_leaves_all_that_it_wrote() {
    let disk = disk_with(1, Odds::NONE, b"old");
    let mut file = disk.open("f").unwrap();
    file.append(b"er").unwrap();
    disk.rename("f", "g").unwrap();
    let lock = disk.lock().unwrap();
    let next = disk.kill();
    assert_eq!(content(&next, "g"), b"older");
    assert_eq!(file.append(b"!").unwrap_err().kind(), ErrorKind::Closed);
    let _next_lock = next.lock().unwrap();
    drop(lock);
    assert_eq!(next.lock().unwrap_err().kind(), ErrorKind::Locked);
    // It is still not synced.
    assert_eq!(content(&next.crash(), "f"), b"old");
}

#[test]
fn the_same_seed_leaves_the_same_image() {
    let image = |seed, image| {
        let disk = disk_with(seed, Odds::MIXED, &[1; 3_000]);
        for at in 0..20 {
            let mut file = disk.open("f").unwrap();
            file.write_at(at * 97, &[2; 900]).unwrap();
            drop(disk.create(&format!("n{at}")).unwrap());
        }
        let fork = disk.fork();
        let seen = [disk, fork].map(|disk| {
            let disk = disk.crash_to(image);
            (names(&disk), content(&disk, "f"))
        });
        assert_eq!(seen[0], seen[1], "a fork draws the same");
        seen[0].clone()
    };
    let drawn = |seed, number| image(seed, Image::Drawn(number));
    assert_eq!(drawn(1, 1), drawn(1, 1));
    assert_ne!(drawn(1, 1), drawn(1, 2));
    assert_ne!(drawn(1, 1), drawn(2, 1));
    assert_eq!(image(1, Image::Synced), (vec!["f".into()], vec![1; 3_000]));
    assert_eq!(image(1, Image::Written), image(2, Image::Written));
}
