//! The races of calls that run at once, in the task that is kept with a loan.

use super::{Bare, LoomTask, lending, start_with};
use crate::engine::Engine;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::RESERVED;
use crate::engine::worker::attempt::Ran;
use crate::engine::worker::serve_at_once::Served;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};
use std::time::Duration;

fn engine() -> Arc<Engine<Bare>> {
    let mut host = Bare::new(|| ());
    host.spare_task = Box::new(|| Some(LoomTask::new(RESERVED, false)));
    start_with(host, lending(1))
}

/// Runs a call, if a loan is idle, and counts it in `over`. `is_as_new`: no thread has got to know
/// of its task.
fn call(engine: &Arc<Engine<Bare>>, over: &AtomicU32, is_as_new: bool) -> bool {
    let late = engine.is_killed();
    let Some(loan) = engine.accept_at_once(0) else {
        return false;
    };
    assert!(!late, "accepted after the kill");
    engine.serve_at_once((), loan, 0, |session, _| {
        session.count_outcome(true);
        over.fetch_add(1, Ordering::Relaxed);
        Served { ran: Ran::Completed, is_as_new, result: true }
    })
}

/// A call that takes the idle loan as the runner is killed, and runs without being seen by the
/// thread that kills; or a loan that lies idle for ever.
#[test]
fn loom_a_kill_and_a_call_at_once_agree() {
    model(|| {
        let engine = engine();
        let over = Arc::new(AtomicU32::new(0));
        let caller = {
            let (engine, over) = (Arc::clone(&engine), Arc::clone(&over));
            spawn(move || call(&engine, &over, true))
        };
        engine.kill(());
        let mut seen = false;
        for worker in engine.workers() {
            worker.for_each_running(|_, _| seen = true);
        }
        seen |= over.load(Ordering::Relaxed) > 0;
        assert!(engine.wait_ended(Duration::MAX));
        let accepted = caller.join().unwrap();
        assert!(!accepted || seen, "it ran, and a kill that looks at what runs missed it");
        let metrics = engine.metrics();
        assert_eq!(metrics[EventKind::Arrived], u64::from(accepted));
        assert_eq!(metrics[EventKind::Completed], u64::from(accepted));
        assert_eq!(engine.loans.idle(), 0);
        assert!(engine.workers().is_empty());
    });
}

/// Two calls, one after the other, as the runner is stopped. The first leaves a task that another
/// thread knows of: it is still seen to run when its call is over, or the second has none.
#[test]
fn loom_a_stop_and_calls_at_once_agree() {
    let mut model = model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let engine = engine();
        let over = Arc::new(AtomicU32::new(0));
        let caller = {
            let (engine, over) = (Arc::clone(&engine), Arc::clone(&over));
            spawn(move || [false, true].map(|is_as_new| call(&engine, &over, is_as_new)))
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        let completed = engine.metrics()[EventKind::Completed];
        let accepted = caller.join().unwrap();
        assert_eq!(completed, accepted.map(u64::from).iter().sum::<u64>());
        assert!(engine.workers().is_empty());
    });
}
