//! The race of a reader with an attempt that ends.

use crate::engine::clock::Tick;
use crate::engine::metrics::ledger::Ledger;
use crate::engine::metrics::recorder::Recorder;
use crate::engine::roster::shared::{Running, WorkerKind, WorkerShared};
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};

/// A reader that finds the worker neither at the attempt nor with the time that it took, or with
/// both: an hour of work would be missing for a moment, or counted twice.
#[test]
fn loom_an_attempt_that_ends_counts_as_busy_once() {
    const UP: Tick = 1_000;
    const BEGIN: Tick = UP + 100;
    const END: Tick = BEGIN + 10;
    model(|| {
        let worker = Arc::new(WorkerShared::new(0, String::new(), WorkerKind::Base, false));
        let ledger = Arc::new(Ledger::default());
        let recorder = Recorder::new(&ledger, Arc::clone(worker.counters()), UP);
        worker.push_running(Running { task: (), since: BEGIN });
        let reader = {
            let worker = Arc::clone(&worker);
            spawn(move || worker.busy(END))
        };
        worker.pop_running(|| recorder.was_busy(BEGIN, END));
        assert_eq!(reader.join().unwrap(), (10, 110));
    });
}
