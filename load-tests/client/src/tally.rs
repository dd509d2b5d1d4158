//! What one run has measured: latencies and wrong answers.

use std::time::Duration;

/// Latencies in microseconds; exact quantiles, since a run of seconds has few enough of them.
#[derive(Default)]
pub(crate) struct Tally {
    latencies: Vec<u32>,
    wrong: u64,
}

impl Tally {
    pub(crate) fn note(&mut self, took: Duration, right: bool) {
        self.latencies
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        self.wrong += u64::from(!right);
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        self.latencies.append(&mut other.latencies);
        self.wrong += other.wrong;
    }

    pub(crate) fn calls(&self) -> usize {
        self.latencies.len()
    }

    pub(crate) fn wrong(&self) -> u64 {
        self.wrong
    }

    /// The value that a share of `q` (0 to 1) of all calls stayed at or below, by the nearest-rank rule.
    pub(crate) fn quantile_us(&mut self, q: f64) -> Option<u32> {
        self.latencies.sort_unstable();
        let rank = (q * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let mut tally = Tally::default();
        for ms in (1..=100).rev() {
            tally.note(Duration::from_micros(ms), true);
        }
        assert_eq!(
            (tally.quantile_us(0.50), tally.quantile_us(0.99)),
            (Some(50), Some(99))
        );
        assert_eq!(Tally::default().quantile_us(0.5), None);
    }

    #[test]
    fn wrong_answers_are_counted_over_all_sessions() {
        let (mut all, mut one) = (Tally::default(), Tally::default());
        one.note(Duration::ZERO, false);
        one.note(Duration::ZERO, true);
        all.add(one);
        assert_eq!((all.calls(), all.wrong()), (2, 1));
    }
}
