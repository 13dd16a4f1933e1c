//! The simulated disk.

mod faults;
mod laws;
mod points;
mod survivors;

use dpat_sim::disk::{Odds, SimDisk};
use dpat_storage::{File, ROOT, Storage};

/// A disk with one synced file of this content.
fn disk_with(seed: u64, odds: Odds, content: &[u8]) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.set_odds(odds);
    let mut file = disk.create("f").unwrap();
    file.append(content).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(ROOT).unwrap();
    disk
}

fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn names(disk: &SimDisk) -> Vec<String> {
    let entries = disk.list(ROOT).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}
