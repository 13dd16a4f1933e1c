//! Medians, quantiles and the verdict on a ratio.

/// Ratios up to this count as equal.
pub const EQUAL_UP_TO: f64 = 1.05;

/// Returns the value at quantile `q` (nearest rank), or `None` for no values.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank within the length of a slice"
)]
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Returns the median; the mean of the middle two for an even count.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// Returns ours / peer.
///
/// A peer at zero counts as one, so that the ratio stays a number: two that allocate nothing are equal, and 64 bytes
/// against nothing is 64.
#[must_use]
pub fn ratio(ours: f64, peer: f64) -> f64 {
    if peer > 0.0 {
        ours / peer
    } else if ours > 0.0 {
        ours
    } else {
        1.0
    }
}

/// How a ratio is told in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ours needs less than 1 / [`EQUAL_UP_TO`] of the peer.
    Wins,
    /// Up to [`EQUAL_UP_TO`].
    Equal,
    /// Above it.
    Loses,
}

impl Verdict {
    /// Judges a ratio.
    #[must_use]
    pub fn of(ratio: f64) -> Self {
        if ratio > EQUAL_UP_TO {
            Self::Loses
        } else if ratio < 1.0 / EQUAL_UP_TO {
            Self::Wins
        } else {
            Self::Equal
        }
    }

    /// Returns the word of the table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Wins => "wins",
            Self::Equal => "equal",
            Self::Loses => "**loses**",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        assert_eq!(median(&[10.0, 10.0, 10.0, 10.0, 9_000.0]), Some(10.0));
    }

    #[test]
    fn quantile_is_the_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), Some(99.0));
        assert_eq!(quantile(&values, 1.0), Some(100.0));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn ratio_is_ours_over_peer_and_always_a_number() {
        assert_eq!(ratio(5.0, 10.0), 0.5);
        assert_eq!(ratio(0.0, 0.0), 1.0);
        assert_eq!(ratio(64.0, 0.0), 64.0);
        assert_eq!(ratio(0.0, 64.0), 0.0);
    }

    #[test]
    fn five_percent_count_as_equal() {
        assert_eq!(Verdict::of(0.5), Verdict::Wins);
        assert_eq!(Verdict::of(0.96), Verdict::Equal);
        assert_eq!(Verdict::of(1.0), Verdict::Equal);
        assert_eq!(Verdict::of(1.05), Verdict::Equal);
        assert_eq!(Verdict::of(1.06), Verdict::Loses);
    }
}
