//! Figures by task name in memory of fixed size: the first names that arrive have a row each, all
//! others share one.

use super::series::Timing;
use crate::sync::Arc;
use std::collections::HashMap;

/// How many names have a row of their own.
pub const MAX_NAMES: u8 = 200;
/// The name of the row that all other names share.
pub const OTHER: &str = "other";

/// Which row a task counts in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameRow(u8);

impl NameRow {
    /// In none: it has no name.
    pub const NONE: Self = Self(0);
    /// In the one for all names that have none of their own.
    pub const OTHER: Self = Self(MAX_NAMES + 1);

    /// The number of the row; zero for none.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The row with this number, as [`number`](Self::number) gave it.
    pub fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// Where it stands among the rows; beyond them all for none.
    fn index(self) -> usize {
        usize::from(self.0.wrapping_sub(1))
    }
}

/// What became of the tasks of one name.
///
/// Names are shared by the table, its index and what readers have: 200 long ones are nearly half of
/// all that the figures of a runner take.
#[derive(Debug, Clone, Default)]
struct Row {
    name: Arc<str>,
    execution: LogHistogram,
    completed: u64,
    failed: u64,
    retried: u64,
}

/// What became of the tasks of one name, for readers.
#[derive(Debug, Clone, PartialEq)]
pub struct NameFigures {
    /// The name.
    pub name: Arc<str>,
    /// Tasks that returned a result.
    pub completed: u64,
    /// Tasks that ended with an error.
    pub failed: u64,
    /// Attempts that were followed by another.
    pub retried: u64,
    /// Time in the task function, of each attempt by itself.
    pub execution: Timing,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct NameTable {
    /// In the order of arrival.
    rows: Vec<Row>,
    numbers: HashMap<Arc<str>, u8>,
    /// For all others, once there is one.
    other: Option<Box<Row>>,
}

impl NameTable {
    /// The row of a name, which is given one if there is room.
    pub fn row(&mut self, name: &str) -> NameRow {
        if let Some(number) = self.numbers.get(name) {
            return NameRow(*number);
        }
        let number = match u8::try_from(self.rows.len()) {
            Ok(before) if before < MAX_NAMES && name != OTHER => before + 1,
            _ => return NameRow::OTHER,
        };
        let name: Arc<str> = name.into();
        self.numbers.insert(Arc::clone(&name), number);
        self.rows.push(Row { name, ..Row::default() });
        NameRow(number)
    }

    /// Adds attempts that took so many nanoseconds each.
    pub fn add(&mut self, row: NameRow, duration: u64, times: u64, completed: u64) {
        if let Some(row) = self.get_mut(row) {
            row.execution.add(duration, times);
            row.completed += completed;
        }
    }

    /// A task was given a result by hand, which its attempts know nothing of.
    pub fn count_completed(&mut self, row: NameRow) {
        if let Some(row) = self.get_mut(row) {
            row.completed += 1;
        }
    }

    /// A task ended with an error.
    pub fn count_failed(&mut self, row: NameRow) {
        if let Some(row) = self.get_mut(row) {
            row.failed += 1;
        }
    }

    /// A task is tried again.
    pub fn count_retried(&mut self, row: NameRow) {
        if let Some(row) = self.get_mut(row) {
            row.retried += 1;
        }
    }

    /// The figures of all rows, in the order in which the names arrived, the one for all others
    /// last.
    pub fn figures(&self) -> impl Iterator<Item = NameFigures> {
        self.rows.iter().chain(self.other.as_deref()).map(|row| NameFigures {
            name: Arc::clone(&row.name),
            completed: row.completed,
            failed: row.failed,
            retried: row.retried,
            execution: row.execution.timing(),
        })
    }

    #[inline]
    fn get_mut(&mut self, row: NameRow) -> Option<&mut Row> {
        match self.rows.get_mut(row.index()) {
            None if row == NameRow::OTHER => Some(Self::other(&mut self.other)),
            row => row,
        }
    }

    #[cold]
    fn other(other: &mut Option<Box<Row>>) -> &mut Row {
        other.get_or_insert_with(|| Box::new(Row { name: OTHER.into(), ..Row::default() }))
    }
}

/// Buckets between one power of two and the next, as a power of two.
const SUB_POWER: u32 = 4;
const SUB_BUCKETS: usize = 1 << SUB_POWER;
/// Durations below this many nanoseconds, about a microsecond, share the first bucket.
const FIRST_POWER: u32 = 10;
/// The last bucket begins an hour and 13 minutes up.
const LAST_POWER: u32 = 42;
const BUCKETS: usize = (LAST_POWER - FIRST_POWER) as usize * SUB_BUCKETS + 2;

/// A histogram of fixed size, for many names: a bucket is at most 1/16 wide, so that its middle is
/// at most 3.2 % off, from a microsecond to an hour. 2 KiB, once there is a duration.
///
/// Not [`Series`](super::series::Series), which needs ten times as much and grows.
#[derive(Debug, Clone, Default)]
struct LogHistogram {
    /// None before the first duration.
    buckets: Box<[u32]>,
    count: u64,
    total: u64,
    min: u64,
    max: u64,
}

impl LogHistogram {
    fn add(&mut self, duration: u64, times: u64) {
        if times == 0 {
            return;
        }
        let added = u32::try_from(times).unwrap_or(u32::MAX).min(u32::MAX / 2);
        let bucket = bucket_of(duration);
        if self.buckets.get(bucket).is_none_or(|count| count.checked_add(added).is_none()) {
            self.make_room(bucket, added);
        }
        self.buckets[bucket] += added;
        self.count += times;
        self.total = self.total.saturating_add(duration.saturating_mul(times));
        self.min = self.min.min(duration);
        self.max = self.max.max(duration);
    }

    /// Sees to it that a bucket is there, and can take so many more.
    #[cold]
    fn make_room(&mut self, bucket: usize, added: u32) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS].into();
            self.min = u64::MAX;
        }
        while self.buckets[bucket].checked_add(added).is_none() {
            // The shares stay as they are, and percentiles are shares.
            self.buckets.iter_mut().for_each(|count| *count /= 2);
        }
    }

    fn timing(&self) -> Timing {
        let sum: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let percentile = |quantile: f64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rank that is right to 15 digits, between 1 and the number of durations"
            )]
            let rank = (quantile * sum as f64).ceil().max(1.0) as u64;
            let mut seen = 0;
            let reaches = |count: &u32| {
                seen += u64::from(*count);
                seen >= rank
            };
            // The last bucket has no end.
            let bucket = self.buckets.iter().position(reaches).filter(|last| last + 1 < BUCKETS);
            bucket.map_or(self.max, middle_of)
        };
        Timing::of(self.count, self.total, (self.min, self.max), percentile)
    }
}

/// Buckets are sixteenths of an octave, so that no logarithm is taken on the way of a task.
fn bucket_of(duration: u64) -> usize {
    let power = duration.checked_ilog2().unwrap_or(0);
    if power < FIRST_POWER {
        return 0;
    }
    if power >= LAST_POWER {
        return BUCKETS - 1;
    }
    // The bits behind the highest one.
    let sub_bucket = (duration >> (power - SUB_POWER)).to_le_bytes()[0] % (1 << SUB_POWER);
    (power - FIRST_POWER) as usize * SUB_BUCKETS + usize::from(sub_bucket) + 1
}

fn middle_of(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else {
        return 1 << (FIRST_POWER - 1);
    };
    let (octave, sub_bucket) = (above / SUB_BUCKETS, above % SUB_BUCKETS);
    let width = 1 << (FIRST_POWER as usize - SUB_POWER as usize + octave);
    (SUB_BUCKETS + sub_bucket) as u64 * width + width / 2
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::seconds;
    use super::*;

    #[test]
    fn a_name_keeps_its_row() {
        let mut table = NameTable::default();
        let (first, second) = (table.row("first"), table.row("second"));
        assert_ne!(first, second);
        assert_eq!((table.row("first"), table.row("second")), (first, second));
        assert_eq!(NameRow::from_number(first.number()), first);
    }

    #[test]
    fn names_beyond_the_limit_share_a_row() {
        let mut table = NameTable::default();
        for name in 0..10_000_u64 {
            let row = table.row(&name.to_string());
            table.add(row, 1_000_000, 1, 1);
            assert_eq!(row == NameRow::OTHER, name >= u64::from(MAX_NAMES), "{name}");
        }
        let figures: Vec<_> = table.figures().collect();
        assert_eq!(figures.len(), usize::from(MAX_NAMES) + 1);
        assert_eq!((&*figures[0].name, figures[0].completed), ("0", 1));
        let other = figures.last().expect("one for the others");
        assert_eq!((&*other.name, other.completed), (OTHER, 10_000 - u64::from(MAX_NAMES)));
    }

    #[test]
    fn a_task_called_as_the_others_is_one_of_them() {
        let mut table = NameTable::default();
        let mut seen = Vec::new();
        for name in [OTHER, "first", OTHER, "second"] {
            let row = table.row(name);
            table.add(row, 5_000, 1, 1);
            seen = table.figures().map(|row| (row.name.to_string(), row.completed)).collect();
        }
        seen.sort();
        assert_eq!(seen, [("first".into(), 1), (OTHER.into(), 2), ("second".into(), 1)]);
    }

    #[test]
    fn outcomes_are_counted_by_name() {
        let mut table = NameTable::default();
        let row = table.row("task");
        table.add(row, 4_000, 3, 2);
        table.count_failed(row);
        table.count_retried(row);
        table.add(NameRow::NONE, 4_000, 3, 3);
        table.count_failed(NameRow::NONE);
        let [figures] = table.figures().collect::<Vec<_>>().try_into().expect("one name");
        assert_eq!((figures.completed, figures.failed, figures.retried), (2, 1, 1));
        assert_eq!(figures.execution.count, 3);
    }

    #[test]
    fn percentiles_are_within_four_in_a_hundred() {
        for shift in 10..41 {
            let mut histogram = LogHistogram::default();
            let durations: Vec<u64> = (101..=200).map(|n| (n << shift) / 100).collect();
            for duration in &durations {
                histogram.add(*duration, 1);
            }
            let timing = histogram.timing();
            for (rank, actual) in [(50, timing.p50), (95, timing.p95), (99, timing.p99)] {
                let exact = seconds(durations[rank - 1]);
                assert!((actual / exact - 1.0).abs() < 0.04, "{exact} {actual} {shift}");
            }
            assert_eq!((timing.min, timing.max), (seconds(durations[0]), seconds(durations[99])));
        }
    }

    #[test]
    fn buckets_are_in_order_and_hold_their_middle() {
        let mut before = 0;
        for bucket in 0..BUCKETS - 1 {
            let middle = middle_of(bucket);
            assert_eq!(bucket_of(middle), bucket);
            assert!(middle > before);
            before = middle;
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn what_is_out_of_range_counts_at_the_ends() {
        let mut histogram = LogHistogram::default();
        for duration in [1, 2, u64::MAX / 4] {
            histogram.add(duration, 1);
        }
        let timing = histogram.timing();
        assert_eq!((timing.count, timing.min), (3, 1e-9));
        assert!(timing.p99.total_cmp(&timing.max).is_eq());
    }

    #[test]
    fn a_full_bucket_keeps_its_share() {
        let mut histogram = LogHistogram::default();
        histogram.add(1_000_000, u64::from(u32::MAX));
        histogram.add(4_000_000_000, u64::from(u32::MAX));
        histogram.add(1_000_000, u64::MAX / 2);
        histogram.add(4_000_000_000, 3);
        let timing = histogram.timing();
        assert!((timing.p50 / 0.001 - 1.0).abs() < 0.04, "{timing:?}");
        assert!((timing.p99 / 4.0 - 1.0).abs() < 0.04, "{timing:?}");
    }

    #[test]
    fn nothing_recorded_reads_zero() {
        assert_eq!(LogHistogram::default().timing(), Timing::default());
    }
}
