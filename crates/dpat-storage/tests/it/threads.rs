//! Many threads on one storage.

use std::thread;

use dpat_storage::{ErrorKind, File, FsStorage, MemStorage, ROOT, Storage};

const THREADS: usize = 4;
const ROUNDS: usize = 50;

/// Each thread has files of its own; all fight for one name and for the lock.
fn fight(storage: &impl Storage) {
    let won: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|me| {
                scope.spawn(move || {
                    let mut won = 0;
                    for round in 0..ROUNDS {
                        let own = format!("own-{me}-{round}");
                        let mut file = storage.create(&own).unwrap();
                        file.append(own.as_bytes()).unwrap();
                        match storage.create(&format!("prize-{round}")) {
                            Ok(_) => won += 1,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Exists),
                        }
                        match storage.lock() {
                            Ok(_lock) => {}
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Locked),
                        }
                        let mut read = vec![0; own.len()];
                        file.read_exact_at(0, &mut read).unwrap();
                        assert_eq!(read, own.as_bytes());
                    }
                    won
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(won, ROUNDS, "each prize has one winner");
    assert_eq!(storage.list(ROOT).unwrap().len(), THREADS * ROUNDS + ROUNDS);
    assert!(storage.lock().is_ok(), "all locks were released");
}

#[test]
fn in_memory() {
    fight(&MemStorage::new());
}

#[test]
fn on_disk() {
    let folder = tempfile::tempdir().unwrap();
    fight(&FsStorage::open(folder.path()).unwrap());
}
