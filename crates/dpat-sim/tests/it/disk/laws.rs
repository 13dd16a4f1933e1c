//! The laws of every storage.

use dpat_sim::disk::{Image, Odds, SimDisk};
use dpat_storage::Operation;
use dpat_storage::conformance::{Faults, Harness, fault_laws};

/// Disks of some odds.
struct Disks(Odds);

impl Harness for Disks {
    type Storage = SimDisk;

    fn fresh(&self) -> SimDisk {
        let disk = SimDisk::new(1);
        disk.set_odds(self.0);
        disk
    }

    fn reopen(&self, storage: SimDisk) -> SimDisk {
        storage.kill()
    }
}

impl Faults for Disks {
    fn power_cut(&self, storage: SimDisk, seed: u64) -> SimDisk {
        storage.crash_to(Image::Drawn(seed))
    }

    fn fail_next(&self, storage: &SimDisk, operation: Operation) {
        storage.fail_next(operation);
    }
}

dpat_storage::storage_laws!(Disks(Odds::MIXED));

mod mixed {
    use super::{Disks, Odds};
    dpat_storage::storage_fault_laws!(Disks(Odds::MIXED));
}

#[test]
fn the_laws_hold_whatever_is_lost() {
    let all_torn = Odds {
        lost: 100_000,
        torn: 1_000_000,
        reordered: 1_000_000,
    };
    for odds in [Odds::NONE, Odds::ALL, all_torn] {
        for (name, law) in fault_laws() {
            if let Err(violation) = law(&Disks(odds)) {
                panic!("{odds:?}: {name}: {violation}");
            }
        }
    }
}
