//! What a worker counts with.

use super::counters::{WorkerCounter, WorkerCounters};
use super::ledger::Ledger;
use super::sample::Sample;
use crate::engine::clock::Tick;
use crate::sync::Arc;
use std::cell::Cell;
use std::marker::PhantomData;

/// See the module's documentation. Dropping it hands its counts over for good.
///
/// It can move between threads but not be shared (the marker sees to that), so its counters have
/// one writer at a time.
#[derive(Debug)]
pub struct Recorder {
    ledger: Arc<Ledger>,
    /// The counts are handed over by another, which has lent it.
    borrowed: bool,
    counters: Arc<WorkerCounters>,
    unshared: PhantomData<Cell<()>>,
}

impl Recorder {
    /// A recorder for one more worker, with its counters.
    pub fn new(ledger: &Arc<Ledger>, counters: Arc<WorkerCounters>, now: Tick) -> Self {
        counters.busy().begin(now);
        ledger.register(&counters);
        Self { ledger: Arc::clone(ledger), borrowed: false, counters, unshared: PhantomData }
    }

    /// The same counters in other hands. The lender counts nothing until the borrower is gone.
    pub(in crate::engine) fn lend(&self) -> Self {
        Self {
            ledger: Arc::clone(&self.ledger),
            borrowed: true,
            counters: Arc::clone(&self.counters),
            unshared: PhantomData,
        }
    }

    /// Counts one event.
    pub fn count(&self, counter: WorkerCounter) {
        self.counters.add(counter, 1);
    }

    /// Counts every attempt as over that has begun and is not. Our own code panicked, and it is not
    /// known how far it came.
    pub(in crate::engine) fn end_attempts(&self) {
        self.counters.add(WorkerCounter::Ended, self.counters.running());
    }

    /// Records durations.
    ///
    /// Takes the lock of the runner's figures once in 64 calls. All workers share it, and readers
    /// hold it while they copy the figures: 170 us where 200 names have a row, measured.
    pub fn record(&self, sample: &Sample) {
        if self.counters.is_full() {
            self.ledger.fold(&self.counters);
        }
        self.counters.write(sample);
        if let Sample::Attempts { execution, times, .. } = *sample {
            self.counters.add(WorkerCounter::ExecutionTime, execution.saturating_mul(times));
        }
    }

    /// The worker was busy from then to then, with attempts that run in no other.
    pub(in crate::engine) fn was_busy(&self, begin: Tick, end: Tick) {
        self.counters.busy().add(begin, end);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.borrowed {
            self.ledger.fold_in(&self.counters);
        }
    }
}
