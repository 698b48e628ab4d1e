//! Durations of one kind: how many, how long, and how they spread.

use super::{ratio, seconds};
use hdrhistogram::Histogram;

/// Durations kept as a histogram, with exact sum, minimum and maximum.
///
/// The histogram has two significant digits: below 256 ns it is exact, above, a percentile is at
/// most 1/128 (0.8 %) too high and never too low. It takes 2 KiB, and 1 KiB more for each doubling
/// of the longest duration beyond that: 14 KiB for 1 ms, 24 KiB for 1 s, 36 KiB for an hour, 58 KiB
/// at most (up to twice that where the allocator grows it in steps).
#[derive(Debug, Clone)]
pub struct Series {
    histogram: Histogram<u64>,
    total: u64,
    min: u64,
    max: u64,
}

/// What durations of one kind come to, in seconds; all zero before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timing {
    /// How many there are.
    pub count: u64,
    /// Their sum.
    pub total: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// The median. Percentiles are by nearest rank, and never above `max`.
    pub p50: f64,
    /// At least 95 of 100 durations are no longer.
    pub p95: f64,
    /// At least 99 of 100 durations are no longer.
    pub p99: f64,
}

impl Timing {
    /// From exact figures in nanoseconds, and a function that gives percentiles in nanoseconds.
    pub(super) fn of(
        count: u64,
        total: u64,
        extremes: (u64, u64),
        percentile: impl Fn(f64) -> u64,
    ) -> Self {
        if count == 0 {
            return Self::default();
        }
        let (min, max) = extremes;
        // A bucket reports its upper end or middle, which may lie outside of all that was recorded.
        let percentile = |q| seconds(percentile(q).clamp(min, max));
        Self {
            count,
            total: seconds(total),
            mean: ratio(total, count) / 1e9,
            min: seconds(min),
            max: seconds(max),
            p50: percentile(0.5),
            p95: percentile(0.95),
            p99: percentile(0.99),
        }
    }
}

impl Default for Series {
    fn default() -> Self {
        let histogram = Histogram::new(2).expect("two digits are within what a histogram can do");
        Self { histogram, total: 0, min: u64::MAX, max: 0 }
    }
}

impl Series {
    /// Adds a duration in nanoseconds, so many times.
    pub(super) fn add(&mut self, duration: u64, times: u64) {
        self.histogram.record_n(duration, times).expect("a histogram without a limit grows");
        self.total = self.total.saturating_add(duration.saturating_mul(times));
        self.min = self.min.min(duration);
        self.max = self.max.max(duration);
    }

    /// Adds all durations of another.
    pub fn merge(&mut self, other: &Self) {
        self.histogram += &other.histogram;
        self.total = self.total.saturating_add(other.total);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// What they come to.
    pub fn timing(&self) -> Timing {
        let percentile = |q| self.histogram.value_at_quantile(q);
        Timing::of(self.histogram.len(), self.total, (self.min, self.max), percentile)
    }

    /// How many are no longer than each of these, in nanoseconds, ascending. Durations that the
    /// histogram cannot tell from an edge (0.8 % above it at most) count as no longer.
    pub fn counts_up_to(&self, edges: &[u64]) -> Vec<u64> {
        let mut recorded = self.histogram.iter_recorded().peekable();
        let mut count = 0;
        let up_to = |edge: &u64| {
            let highest = self.histogram.highest_equivalent(*edge);
            while let Some(bucket) =
                recorded.next_if(|bucket| bucket.value_iterated_to() <= highest)
            {
                count += bucket.count_since_last_iteration();
            }
            count
        };
        edges.iter().map(up_to).collect()
    }

    #[cfg(all(test, not(loom)))]
    fn kibibytes(&self) -> usize {
        self.histogram.distinct_values() * size_of::<u64>() / 1024
    }
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::super::SECOND;
    use super::*;

    /// Equal but for what arithmetic in floating point may do.
    pub(in super::super) fn assert_close(actual: f64, expected: f64) {
        let error = (actual - expected).abs();
        assert!(error <= 1e-12 * expected.abs(), "{actual} instead of {expected}");
    }

    pub(in super::super) fn assert_percentiles(timing: &Timing, nanoseconds: [u64; 3]) {
        let actual = [timing.p50, timing.p95, timing.p99];
        for (actual, nanoseconds) in actual.into_iter().zip(nanoseconds) {
            assert_close(actual, seconds(nanoseconds));
        }
    }

    fn series(durations: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::default();
        durations.into_iter().for_each(|duration| series.add(duration, 1));
        series
    }

    fn timing(durations: impl IntoIterator<Item = u64>) -> Timing {
        series(durations).timing()
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        for (last, expected) in [
            (1, [1, 1, 1]),
            (2, [1, 2, 2]),
            (10, [5, 10, 10]),
            (20, [10, 19, 20]),
            (50, [25, 48, 50]),
            (100, [50, 95, 99]),
            (200, [100, 190, 198]),
        ] {
            // Backwards, as the order must not matter.
            assert_percentiles(&timing((1..=last).rev()), expected);
        }
    }

    #[test]
    fn mean_and_extremes_are_exact() {
        let timing = timing([3_000_000_001, 1_234_567, 999_999_999]);
        assert_close(timing.mean, 4_001_234_567.0 / 3.0 / 1e9);
        assert_close(timing.min, 0.001_234_567);
        assert_close(timing.max, 3.000_000_001);
        assert_close(timing.p99, 3.000_000_001);
    }

    #[test]
    fn percentiles_of_any_size_are_at_most_one_in_128_too_high() {
        for shift in 0..50 {
            let mut durations: Vec<u64> = (1..=101_u64).map(|n| (n * n * 977) << shift).collect();
            let timing = timing(durations.iter().copied());
            durations.sort_unstable();
            for (rank, actual) in [(51, timing.p50), (96, timing.p95), (100, timing.p99)] {
                let exact = ratio(durations[rank - 1], SECOND);
                let highest = exact * (1.0 + 1.0 / 128.0);
                assert!(exact <= actual && actual <= highest, "{exact} {actual} {shift}");
            }
            assert!(timing.p99 <= timing.max);
        }
    }

    #[test]
    fn durations_of_zero_count() {
        let timing = timing([0, 0, 0, 8]);
        assert_eq!((timing.min, timing.p50, timing.max), (0.0, 0.0, 8e-9));
        assert_close(timing.mean, 2e-9);
    }

    #[test]
    fn memory_depends_on_the_longest_duration_alone() {
        for (longest, expected) in
            [(255, 2), (1_000_000, 14), (SECOND, 24), (3_600 * SECOND, 36), (u64::MAX, 58)]
        {
            let mut series = Series::default();
            for step in 0..10_000 {
                series.add(longest - longest / 10_000 * step, 1);
            }
            assert_eq!(series.kibibytes(), expected, "{longest}");
        }
    }

    #[test]
    fn nothing_recorded_reads_zero() {
        assert_eq!(timing([]), Timing::default());
        assert_eq!(series([]).counts_up_to(&[0, SECOND]), [0, 0]);
    }

    #[test]
    fn counts_and_sums_are_exact() {
        let mut series = series([5, 7]);
        series.merge(&self::series([1_000; 3]));
        let timing = series.timing();
        assert_eq!(timing.count, 5);
        assert_close(timing.total, 3_012e-9);
    }

    #[test]
    fn counts_up_to_an_edge_include_what_equals_it() {
        let series = series([0, 1, 100, 100, 255, 1_000_000]);
        assert_eq!(series.counts_up_to(&[0, 99, 100, 254, 255, 999_000]), [1, 2, 4, 4, 5, 5]);
        assert_eq!(series.counts_up_to(&[1_000_000, u64::MAX]), [6, 6]);
        assert!(series.counts_up_to(&[]).is_empty());
    }

    #[test]
    fn counts_up_to_edges_between_buckets_are_within_one_in_128() {
        let durations: Vec<u64> = (1..=1_000).map(|n| n * 7_919).collect();
        let series = series(durations.iter().copied());
        for edge in (1..=100).map(|n| n * 65_537) {
            let up_to =
                |edge| durations.iter().filter(|duration| **duration <= edge).count() as u64;
            let [count] = series.counts_up_to(&[edge])[..] else { unreachable!("one edge") };
            assert!(up_to(edge) <= count && count <= up_to(edge + edge / 128 + 1), "{edge}");
        }
    }
}
