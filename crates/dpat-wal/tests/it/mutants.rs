//! Each rule that is left out is missed by some workload: the tests find what they are for.

use dpat_sim::disk::{CrashPoints, Odds, Strike};
use dpat_wal::testing::{Action, Mutant, Restart, Workload};

use crate::crash::enumerate;
use crate::damage::left_by;

/// How many seeds are tried, of the workload and of the disk.
const SEEDS: u64 = 300;

/// Most of what is not synced is torn.
const TORN: Odds = Odds {
    lost: 100_000,
    torn: 800_000,
    reordered: 1_000_000,
};

/// The workload in which a rule matters, and what strikes there.
fn where_it_matters(mutant: Mutant, seed: u64) -> (Workload, Vec<Strike>) {
    let bytes = 60;
    let group = Action::Group { records: 4, bytes };
    let append = Action::Append { bytes };
    let power_cut = Action::Restart(Restart::PowerCut);
    let last = Action::Append { bytes: 8 };
    let actions = match mutant {
        // What is left of a group, behind a record of the size of its first.
        Mutant::KeepTornTail => vec![last, group, append, power_cut, last],
        Mutant::KeepFailedWrite => vec![last, group, append, last],
        Mutant::RemoveBeforeMark => vec![group, group, group, Action::Compact, last],
        Mutant::SplitBatches => vec![Action::Batch { records: 3, bytes }, last],
        _ => Workload::drawn(seed, 12).actions,
    };
    let strikes = match mutant {
        Mutant::KeepFailedWrite | Mutant::SyncAgain | Mutant::TrustFoundTail => vec![Strike::Fail],
        Mutant::SplitBatches => vec![Strike::Kill, Strike::Crash],
        _ => vec![Strike::Crash],
    };
    let mut workload = Workload {
        actions,
        ..Workload::drawn(seed, 1)
    };
    workload.shape.preallocate_bytes = 0;
    (workload.with_mutant(Some(mutant)), strikes)
}

/// Runs what a seed draws, and returns what is wrong.
fn check(seed: u64, workload: &Workload, strikes: &[Strike]) -> Result<(), String> {
    for goes_on in [true, false] {
        let points = CrashPoints::new(seed)
            .strikes(strikes)
            .odds(if seed % 2 == 0 { TORN } else { Odds::MIXED })
            .images(2);
        let run = enumerate(&points.crash_recovery(false), workload, goes_on);
        run.map_err(|failure| failure.to_string())?;
    }
    let (disk, ledger) = left_by(workload, seed, true);
    for flips in 1..4 {
        let disk = disk.fork();
        let flipped = disk.corrupt(flips);
        // Of two flips one may be in the last record and the other in the mark behind it, its only proof.
        let said = workload.check_damaged(&disk, &ledger, flips == 1);
        said.map_err(|message| format!("{message}, after {flipped:?}"))?;
    }
    Ok(())
}

#[test]
fn each_rule_that_is_left_out_is_found() {
    for mutant in Mutant::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            let (workload, strikes) = where_it_matters(mutant, seed);
            check(seed, &workload, &strikes).err()
        });
        match found {
            Some(message) => println!("{}: {message}", mutant.name()),
            None => panic!("{} passes {SEEDS} seeds", mutant.name()),
        }
    }
}

#[test]
fn with_all_its_rules_a_log_passes_the_same_checks() {
    for mutant in Mutant::ALL {
        for seed in 0..3 {
            let (workload, strikes) = where_it_matters(mutant, seed);
            let checked = check(seed, &workload.with_mutant(None), &strikes);
            checked.unwrap_or_else(|message| panic!("seed {seed}: {message}"));
        }
    }
}

#[test]
fn mutants_are_found_by_their_names() {
    for mutant in Mutant::ALL {
        assert_eq!(Mutant::named(mutant.name()), Some(mutant));
        assert!(!mutant.rule().is_empty());
    }
    assert_eq!(Mutant::named("none"), None);
}
