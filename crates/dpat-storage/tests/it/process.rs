//! The lock against a second process, which is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use dpat_storage::{ErrorKind, FsStorage, Storage};

const ROOT_VARIABLE: &str = "DPAT_STORAGE_TEST_LOCK";

/// Not a test by itself: what the child process runs.
#[test]
fn lock_holder() {
    let Ok(root) = std::env::var(ROOT_VARIABLE) else {
        return;
    };
    let _lock = FsStorage::open(root).unwrap().lock().unwrap();
    println!("locked");
    // Until it is killed, or the test that started it is gone.
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_killed_process_leaves_no_lock_behind() {
    let folder = tempfile::tempdir().unwrap();
    let storage = FsStorage::open(folder.path()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["process::lock_holder", "--exact", "--nocapture"])
        .env(ROOT_VARIABLE, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let locked = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .any(|line| line.ends_with("locked"));
    assert!(locked, "the child never said that it has the lock");
    assert_eq!(storage.lock().unwrap_err().kind(), ErrorKind::Locked);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(storage.lock().unwrap());
}
