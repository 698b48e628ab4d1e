//! The metrics of a runner, counted by each worker for itself and added up by the thread that reads
//! them.
//!
//! A worker owns a [`Recorder`](recorder::Recorder): counters and a small ring of samples that only
//! it writes, so that a task costs a few plain stores. A full ring is emptied into the
//! [`Figures`](figures::Figures) of the runner: histograms of bounded size, and a table by task
//! name. A reader takes a copy of these and adds what is in the rings. That takes the same time
//! after ten tasks and after ten million, and sees every task that was recorded. The
//! [`Ledger`](ledger::Ledger) knows the recorders at work, and keeps what those that ended had to
//! tell. A [`Window`](window::Window) turns totals into rates, and [`Looks`](looks::Looks) says when the
//! keeper is to look at it all.

pub mod busy;
pub mod by_name;
pub mod counters;
pub mod events;
pub mod figures;
pub mod ledger;
pub mod looks;
pub mod recorder;
pub mod report;
pub mod sample;
pub mod series;
pub mod window;

use super::clock::Tick;

pub(in crate::engine) const SECOND: u64 = 1_000_000_000;

/// Totals at one look of the scaler.
#[derive(Debug, Default)]
pub(super) struct LoadTotals {
    pub(super) at: Tick,
    pub(super) arrived: u64,
    pub(super) ended: u64,
    pub(super) run_time: Tick,
}

/// The shares of completed and of failed tasks among both; zero for both before the first.
pub fn ratios(completed: u64, failed: u64) -> (f64, f64) {
    let finished = completed + failed;
    (ratio(completed, finished), ratio(failed, finished))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people: 15 digits are enough")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Seconds, from nanoseconds.
fn seconds(nanoseconds: u64) -> f64 {
    ratio(nanoseconds, SECOND)
}

#[cfg(test)]
mod tests {
    use super::ratios;

    #[test]
    fn ratios_are_right_from_the_first_finished_task() {
        assert_eq!(ratios(0, 0), (0.0, 0.0));
        assert_eq!(ratios(0, 1), (0.0, 1.0));
        assert_eq!(ratios(0, 4), (0.0, 1.0));
        assert_eq!(ratios(3, 1), (0.75, 0.25));
    }
}
