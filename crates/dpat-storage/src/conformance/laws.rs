//! Laws that need no faults. Each is a small program with a known answer.

use crate::conformance::{Harness, Violation, content, content_of, ensure, random, refused};
use crate::error::ErrorKind;
use crate::path::{NAME_BYTES_MAX, PATH_BYTES_MAX, ROOT, check_file_path};
use crate::storage::{Entry, FILE_BYTES_MAX, File, Kind, Metadata, Storage};

/// Checks that `create` makes an empty file and refuses a name that is taken, leaving what is there.
///
/// # Errors
/// [`Violation`].
pub fn create_refuses_a_taken_name<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    ensure!(file.is_empty()?, "a created file is not empty");
    ensure!(file.path() == "f", "its path is {:?}", file.path());
    file.append(b"kept")?;
    storage.create_dir("d")?;
    refused(storage.create("f"), ErrorKind::Exists, "create on a file")?;
    refused(
        storage.create("d"),
        ErrorKind::Exists,
        "create on a directory",
    )?;
    ensure!(
        content_of(&storage, "f")? == b"kept",
        "a refused create changed the file"
    );
    Ok(())
}

/// Checks that nothing is found, or made, below a directory that is missing or is a file.
///
/// # Errors
/// [`Violation`].
pub fn files_need_their_directory<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    drop(storage.create("f")?);
    for (path, kind) in [
        ("missing/a", ErrorKind::NotFound),
        ("f/a", ErrorKind::NotADirectory),
        ("f/a/b", ErrorKind::NotADirectory),
    ] {
        refused(storage.create(path), kind, "create")?;
        refused(storage.open(path), kind, "open")?;
        refused(storage.metadata(path), kind, "metadata")?;
        refused(storage.rename(path, "g"), kind, "rename from")?;
        refused(storage.rename("f", path), kind, "rename to")?;
        refused(storage.remove(path), kind, "remove")?;
        refused(storage.create_dir(path), kind, "create_dir")?;
        refused(storage.remove_dir(path), kind, "remove_dir")?;
        refused(storage.list(path), kind, "list")?;
        refused(storage.sync_dir(path), kind, "sync_dir")?;
    }
    Ok(())
}

/// Checks that each method wants a file or a directory, and that it be there.
///
/// # Errors
/// [`Violation`].
pub fn files_and_directories_are_told_apart<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    drop(storage.create("f")?);
    storage.create_dir("d")?;

    refused(storage.open("d"), ErrorKind::NotAFile, "open")?;
    refused(storage.remove("d"), ErrorKind::NotAFile, "remove")?;
    refused(
        storage.rename("d", "e"),
        ErrorKind::NotAFile,
        "rename a directory",
    )?;
    refused(
        storage.rename("f", "d"),
        ErrorKind::NotAFile,
        "rename to a directory",
    )?;
    refused(storage.create_dir("f"), ErrorKind::Exists, "create_dir")?;
    refused(
        storage.remove_dir("f"),
        ErrorKind::NotADirectory,
        "remove_dir",
    )?;
    refused(storage.list("f"), ErrorKind::NotADirectory, "list")?;
    refused(storage.sync_dir("f"), ErrorKind::NotADirectory, "sync_dir")?;

    refused(storage.open("x"), ErrorKind::NotFound, "open")?;
    refused(storage.metadata("x"), ErrorKind::NotFound, "metadata")?;
    refused(storage.rename("x", "f"), ErrorKind::NotFound, "rename")?;
    refused(storage.rename("x", "x"), ErrorKind::NotFound, "rename")?;
    refused(storage.remove("x"), ErrorKind::NotFound, "remove")?;
    refused(storage.remove_dir("x"), ErrorKind::NotFound, "remove_dir")?;
    refused(storage.list("x"), ErrorKind::NotFound, "list")?;
    refused(storage.sync_dir("x"), ErrorKind::NotFound, "sync_dir")
}

/// Checks that every method refuses every bad path, by its rule.
///
/// # Errors
/// [`Violation`].
pub fn paths_outside_the_rules_are_refused<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    drop(storage.create("f")?);
    let long_name = "n".repeat(NAME_BYTES_MAX + 1);
    let long_path = "d/".repeat(PATH_BYTES_MAX / 2) + "f";
    let bad = [
        "/f", "f/", "a//b", ".", "..", "../f", "a/../f", ".hidden", "F", "a b", "a\\b", "a\0b",
        "é", &long_name, &long_path,
    ];
    for path in bad {
        let Err(rule) = check_file_path(path) else {
            return Err(Violation::new(format!("the rules allow {path:?}")));
        };
        let kind = ErrorKind::InvalidPath(rule);
        refused(storage.create(path), kind, "create")?;
        refused(storage.open(path), kind, "open")?;
        refused(storage.metadata(path), kind, "metadata")?;
        refused(storage.rename(path, "g"), kind, "rename from")?;
        refused(storage.rename("f", path), kind, "rename to")?;
        refused(storage.remove(path), kind, "remove")?;
        refused(storage.create_dir(path), kind, "create_dir")?;
        refused(storage.remove_dir(path), kind, "remove_dir")?;
        refused(storage.list(path), kind, "list")?;
        refused(storage.sync_dir(path), kind, "sync_dir")?;
    }
    let Err(empty) = check_file_path(ROOT) else {
        return Err(Violation::new("the rules allow a file without a name"));
    };
    let kind = ErrorKind::InvalidPath(empty);
    refused(storage.create(ROOT), kind, "create the root")?;
    refused(storage.open(ROOT), kind, "open the root")?;
    refused(storage.remove(ROOT), kind, "remove the root")?;
    refused(
        storage.remove_dir(ROOT),
        kind,
        "remove the root as a directory",
    )?;
    storage.create_dir(ROOT)?;
    storage.sync_dir(ROOT)?;

    let longest = "n".repeat(NAME_BYTES_MAX);
    drop(storage.create(&longest)?);
    drop(storage.open(&longest)?);
    Ok(())
}

/// Checks that reads return what is there, and 0 only at the end.
///
/// # Errors
/// [`Violation`].
pub fn reads_stop_at_the_end<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.write_at(0, b"0123456789")?;
    let mut buffer = [b'!'; 16];
    for offset in 0..10 {
        let read = file.read_at(offset as u64, &mut buffer)?;
        let rest = &b"0123456789"[offset..];
        ensure!(
            (1..=rest.len()).contains(&read),
            "read {read} at {offset} of 10"
        );
        ensure!(
            buffer[..read] == rest[..read],
            "wrong bytes at offset {offset}"
        );
    }
    for offset in [10, 11, 1 << 40, FILE_BYTES_MAX, u64::MAX] {
        let read = file.read_at(offset, &mut buffer)?;
        ensure!(read == 0, "read {read} bytes at {offset}, beyond the end");
    }
    ensure!(file.read_at(0, &mut [])? == 0, "an empty buffer was filled");
    let mut exact = [0; 4];
    file.read_exact_at(6, &mut exact)?;
    ensure!(&exact == b"6789", "read_exact_at returned {exact:?}");
    refused(
        file.read_exact_at(7, &mut exact),
        ErrorKind::UnexpectedEnd,
        "read_exact_at over the end",
    )
}

/// Checks that a write beyond the end leaves zeros between, also where a longer file once was.
///
/// # Errors
/// [`Violation`].
pub fn holes_read_as_zeros<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.write_at(0, &[7; 100])?;
    file.truncate(2)?;
    file.write_at(70_000, b"end")?;
    let bytes = content(&file)?;
    ensure!(bytes.len() == 70_003, "the length is {}", bytes.len());
    ensure!(bytes[..2] == [7, 7], "the beginning changed");
    ensure!(
        bytes[2..70_000].iter().all(|byte| *byte == 0),
        "the hole is not zero"
    );
    ensure!(
        &bytes[70_000..] == b"end",
        "the end is not what was written"
    );
    Ok(())
}

/// Checks that a write of nothing neither changes nor extends the file.
///
/// # Errors
/// [`Violation`].
pub fn empty_writes_change_nothing<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.append(b"abc")?;
    file.write_at(100, b"")?;
    file.write_at(1, b"")?;
    ensure!(file.append(b"")? == 3, "an empty append is not at the end");
    ensure!(content(&file)? == b"abc", "an empty write changed the file");
    Ok(())
}

/// Checks that an end beyond [`FILE_BYTES_MAX`] is refused by name, without a change.
///
/// # Errors
/// [`Violation`].
pub fn ends_beyond_the_limit_are_refused<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.append(b"abc")?;
    let kind = ErrorKind::Limit {
        field: "end",
        limit: FILE_BYTES_MAX,
    };
    refused(file.write_at(u64::MAX, b"x"), kind, "write_at")?;
    refused(file.write_at(FILE_BYTES_MAX, b"x"), kind, "write_at")?;
    refused(file.truncate(FILE_BYTES_MAX + 1), kind, "truncate")?;
    refused(file.truncate(u64::MAX), kind, "truncate")?;
    ensure!(
        content(&file)? == b"abc",
        "a refused write changed the file"
    );
    Ok(())
}

/// Checks that `append` writes at the present end and returns it.
///
/// # Errors
/// [`Violation`].
pub fn append_goes_to_the_end<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    let mut other = storage.open("f")?;
    ensure!(file.append(b"ab")? == 0, "the first append is not at 0");
    ensure!(other.append(b"cd")? == 2, "the second append is not at 2");
    file.write_at(6, b"gh")?;
    ensure!(other.append(b"ij")? == 8, "the append after a hole");
    file.truncate(3)?;
    ensure!(file.append(b"!")? == 3, "the append after a cut");
    file.write_at(0, b"A")?;
    ensure!(
        content(&other)? == b"Abc!",
        "appends and writes are mixed up"
    );
    Ok(())
}

/// Checks that `truncate` cuts, and extends by zeros.
///
/// # Errors
/// [`Violation`].
pub fn truncate_cuts_and_extends<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut file = storage.create("f")?;
    file.append(b"abcdef")?;
    file.truncate(2)?;
    ensure!(content(&file)? == b"ab", "the cut left something else");
    file.truncate(4)?;
    ensure!(
        content(&file)? == b"ab\0\0",
        "what had been cut off came back"
    );
    file.truncate(0)?;
    ensure!(file.is_empty()?, "cut to 0, and not empty");
    Ok(())
}

/// Checks that every handle sees what any other did.
///
/// # Errors
/// [`Violation`].
pub fn handles_share_the_file<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut first = storage.create("f")?;
    let mut second = storage.open("f")?;
    first.write_at(0, b"abcd")?;
    second.write_at(1, b"XY")?;
    ensure!(content(&first)? == b"aXYd", "the second's write is missing");
    second.truncate(2)?;
    ensure!(first.len()? == 2, "the second's cut is missing");
    first.sync_data()?;
    second.sync_data()?;
    drop(first);
    ensure!(
        content(&second)? == b"aX",
        "dropping a handle changed the file"
    );
    Ok(())
}

/// Checks that `rename` moves and replaces, and that handles stay on their files.
///
/// # Errors
/// [`Violation`].
pub fn rename_replaces_and_handles_follow<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    storage.create_dir("d")?;
    let mut new = storage.create("new")?;
    new.append(b"new")?;
    let mut old = storage.create("d/f")?;
    old.append(b"old")?;
    storage.rename("new", "d/f")?;
    refused(storage.open("new"), ErrorKind::NotFound, "the former name")?;
    ensure!(
        content_of(&storage, "d/f")? == b"new",
        "the name does not stand for the renamed file"
    );
    new.append(b"er")?;
    old.append(b"er")?;
    ensure!(
        content_of(&storage, "d/f")? == b"newer",
        "the handle did not follow"
    );
    ensure!(
        content(&old)? == b"older",
        "the replaced file is lost to its handle"
    );
    storage.rename("d/f", "d/f")?;
    ensure!(
        content_of(&storage, "d/f")? == b"newer",
        "a rename to itself changed something"
    );
    Ok(())
}

/// Checks that a removed file lives on in its handles, apart from a new file of that name.
///
/// # Errors
/// [`Violation`].
pub fn removed_files_live_in_their_handles<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let mut removed = storage.create("f")?;
    removed.append(b"one")?;
    storage.remove("f")?;
    refused(storage.open("f"), ErrorKind::NotFound, "open after remove")?;
    refused(storage.remove("f"), ErrorKind::NotFound, "remove again")?;
    let mut new = storage.create("f")?;
    new.append(b"two")?;
    removed.append(b"!")?;
    removed.sync_data()?;
    ensure!(content(&removed)? == b"one!", "the removed file changed");
    drop(removed);
    ensure!(
        content_of(&storage, "f")? == b"two",
        "the new file has the old content"
    );
    Ok(())
}

/// Checks that directories are made once, one at a time, and removed only when empty.
///
/// # Errors
/// [`Violation`].
pub fn directories_go_only_when_empty<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    storage.create_dir("d")?;
    storage.create_dir("d")?;
    storage.create_dir("d/e")?;
    refused(
        storage.remove_dir("d"),
        ErrorKind::NotEmpty,
        "remove_dir with a directory",
    )?;
    storage.remove_dir("d/e")?;
    drop(storage.create("d/f")?);
    refused(
        storage.remove_dir("d"),
        ErrorKind::NotEmpty,
        "remove_dir with a file",
    )?;
    storage.rename("d/f", "f")?;
    storage.remove_dir("d")?;
    refused(
        storage.metadata("d"),
        ErrorKind::NotFound,
        "the removed directory",
    )?;
    storage.create_dir("d")?;
    ensure!(
        storage.list("d")?.is_empty(),
        "a new directory has the old one's entries"
    );
    Ok(())
}

/// Checks that `list` returns what is directly there, sorted, each once.
///
/// # Errors
/// [`Violation`].
pub fn lists_are_sorted_and_flat<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    ensure!(
        storage.list(ROOT)?.is_empty(),
        "a fresh storage is not empty"
    );
    storage.create_dir("d")?;
    // Neighbours of the slash in ASCII, in an order that is neither sorted nor reversed.
    for path in ["d/b", "d-a", "d.a", "d0", "a", "d/a", "e"] {
        drop(storage.create(path)?);
    }
    storage.create_dir("d/e")?;
    drop(storage.create("d/e/x")?);
    let entry = |name: &str, kind| Entry {
        name: name.to_owned(),
        kind,
    };
    let root = [
        entry("a", Kind::File),
        entry("d", Kind::Directory),
        entry("d-a", Kind::File),
        entry("d.a", Kind::File),
        entry("d0", Kind::File),
        entry("e", Kind::File),
    ];
    let listed = storage.list(ROOT)?;
    ensure!(listed == root, "the root lists {listed:?}");
    let below = [
        entry("a", Kind::File),
        entry("b", Kind::File),
        entry("e", Kind::Directory),
    ];
    let listed = storage.list("d")?;
    ensure!(listed == below, "the directory lists {listed:?}");
    Ok(())
}

/// Checks `metadata` of the root, a directory and a file.
///
/// # Errors
/// [`Violation`].
pub fn metadata_tells_kind_and_length<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let directory = Metadata {
        kind: Kind::Directory,
        len: 0,
    };
    ensure!(storage.metadata(ROOT)? == directory, "of the root");
    storage.create_dir("d")?;
    ensure!(storage.metadata("d")? == directory, "of a directory");
    let mut file = storage.create("d/f")?;
    for len in [0, 5, 5000] {
        file.truncate(len)?;
        let told = storage.metadata("d/f")?;
        let kind = Kind::File;
        ensure!(
            told == Metadata { kind, len },
            "of a file of {len} bytes: {told:?}"
        );
    }
    Ok(())
}

/// Checks that the lock is exclusive, outlives the storage, and is free once dropped.
///
/// # Errors
/// [`Violation`].
pub fn the_lock_has_one_owner<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    let lock = storage.lock()?;
    refused(storage.lock(), ErrorKind::Locked, "a second lock")?;
    drop(storage.create("f")?);
    ensure!(
        storage.list(ROOT)?.len() == 1,
        "the lock shows among the files"
    );
    drop(lock);
    drop(storage.lock()?);
    let other = harness.fresh();
    let _lock = storage.lock()?;
    drop(other.lock()?);
    Ok(())
}

/// Checks that a clean restart finds everything, synced or not.
///
/// # Errors
/// [`Violation`].
pub fn everything_is_there_after_reopening<H: Harness>(harness: &H) -> Result<(), Violation> {
    let storage = harness.fresh();
    storage.create_dir("d")?;
    let mut file = storage.create("d/f")?;
    file.append(b"kept")?;
    drop(file);
    let lock = storage.lock()?;
    drop(lock);
    let storage = harness.reopen(storage);
    ensure!(
        content_of(&storage, "d/f")? == b"kept",
        "the content is gone"
    );
    drop(storage.lock()?);
    Ok(())
}

/// Checks random operations against the pure model.
///
/// # Errors
/// [`Violation`] with the seed and the fewest operations that show it.
pub fn random_operations_match_the_model<H: Harness>(harness: &H) -> Result<(), Violation> {
    random::search(false, |ops| random::run(harness, ops))
}
