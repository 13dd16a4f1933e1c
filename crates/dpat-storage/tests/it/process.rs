//! Real processes that are killed: the lock goes, what was written stays.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use dpat_storage::{ErrorKind, File, FsStorage, Storage};

const ROOT_VARIABLE: &str = "DPAT_STORAGE_TEST_ROOT";
const SIGN: &str = "appended";

#[test]
#[ignore = "the child process of the other tests here"]
fn child() {
    let Some(root) = std::env::var_os(ROOT_VARIABLE) else {
        return;
    };
    let storage = FsStorage::open(root).unwrap();
    let _lock = storage.lock().unwrap();
    let mut file = storage.create("log").unwrap();
    // For each byte that the parent sends, until it kills.
    for line in std::io::stdin().lines() {
        file.append(line.unwrap().as_bytes()).unwrap();
        println!("\n{SIGN}");
    }
}

struct Running {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(root: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["process::child", "--exact", "--ignored", "--nocapture"])
            .env(ROOT_VARIABLE, root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    fn append(&mut self, text: &str) {
        use std::io::Write;
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
        let done = self.said.by_ref().any(|line| line.unwrap() == SIGN);
        assert!(done, "the child ended by itself");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_killed_process_leaves_no_lock_behind() {
    let folder = tempfile::tempdir().unwrap();
    let storage = FsStorage::open(folder.path()).unwrap();
    let mut running = Running::start(folder.path());
    running.append("x");
    assert_eq!(storage.lock().unwrap_err().kind(), ErrorKind::Locked);
    running.kill();
    drop(storage.lock().unwrap());
}

#[test]
fn a_killed_process_loses_nothing_that_returned() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path());
    for record in 0..20 {
        running.append(&format!("{record:02}"));
    }
    running.kill();
    let file = FsStorage::open(folder.path()).unwrap().open("log").unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(0, &mut bytes).unwrap();
    let expected: String = (0..20).map(|record| format!("{record:02}")).collect();
    assert_eq!(bytes, expected.as_bytes());
}
