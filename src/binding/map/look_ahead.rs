//! How far an input is read ahead of the results: the one rule for `map`, `amap` and the double's
//! `map`. The executors' `map` has the standard's: no number, and no growth.
//!
//! A number is a hard limit. Without one the look-ahead begins with what keeps the workers busy,
//! and doubles when the consumer has to wait although all that is ahead takes but a moment.

use crate::engine::clock::{Tick, ticks};
use pyo3::prelude::*;
use std::time::Instant;

/// As much work as is read ahead where there is no limit, and as a batch is meant to be.
const LOOK_AHEAD_WORK: Tick = 1_000_000;
/// The input is read on when there is room for so much work: the workers are to find enough, and
/// not each item alone.
const READ_ON_WORK: Tick = 500_000;
/// So many items for each worker are read ahead at first.
const ITEMS_PER_WORKER: u64 = 2;

/// See the module's documentation.
pub(super) struct LookAhead {
    size: u64,
    is_fixed: bool,
    /// So many items are queued one by one while nothing is known of them.
    alone: u64,
    /// So many items are run by one call.
    group: u64,
}

impl LookAhead {
    pub(super) fn new(limit: Option<u64>, workers: u64, group: u64) -> Self {
        let alone = ITEMS_PER_WORKER * workers * group;
        Self { size: limit.unwrap_or(alone), is_fixed: limit.is_some(), alone, group }
    }

    /// Goes by a number of workers that may have changed.
    pub(super) fn follow(&mut self, workers: u64) {
        let alone = ITEMS_PER_WORKER * workers * self.group;
        if alone != self.alone && !self.is_fixed {
            self.size = self.size / self.alone * alone;
        }
        self.alone = alone;
    }

    /// How many items may be read when so many are ahead.
    pub(super) fn room(&self, ahead: u64) -> u64 {
        self.size.saturating_sub(ahead)
    }

    /// Doubles, when the consumer has to wait although all that may be ahead takes no longer than
    /// this.
    pub(super) fn grow(&mut self, work: Tick) -> bool {
        let grows = !self.is_fixed && work < LOOK_AHEAD_WORK;
        if grows {
            self.size *= 2;
        }
        grows
    }

    /// [`grow`](Self::grow) by the time that one item takes, where that is known.
    pub(super) fn grow_by_cost(&mut self, cost: Option<Tick>) -> bool {
        cost.is_some_and(|cost| self.grow(cost.saturating_mul(self.size)))
    }

    /// For how much room the input is read on while there are results to hand out.
    pub(super) fn worthwhile(&self, cost: Option<Tick>) -> u64 {
        let items = cost.map_or(1, |cost| READ_ON_WORK / cost);
        items.max(self.group).min(self.size / 2).max(1)
    }

    /// How many items make a batch, when so many are queued already.
    pub(super) fn batch_size(&self, cost: Option<Tick>, in_flight: u64) -> u64 {
        // While nothing is known of the items: alone at first, then more and more together.
        cost.map_or(in_flight / self.alone, |cost| LOOK_AHEAD_WORK / cost).max(self.group)
    }
}

/// The look-ahead of an iteration in Python, which does not know how long items take: it goes by
/// how long it takes to hand out as many results as may be ahead.
#[pyclass(name = "_LookAhead", module = "tasker._tasker")]
pub(in crate::binding) struct TimedLookAhead {
    rule: LookAhead,
    since: Instant,
    taken: u64,
    waited: bool,
}

#[pymethods]
impl TimedLookAhead {
    #[new]
    fn new(limit: Option<u64>, workers: u64) -> Self {
        let rule = LookAhead::new(limit, workers, 1);
        Self { rule, since: Instant::now(), taken: 0, waited: false }
    }

    fn follow(&mut self, workers: u64) {
        self.rule.follow(workers);
    }

    fn room(&self, ahead: u64) -> u64 {
        self.rule.room(ahead)
    }

    fn note_wait(&mut self) {
        self.waited = true;
    }

    fn note_taken(&mut self) {
        self.taken += 1;
        if self.rule.room(self.taken) == 0 {
            if self.waited {
                self.rule.grow(ticks(self.since.elapsed()));
            }
            (self.since, self.taken, self.waited) = (Instant::now(), 0, false);
        }
    }
}
