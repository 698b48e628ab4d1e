//! The metrics of all workers of a runner, those at work and those that ended.

use super::by_name::NameRow;
use super::counters::{Totals, WorkerCounters};
use super::figures::{Figures, Replacement};
use crate::engine::clock::Tick;
use crate::sync::{Arc, Mutex};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Taken by readers and when a worker comes or goes, never by a task.
    registry: Mutex<CounterRegistry>,
    /// Taken by a worker that empties its ring, when something rare is counted, and by readers,
    /// which copy. A leaf, as the other is.
    figures: Mutex<Figures>,
}

#[derive(Debug, Default)]
struct CounterRegistry {
    /// The counters of the recorders there are.
    live: Vec<Arc<WorkerCounters>>,
    /// The sum of all other counters there were.
    totals: Totals,
}

impl Ledger {
    /// The counters of one more worker.
    pub(super) fn register(&self, counters: &Arc<WorkerCounters>) {
        self.registry.lock().live.push(Arc::clone(counters));
    }

    /// The counters. No difference that makes sense is negative, see
    /// [`WorkerCounter`](super::counters::WorkerCounter).
    pub fn totals(&self) -> Totals {
        let registry = self.registry.lock();
        let mut totals = registry.totals;
        for (counter, total) in totals.0.iter_mut().enumerate().rev() {
            *total += registry.live.iter().map(|counters| counters.read(counter)).sum::<u64>();
        }
        totals
    }

    /// A copy of the figures, with every sample that was recorded before.
    pub fn figures(&self) -> Figures {
        // A worker that ends after this has emptied its ring into the figures.
        let live = self.registry.lock().live.clone();
        let held = self.figures.lock();
        let mut figures = held.clone();
        for counters in live {
            counters.add_to(&mut figures);
        }
        figures
    }

    /// Empties a worker's ring.
    pub(super) fn fold(&self, counters: &WorkerCounters) {
        counters.fold_into(&mut self.figures.lock());
    }

    /// Folds the counters of a recorder that ends into the sum. Readers see each of them before or
    /// after, never twice and never missing.
    pub(super) fn fold_in(&self, counters: &Arc<WorkerCounters>) {
        // First: a reader that does not find the worker among the living finds its samples.
        self.fold(counters);
        let registry = &mut *self.registry.lock();
        registry.live.retain(|other| !Arc::ptr_eq(other, counters));
        for (counter, total) in registry.totals.0.iter_mut().enumerate() {
            *total += counters.read(counter);
        }
    }

    /// The row of a task's name in the figures; the host asks once for each name and keeps it.
    pub fn row_of(&self, name: &str) -> NameRow {
        self.figures.lock().names.row(name)
    }

    /// A task of this name ended with an error. The host says so where it publishes that, as a task
    /// may wait for another attempt when its runner ends.
    pub fn name_failed(&self, row: NameRow) {
        self.figures.lock().names.count_failed(row);
    }

    /// A task of this name was given a result by hand.
    pub fn name_completed(&self, row: NameRow) {
        self.figures.lock().names.count_completed(row);
    }

    /// A task of this name is tried again.
    pub(in crate::engine) fn name_retried(&self, row: NameRow) {
        self.figures.lock().names.count_retried(row);
    }

    /// A resource was made, and that took so long.
    pub(in crate::engine) fn resource_created(&self, duration: Tick) {
        self.figures.lock().created(duration);
    }

    /// A resource could not be made.
    pub(in crate::engine) fn creation_failed(&self) {
        self.figures.lock().creation_failed();
    }

    /// A resource was given up for another.
    pub(in crate::engine) fn resource_replaced(&self, reason: Replacement) {
        self.figures.lock().replaced(reason);
    }
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::disallowed_methods, reason = "tests start threads of their own")]
mod tests {
    use super::super::by_name::OTHER;
    use super::super::counters::{RING, WorkerCounter};
    use super::super::recorder::Recorder;
    use super::super::sample::Sample;
    use super::super::series::tests::{assert_close, assert_percentiles};
    use super::super::{SECOND, ratio};
    use super::*;
    use crate::engine::task::priority::Priority;
    use crate::sync::atomic::Ordering;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    fn register(ledger: &Arc<Ledger>) -> Recorder {
        Recorder::new(ledger, Arc::default(), SECOND)
    }

    fn attempt(wait: u64, execution: u64) -> Sample {
        let (row, priority) = (NameRow::NONE, Priority::Normal);
        Sample::Attempts { wait, execution, times: 1, completed: 1, row, priority }
    }

    #[test]
    fn totals_add_up_over_recorders_that_live_and_that_ended() {
        let ledger = Arc::new(Ledger::default());
        let recorders = [(); 3].map(|()| register(&ledger));
        for recorder in &recorders {
            recorder.count(WorkerCounter::Started);
            recorder.count(WorkerCounter::Started);
            recorder.count(WorkerCounter::Failed);
            recorder.count(WorkerCounter::Ended);
        }
        let before = ledger.totals();
        assert_eq!(before[WorkerCounter::Started], 6);
        assert_eq!(before[WorkerCounter::Failed], 3);
        assert_eq!(before[WorkerCounter::Completed], 0);
        assert_eq!(before.running(), 3);
        let [first, rest @ ..] = recorders;
        drop(first);
        assert_eq!(ledger.totals(), before);
        drop(rest);
        assert_eq!(ledger.totals(), before);
        assert!(ledger.registry.lock().live.is_empty());
    }

    #[test]
    fn a_retry_counts_as_running_again() {
        use WorkerCounter::{Ended, Resumed, Retried, Started};
        let ledger = Arc::new(Ledger::default());
        let recorder = register(&ledger);
        let running = [Started, Retried, Ended, Resumed, Ended].map(|counter| {
            recorder.count(counter);
            ledger.totals().running()
        });
        assert_eq!(running, [1, 1, 0, 1, 0]);
    }

    #[test]
    fn a_reader_sees_every_sample_at_once_and_each_once() {
        let ledger = Arc::new(Ledger::default());
        let recorder = register(&ledger);
        for n in 1..=1_000_u64 {
            recorder.record(&attempt(n, 2 * n));
            // At odd moments, so that the ring is emptied in the middle too.
            if n < 10 || n.is_multiple_of(37) || n == 1_000 {
                let figures = ledger.figures();
                assert_eq!(figures.wait().count, n);
                assert_close(figures.wait().max, ratio(n, SECOND));
                assert_close(figures.execution().max, ratio(2 * n, SECOND));
                assert_close(figures.wait().mean, ratio(n + 1, 2) / 1e9);
            }
        }
        assert_eq!(ledger.totals()[WorkerCounter::ExecutionTime], 1_001_000);
    }

    #[test]
    fn figures_are_of_recorders_that_live_and_that_ended() {
        let ledger = Arc::new(Ledger::default());
        let recorders = [1, 2, 3, 4].map(|n| {
            let recorder = register(&ledger);
            for step in 1..=25 {
                recorder.record(&attempt(n * 25 - step + 1, 7));
            }
            recorder.record(&Sample::Attach(n * 100));
            recorder
        });
        let timings = || {
            let figures = ledger.figures();
            (figures.wait(), figures.execution(), figures.attach())
        };
        let before = timings();
        let (wait, execution, attach) = before;
        assert_percentiles(&wait, [50, 95, 99]);
        assert_eq!((execution.count, execution.min, execution.p99), (100, 7e-9, 7e-9));
        assert_eq!(attach.count, 4);
        assert_close(attach.mean, 250e-9);
        for recorder in recorders {
            drop(recorder);
            assert_eq!(timings(), before);
        }
        assert!(ledger.registry.lock().live.is_empty());
    }

    #[test]
    fn samples_are_told_apart_by_name_priority_and_outcome() {
        let ledger = Arc::new(Ledger::default());
        let recorder = register(&ledger);
        let (first, second) = (ledger.row_of("first"), ledger.row_of("second"));
        for n in 0..300 {
            let (row, priority, completed) = match n % 3 {
                0 => (first, Priority::High, 5),
                1 => (second, Priority::Low, 4),
                _ => (NameRow::OTHER, Priority::Normal, 5),
            };
            let (wait, execution) = (n, 1_000_000);
            let sample = Sample::Attempts { wait, execution, times: 5, completed, row, priority };
            recorder.record(&sample);
        }
        let figures = ledger.figures();
        for (priority, max) in
            [(Priority::High, 297), (Priority::Low, 298), (Priority::Normal, 299)]
        {
            let waits = figures.wait_up_to(priority, &[100, u64::MAX]);
            assert_eq!((waits.timing.count, waits.counts[1]), (500, 500));
            assert_close(waits.timing.max, ratio(max, SECOND));
        }
        let by_name: Vec<_> =
            figures.by_name().map(|row| (row.name, row.completed, row.execution.count)).collect();
        let expected = [("first", 500, 500), ("second", 400, 500), (OTHER, 500, 500)];
        assert_eq!(
            by_name,
            expected.map(|(name, completed, count)| (name.into(), completed, count))
        );
    }

    #[test]
    fn a_worker_that_runs_few_tasks_takes_no_lock() {
        let ledger = Arc::new(Ledger::default());
        let recorder = register(&ledger);
        let held = ledger.figures.lock();
        (0..RING).for_each(|_| recorder.record(&attempt(1, 2)));
        drop(held);
        recorder.record(&attempt(1, 2));
        assert_eq!(ledger.figures().wait().count, RING as u64 + 1);
    }

    #[test]
    fn the_rare_is_counted_at_once() {
        let ledger = Ledger::default();
        ledger.resource_created(SECOND);
        ledger.creation_failed();
        ledger.resource_replaced(Replacement::Age);
        let row = ledger.row_of("task");
        ledger.name_failed(row);
        ledger.name_retried(row);
        ledger.name_completed(row);
        let figures = ledger.figures();
        assert_eq!((figures.creation().count, figures.creation().max), (1, 1.0));
        assert_eq!(figures.creations_failed(), 1);
        let replaced = Replacement::ALL.map(|(reason, _)| figures.replaced_for(reason));
        assert_eq!(replaced, [0, 0, 0, 1, 0, 0]);
        let [row] = figures.by_name().collect::<Vec<_>>().try_into().expect("one name");
        assert_eq!((row.failed, row.retried, row.completed), (1, 1, 1));
    }

    #[test]
    fn no_sample_is_lost_or_torn_while_others_read() {
        const SAMPLES: u64 = if cfg!(miri) { 500 } else { 100_000 };
        let ledger = Arc::new(Ledger::default());
        let recorders = [register(&ledger), register(&ledger)];
        let start = Barrier::new(3);
        let (start, ledger) = (&start, &*ledger);
        thread::scope(|scope| {
            let writers = recorders.map(|recorder| {
                scope.spawn(move || {
                    start.wait();
                    (1..=SAMPLES).for_each(|n| recorder.record(&attempt(n, n)));
                })
            });
            start.wait();
            while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                let figures = ledger.figures();
                assert_eq!(figures.wait(), figures.execution());
            }
        });
        let wait = ledger.figures().wait();
        assert_close(wait.mean, ratio(SAMPLES + 1, 2) / 1e9);
        assert_eq!(wait.count, 2 * SAMPLES);
    }

    #[test]
    fn totals_never_show_an_effect_without_its_cause() {
        use WorkerCounter::{Completed, Ended, Resumed, Retried, Started};
        const TASKS: u64 = if cfg!(miri) { 200 } else { 50_000 };
        let ledger = Arc::new(Ledger::default());
        let (first, second) = (register(&ledger), register(&ledger));
        let (put_back, again) = std::sync::mpsc::channel();
        let done = AtomicBool::new(false);
        let (done, ledger) = (&done, &*ledger);
        thread::scope(|scope| {
            scope.spawn(move || {
                for task in 0..TASKS {
                    for event in [Started, Retried, Ended] {
                        first.count(event);
                    }
                    put_back.send(task).expect("the second worker lives");
                }
            });
            scope.spawn(move || {
                for _ in again {
                    for event in [Resumed, Completed, Ended] {
                        second.count(event);
                    }
                }
                done.store(true, Ordering::Release);
            });
            let mut before = Totals::default();
            while !done.load(Ordering::Acquire) {
                let totals = ledger.totals();
                assert!(totals[Started] >= totals[Retried], "{totals:?}");
                assert!(totals[Retried] >= totals[Resumed], "{totals:?}");
                assert!(totals[Resumed] >= totals[Completed], "{totals:?}");
                assert!(totals[Started] + totals[Resumed] >= totals[Ended], "{totals:?}");
                assert!(totals.0.iter().zip(before.0).all(|(now, then)| *now >= then));
                before = totals;
            }
        });
        let totals = ledger.totals();
        assert_eq!([Started, Retried, Resumed, Completed].map(|c| totals[c]), [TASKS; 4]);
        assert_eq!(totals.running(), 0);
    }

    #[test]
    fn totals_only_grow_while_workers_come_and_go() {
        let ledger = Arc::new(Ledger::default());
        let rounds = if cfg!(miri) { 20 } else { 5_000 };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..rounds {
                    register(&ledger).count(WorkerCounter::Started);
                }
                done.store(true, Ordering::Release);
            });
            let mut before = 0;
            while !done.load(Ordering::Acquire) {
                let now = ledger.totals()[WorkerCounter::Started];
                assert!(now >= before, "{now} after {before}");
                before = now;
            }
        });
        assert_eq!(ledger.totals()[WorkerCounter::Started], rounds);
    }
}
