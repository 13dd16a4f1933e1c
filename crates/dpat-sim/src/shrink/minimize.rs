//! Delta debugging over the numbers `0..units`.

use std::collections::HashSet;

/// What is left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Minimized {
    /// Ascending.
    pub(super) kept: Vec<usize>,
    pub(super) tried: u64,
    /// Whether each single unit was shown to be needed.
    pub(super) minimal: bool,
}

/// Finds a subset that still fails and none of whose units can be taken away alone.
///
/// All units together are known to fail. Tries at most `tries_max` subsets, ever smaller parts first; a subset that
/// passed is not tried again.
pub(super) fn minimize<E>(
    units: usize,
    tries_max: u64,
    mut fails: impl FnMut(&[usize]) -> Result<bool, E>,
) -> Result<Minimized, E> {
    let mut kept: Vec<usize> = (0..units).collect();
    let mut passed: HashSet<Vec<usize>> = HashSet::new();
    let mut tried = 0;
    let mut part = units;
    while part > 0 {
        let mut from = 0;
        let mut progress = false;
        while from < kept.len() {
            let to = (from + part).min(kept.len());
            let less = [&kept[..from], &kept[to..]].concat();
            if passed.contains(&less) {
                from = to;
                continue;
            }
            if tried == tries_max {
                let minimal = kept.is_empty();
                return Ok(Minimized {
                    kept,
                    tried,
                    minimal,
                });
            }
            tried += 1;
            if fails(&less)? {
                kept = less;
                progress = true;
            } else {
                passed.insert(less);
                from = to;
            }
        }
        // A pass over single units that takes nothing away has shown each to be needed.
        part = match part {
            1 if progress => 1,
            1 => 0,
            _ => part.min(kept.len()).div_ceil(2).max(1),
        };
    }
    Ok(Minimized {
        kept,
        tried,
        minimal: true,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn check(units: usize, fails: impl Fn(&[usize]) -> bool, expected: &[usize]) -> u64 {
        let found = minimize(units, u64::MAX, |kept| Ok::<_, Infallible>(fails(kept)));
        let Ok(found) = found;
        assert_eq!(found.kept, expected);
        assert!(found.minimal);
        found.tried
    }

    #[test]
    fn needed_units_are_found_wherever_they_are() {
        for units in 1..40 {
            for a in 0..units {
                for b in a..units {
                    let mut expected = vec![a, b];
                    expected.dedup();
                    check(
                        units,
                        |kept| kept.contains(&a) && kept.contains(&b),
                        &expected,
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_left_of_what_always_fails() {
        assert_eq!(check(1000, |_| true, &[]), 1);
        assert_eq!(check(0, |_| true, &[]), 0);
    }

    #[test]
    fn one_of_a_thousand_takes_few_tries() {
        let tried = check(1000, |kept| kept.contains(&700), &[700]);
        assert!(tried < 40, "{tried}");
    }

    #[test]
    fn what_is_left_is_one_minimal_although_removals_depend_on_each_other() {
        // Fails with an odd number of units, or with 0 and 1 both there: no single removal is like another.
        let fails =
            |kept: &[usize]| kept.len() % 2 == 1 || (kept.contains(&0) && kept.contains(&1));
        for units in 1..30 {
            if !fails(&(0..units).collect::<Vec<_>>()) {
                continue;
            }
            let Ok(found) = minimize(units, u64::MAX, |kept| Ok::<_, Infallible>(fails(kept)));
            assert!(fails(&found.kept));
            for at in 0..found.kept.len() {
                let mut less = found.kept.clone();
                less.remove(at);
                assert!(!fails(&less), "{units} units: {less:?}");
            }
        }
    }

    #[test]
    fn tries_are_bounded_and_none_is_made_twice() {
        let mut seen = HashSet::new();
        let fails = |kept: &[usize]| kept.len() >= 7;
        let Ok(found) = minimize(64, 10, |kept| {
            assert!(seen.insert(kept.to_vec()), "{kept:?} was tried twice");
            Ok::<_, Infallible>(fails(kept))
        });
        assert_eq!((found.tried, found.minimal), (10, false));
        assert!(fails(&found.kept));
    }
}
