//! Two-phase commit against the counts of the classic specification.

use dpat_cases::protocols::mc::{Explored, RMS_MAX, two_phase, two_phase_mutant, two_phase_system};
use dpat_cases::protocols::two_phase::Broken;
use stateright::{Checker, Model};

#[test]
fn two_phase_has_the_counts_of_the_specification() {
    let counts = |rms| {
        let Explored {
            distinct_states,
            generated_states,
            depth,
            violations,
        } = two_phase(rms).unwrap();
        assert_eq!(violations, []);
        (distinct_states, generated_states, depth)
    };
    assert_eq!(counts(3), (288, 1146, 11));
    assert_eq!(counts(4), (1568, 8258, 14));
}

#[test]
fn sizes_are_bounded() {
    assert!(two_phase(0).is_err());
    let error = two_phase(RMS_MAX + 1).unwrap_err();
    assert_eq!(error.to_string(), "rms: 9 is not between 1 and 8");
}

#[test]
fn what_the_process_does_beyond_the_specification_changes_no_state() {
    for rms in 1..=4 {
        let whole = two_phase_system(rms, None).checker().spawn_bfs().join();
        whole.assert_properties();
        let specified = two_phase(rms).unwrap();
        assert_eq!(whole.unique_state_count(), specified.distinct_states);
        assert_eq!(whole.max_depth(), specified.depth);
        assert!(whole.state_count() > specified.generated_states);
    }
}

#[test]
fn broken_rules_are_found_with_the_way_there() {
    let found = two_phase_mutant(2, Broken::CommitsWhenAllButOneArePrepared).unwrap();
    let properties: Vec<_> = found.violations.iter().map(|it| &*it.property).collect();
    assert_eq!(properties, ["commit only if all prepared", "consistency"]);
    let actions = ["RMPrepare(rm2)", "TMRcvPrepared(rm2)", "TMCommit"];
    assert_eq!(found.violations[0].actions, actions);

    let found = two_phase_mutant(2, Broken::GivesUpAlthoughPrepared).unwrap();
    let properties: Vec<_> = found.violations.iter().map(|it| &*it.property).collect();
    assert_eq!(properties, ["consistency"]);
}
