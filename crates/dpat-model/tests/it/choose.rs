use std::collections::BTreeSet;

use dpat_core::{Entropy, SplitMix64};
use dpat_model::{Branch, Choose, Draw, Input, ReqId};

use crate::puppet::{Do, puppet};

#[test]
fn draws_are_uniform_and_replayable() {
    let (a, b) = (SplitMix64::new(3), SplitMix64::new(3));
    let mut counts = [0_u32; 5];
    for _ in 0..5000 {
        let drawn = Draw(&a).choose(5);
        assert_eq!(u64::from(drawn), b.below(5));
        counts[drawn as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (850..1150).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn branches_cover_every_combination_also_of_uneven_depth() {
    let mut seen = BTreeSet::new();
    let mut branch = Branch::default();
    let mut runs = 0;
    loop {
        // the first choice decides how many follow
        let first = branch.choose(3);
        let rest: Vec<u32> = (0..first).map(|_| branch.choose(2)).collect();
        assert_eq!(branch.choices().len(), rest.len() + 1);
        seen.insert((first, rest));
        runs += 1;
        if !branch.advance() {
            break;
        }
    }
    assert_eq!((runs, seen.len()), (1 + 2 + 4, 7));
}

#[test]
fn a_foreign_list_of_choices_stays_in_range() {
    let mut branch = Branch::replay(&[9, 1]);
    assert_eq!(
        [branch.choose(3), branch.choose(2), branch.choose(2)],
        [2, 1, 0]
    );
}

#[test]
fn a_choice_of_none_or_one_is_no_choice() {
    let mut stage = puppet();
    stage
        .ask(vec![Do::Choose(0), Do::Choose(1), Do::Choose(2)])
        .unwrap();
    stage.step(Input::Cancel(ReqId(0))).unwrap();
    let seen = &stage.node.process().seen;
    assert_eq!(seen[1..4], ["chose 0", "chose 0", "chose 0"]);
}
